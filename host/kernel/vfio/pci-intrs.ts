/** Interrupts of a VFIO PCI device and where they go (drivers/vfio/pci/vfio_pci_intrs.c). */

import { PciCap } from '../../../devices/spec/pci.ts';
import { host } from '../../../trace/catalogue/host.ts';
import type { Interrupt } from '../../machine/interrupts.ts';
import type { Task } from '../../syscall.ts';
import type { StructValues } from '../../uapi/struct.ts';
import {
  VFIO_IRQ_INFO_AUTOMASKED,
  VFIO_IRQ_INFO_EVENTFD,
  VFIO_IRQ_INFO_MASKABLE,
  VFIO_IRQ_INFO_NORESIZE,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_TYPE_MASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_IRQ_SET_DATA_TYPE_MASK,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_REQ_IRQ_INDEX,
  vfio_irq_set,
} from '../../uapi/vfio.ts';
import { Errno } from '../errno.ts';
import { EventFd } from '../eventfd.ts';
import type { Caller, OpenFile } from '../file.ts';
import type { Kernel } from '../kernel.ts';
import type { Msix } from '../msix.ts';
import type { PciDev } from '../pci.ts';

type IrqSet = StructValues<typeof vfio_irq_set>;

/** Bytes per element, by data type. */
const ELEMENT_BYTES: Readonly<Record<number, number>> = {
  [VFIO_IRQ_SET_DATA_NONE]: 0,
  [VFIO_IRQ_SET_DATA_BOOL]: 1,
  [VFIO_IRQ_SET_DATA_EVENTFD]: 4,
};
const KNOWN_FLAGS = VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK;
const MSIX_NAME = 'vfio-msix';

interface Vector {
  /** The eventfd's file, kept open by it. */
  readonly trigger: OpenFile;
  readonly interrupt: Interrupt;
}

/** GET_IRQ_INFO. @throws Errno EINVAL: no such index, or no error interrupt */
export function irqInfo(pdev: PciDev, index: number): { flags: number; count: number } {
  if (index >= VFIO_PCI_NUM_IRQS) throw new Errno('EINVAL', `there is no interrupt index ${index}`);
  if (index === VFIO_PCI_ERR_IRQ_INDEX && pdev.findCap(PciCap.PCIE) === 0) {
    throw new Errno('EINVAL', 'only PCI Express functions report errors');
  }
  if (index === VFIO_PCI_INTX_IRQ_INDEX) {
    const flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
    return { flags, count: 0 };
  }
  // MSI-X vectors can be added while it is enabled, so the index may be resized.
  const noResize = index === VFIO_PCI_MSIX_IRQ_INDEX ? 0 : VFIO_IRQ_INFO_NORESIZE;
  return { flags: VFIO_IRQ_INFO_EVENTFD | noResize, count: countOf(pdev, index) };
}

/** All interrupts of one device, while it is open. */
export class VfioInterrupts {
  readonly #kernel: Kernel;
  readonly #pdev: PciDev;
  readonly #vectors = new Map<number, Vector>();
  /** The error and request interrupts: an eventfd each. */
  readonly #single = new Map<number, OpenFile>();
  #msixOn = false;

  constructor(kernel: Kernel, pdev: PciDev) {
    this.#kernel = kernel;
    this.#pdev = pdev;
  }

  /**
   * VFIO_DEVICE_SET_IRQS.
   *
   * @throws Errno EINVAL: argsz, index, flags, range; ENOTTY: not exactly one action, or one the
   *   index has not; EBADF: an eventfd that is not open; EINVAL: a file that is no eventfd; EFAULT
   */
  *set(caller: Caller, address: number): Task {
    const { size } = vfio_irq_set;
    const header = caller.mm.copyFrom(BigInt(address), size);
    const set = vfio_irq_set.read(new DataView(header.buffer));
    const dataBytes = checkSet(this.#pdev, set);
    const data = caller.mm.copyFrom(BigInt(address + size), dataBytes);
    const action = set.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
    if (action !== VFIO_IRQ_SET_ACTION_TRIGGER) {
      throw new Errno('ENOTTY', `action 0x${action.toString(16)} on index ${set.index}`);
    }
    if (set.index === VFIO_PCI_MSIX_IRQ_INDEX) yield* this.#setMsix(caller, set, data);
    else yield* this.#setSingle(caller, set, data);
  }

  /** Asks the user for the device back, if it wants to be asked (vfio_pci_core_request). */
  request(): void {
    const file = this.#single.get(VFIO_PCI_REQ_IRQ_INDEX);
    if (file !== undefined) signalFile(file);
  }

  /** Back to what it was at open: nothing enabled, no eventfd held. */
  *disableAll(): Task {
    yield* this.#disableMsix();
    for (const [index, file] of [...this.#single]) {
      this.#single.delete(index);
      yield* file.put();
    }
  }

  *#setMsix(caller: Caller, set: IrqSet, data: Uint8Array): Task {
    const { start, count } = set;
    if ((set.flags & VFIO_IRQ_SET_DATA_NONE) !== 0 && count === 0) {
      yield* this.#disableMsix();
      return;
    }
    if ((set.flags & VFIO_IRQ_SET_DATA_EVENTFD) !== 0) {
      yield* this.#assign(caller, start, descriptors(data, count));
      return;
    }
    if (!this.#msixOn) throw new Errno('EINVAL', 'MSI-X is not enabled');
    for (let i = 0; i < count; i++) {
      if ((set.flags & VFIO_IRQ_SET_DATA_BOOL) !== 0 && data[i] === 0) continue;
      this.#signal(start + i);
    }
  }

  /** Gives vectors their eventfds; a failure takes back what this call gave. */
  *#assign(caller: Caller, start: number, fds: readonly number[]): Task {
    const msix = this.#pdev.msix!;
    const enabled = this.#msixOn;
    if (!enabled) {
      this.#kernel.failpoints.point('vfio:msix_enable');
      msix.enable();
      this.#msixOn = true;
    }
    for (const [i, fd] of fds.entries()) {
      try {
        yield* this.#release(start + i);
        if (fd >= 0) this.#connect(start + i, eventFdFile(caller, fd));
      } catch (error) {
        for (let j = 0; j < i; j++) yield* this.#release(start + j);
        if (!enabled) yield* this.#disableMsix();
        throw error;
      }
    }
  }

  #connect(index: number, file: OpenFile): void {
    const { interrupts } = this.#kernel.machine;
    this.#kernel.failpoints.point('vfio:request_irq');
    using undo = new DisposableStack();
    const name = `${MSIX_NAME}[${index}](${this.#pdev.name})`;
    const interrupt = interrupts.allocate(name, () => this.#signal(index));
    undo.defer(() => interrupts.free(interrupt.vector));
    this.#withTable((msix) => msix.set(index, interrupt.address, interrupt.data));
    this.#vectors.set(index, { trigger: file.get(), interrupt });
    undo.move();
  }

  *#release(index: number): Task {
    const vector = this.#vectors.get(index);
    if (vector === undefined) return;
    this.#vectors.delete(index);
    this.#withTable((msix) => msix.clear(index));
    this.#kernel.machine.interrupts.free(vector.interrupt.vector);
    yield* vector.trigger.put();
  }

  /** The vector table is reached whatever the user made of COMMAND (vfio_pci_memory_lock_and_enable). */
  #withTable(work: (msix: Msix) => void): void {
    const pdev = this.#pdev;
    const { memoryEnabled } = pdev;
    if (!memoryEnabled) pdev.enableMemory();
    try {
      work(pdev.msix!);
    } finally {
      if (!memoryEnabled) pdev.disableMemory();
    }
  }

  *#disableMsix(): Task {
    if (!this.#msixOn) return;
    for (const index of [...this.#vectors.keys()]) yield* this.#release(index);
    this.#pdev.msix!.disable();
    this.#msixOn = false;
  }

  /** vfio_msihandler, and the loopback of SET_IRQS. */
  #signal(index: number): void {
    const vector = this.#vectors.get(index);
    if (vector === undefined) return;
    const device = this.#pdev.name;
    using _span = this.#kernel.trace.span(host.eventfd, {
      device,
      index: VFIO_PCI_MSIX_IRQ_INDEX,
      vector: index,
    });
    signalFile(vector.trigger);
  }

  /** vfio_pci_set_ctx_trigger_single: the error and request interrupts. */
  *#setSingle(caller: Caller, set: IrqSet, data: Uint8Array): Task {
    const { index, count, flags } = set;
    const file = this.#single.get(index);
    if ((flags & VFIO_IRQ_SET_DATA_NONE) !== 0) {
      if (file === undefined) throw new Errno('EINVAL', `index ${index} has no eventfd`);
      if (count > 0) signalFile(file);
      else yield* this.#setSingleFile(index, null);
      return;
    }
    if (count === 0) throw new Errno('EINVAL', `index ${index} with count 0`);
    if ((flags & VFIO_IRQ_SET_DATA_BOOL) !== 0) {
      if (data[0] !== 0 && file !== undefined) signalFile(file);
      return;
    }
    const fd = descriptors(data, 1)[0]!;
    yield* this.#setSingleFile(index, fd < 0 ? null : eventFdFile(caller, fd));
  }

  *#setSingleFile(index: number, file: OpenFile | null): Task {
    const old = this.#single.get(index);
    if (file === null) this.#single.delete(index);
    else this.#single.set(index, file.get());
    if (old !== undefined) yield* old.put();
  }
}

function countOf(pdev: PciDev, index: number): number {
  if (index === VFIO_PCI_MSIX_IRQ_INDEX) return pdev.msix?.tableSize ?? 0;
  return index === VFIO_PCI_ERR_IRQ_INDEX || index === VFIO_PCI_REQ_IRQ_INDEX ? 1 : 0;
}

/** vfio_set_irqs_validate_and_prepare. @returns bytes of data that follow @throws Errno EINVAL */
function checkSet(pdev: PciDev, set: IrqSet): number {
  const { argsz, flags, index, start, count } = set;
  if (argsz < vfio_irq_set.size) {
    throw new Errno('EINVAL', `argsz ${argsz} is below ${vfio_irq_set.size}`);
  }
  if (index >= VFIO_PCI_NUM_IRQS) throw new Errno('EINVAL', `there is no interrupt index ${index}`);
  if ((flags & ~KNOWN_FLAGS) !== 0) throw new Errno('EINVAL', `flags 0x${flags.toString(16)}`);
  const has = irqInfo(pdev, index).count;
  if (start >= has || start + count > has) {
    throw new Errno('EINVAL', `vectors ${start} + ${count} of the ${has} of index ${index}`);
  }
  const element = ELEMENT_BYTES[flags & VFIO_IRQ_SET_DATA_TYPE_MASK];
  if (element === undefined) {
    throw new Errno('EINVAL', `flags 0x${flags.toString(16)}: not exactly one data type`);
  }
  const bytes = element * count;
  if (argsz - vfio_irq_set.size < bytes) {
    throw new Errno('EINVAL', `argsz ${argsz} leaves no room for ${count} elements`);
  }
  return bytes;
}

function descriptors(data: Uint8Array, count: number): number[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return Array.from({ length: count }, (_, i) => view.getInt32(4 * i, true));
}

function eventFdFile(caller: Caller, fd: number): OpenFile {
  const file = caller.files.get(fd);
  if (!(file.ops instanceof EventFd)) {
    throw new Errno('EINVAL', `file descriptor ${fd} is ${file.ops.name}, not an eventfd`);
  }
  return file;
}

function signalFile(file: OpenFile): void {
  if (file.ops instanceof EventFd) file.ops.signal();
}
