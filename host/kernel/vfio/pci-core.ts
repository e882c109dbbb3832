/** A PCI function in a user program's hands (drivers/vfio/pci/vfio_pci_core.c). */

import { BAR_COUNT, CONFIG_SPACE_BYTES } from '../../../devices/spec/pci.ts';
import { Mutex, WaitQueue } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import {
  VFIO_DEVICE_FEATURE_GET,
  VFIO_DEVICE_FEATURE_MASK,
  VFIO_DEVICE_FEATURE_PROBE,
  VFIO_DEVICE_FEATURE_SET,
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
  VFIO_REGION_INFO_FLAG_CAPS,
  vfio_device_feature,
  vfio_device_info,
  vfio_irq_info,
  vfio_region_info,
} from '../../uapi/vfio.ts';
import { Errno } from '../errno.ts';
import type { Caller, MmapRequest, MmapResult } from '../file.ts';
import type { Kernel } from '../kernel.ts';
import type { PciDev } from '../pci.ts';
import { readArgument, writeArgument } from './argument.ts';
import { VirtualConfig } from './pci-config.ts';
import { irqInfo, VfioInterrupts } from './pci-intrs.ts';
import {
  decodePosition,
  mapBar,
  readBar,
  regionOf,
  regionOffset,
  writeBar,
} from './pci-regions.ts';

/** How often a user is asked for a device that goes. */
const REQUEST_NS = 10_000_000_000;
/** One configuration access of the CPU. */
const CONFIG_NS = 100;

/** What exists only while the device is open. */
interface Session {
  readonly config: VirtualConfig;
  readonly irqs: VfioInterrupts;
  /** Memory decoding before it was opened. */
  readonly hadMemory: boolean;
}

export class VfioPciDevice {
  readonly kernel: Kernel;
  readonly pdev: PciDev;
  /** Held around binding, attaching and the end of both (the device set's lock). */
  readonly mutex = new Mutex();
  #session: Session | null = null;
  /** Files open at its node, bound or not. */
  #files = 0;
  #leaving = false;
  /** Woken when a file or the session ends. */
  readonly #given = new WaitQueue();

  constructor(kernel: Kernel, pdev: PciDev) {
    this.kernel = kernel;
    this.pdev = pdev;
  }

  get open(): boolean {
    return this.#session !== null;
  }

  /** Its node is opened. @throws Errno ENODEV: it is being taken from the driver */
  opened(): void {
    if (this.#leaving) throw new Errno('ENODEV', `${this.pdev.name} is being removed`);
    this.#files++;
  }

  /** Such a file has gone. */
  closed(): void {
    this.#files--;
    this.#given.wake();
  }

  /**
   * The driver gives the device up, because it is unplugged or unbound: nobody opens it any more,
   * and whoever has it is asked for it through the request interrupt, again and again, until the
   * file is closed. With the file go the attachments, PASIDs included (vfio_unregister_group_dev).
   */
  *unregister(): Task {
    this.#leaving = true;
    while (this.#files > 0 || this.#session !== null) {
      this.#session?.irqs.request();
      this.kernel.machine.clock.after(REQUEST_NS, () => {
        this.#given.wake();
      });
      yield this.#given;
    }
  }

  /** Bus master off, memory decoding on, a clean reset (vfio_pci_core_enable). */
  *enable(): Task {
    const { kernel, pdev } = this;
    kernel.failpoints.point('vfio:enable');
    const hadMemory = pdev.memoryEnabled;
    pdev.disableBusMaster();
    pdev.enableMemory();
    if (pdev.hasFlr) yield* pdev.reset();
    const config = new VirtualConfig(pdev);
    this.#session = { config, irqs: new VfioInterrupts(kernel, pdev), hadMemory };
  }

  /** Interrupts off, bus master off, reset: nothing of the user remains in it. */
  *disable(): Task {
    const session = this.#session;
    if (session === null) return;
    this.#session = null;
    const { pdev } = this;
    pdev.disableBusMaster();
    yield* session.irqs.disableAll();
    if (pdev.hasFlr) yield* pdev.reset();
    if (!session.hadMemory) pdev.disableMemory();
    this.#given.wake();
  }

  /** VFIO_DEVICE_GET_INFO. */
  getInfo(caller: Caller, argument: number): void {
    const { argsz } = readArgument(caller, argument, vfio_device_info);
    const reset = this.pdev.hasFlr ? VFIO_DEVICE_FLAGS_RESET : 0;
    const values = {
      argsz,
      flags: VFIO_DEVICE_FLAGS_PCI | reset,
      num_regions: VFIO_PCI_NUM_REGIONS,
      num_irqs: VFIO_PCI_NUM_IRQS,
      cap_offset: 0,
      pad: 0,
    };
    writeArgument(caller, argument, vfio_device_info, values, argsz);
  }

  /** VFIO_DEVICE_GET_REGION_INFO. @throws Errno EINVAL */
  getRegionInfo(caller: Caller, argument: number): void {
    const { values, argsz } = readArgument(caller, argument, vfio_region_info);
    const { index } = values;
    const { flags, size, caps } = regionOf(this.pdev, index);
    const hasCaps = caps.length > 0;
    const whole = vfio_region_info.size + caps.length;
    const room = hasCaps && argsz >= whole;
    if (room) caller.mm.copyTo(BigInt(argument + vfio_region_info.size), caps);
    writeArgument(caller, argument, vfio_region_info, {
      argsz: hasCaps && !room ? whole : argsz,
      flags: flags | (hasCaps ? VFIO_REGION_INFO_FLAG_CAPS : 0),
      index,
      cap_offset: room ? vfio_region_info.size : 0,
      size: BigInt(size),
      offset: regionOffset(index),
    });
  }

  /** VFIO_DEVICE_GET_IRQ_INFO. @throws Errno EINVAL */
  getIrqInfo(caller: Caller, argument: number): void {
    const { values, argsz } = readArgument(caller, argument, vfio_irq_info);
    const { index } = values;
    const info = irqInfo(this.pdev, index);
    writeArgument(caller, argument, vfio_irq_info, { argsz, index, ...info });
  }

  /** VFIO_DEVICE_SET_IRQS. */
  *setIrqs(caller: Caller, argument: number): Task {
    yield* this.#opened().irqs.set(caller, argument);
  }

  /** VFIO_DEVICE_RESET: configuration and vectors survive. @throws Errno EINVAL: it cannot */
  *reset(): Task {
    if (!this.pdev.hasFlr) throw new Errno('EINVAL', `${this.pdev.name} has no reset`);
    yield* this.pdev.reset();
  }

  /** VFIO_DEVICE_FEATURE: this driver has none. @throws Errno EINVAL, ENOTTY */
  feature(caller: Caller, argument: number): void {
    const { flags } = readArgument(caller, argument, vfio_device_feature).values;
    const operations = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
    const asked = flags & operations;
    const probe = (flags & VFIO_DEVICE_FEATURE_PROBE) !== 0;
    const known = VFIO_DEVICE_FEATURE_MASK | operations | VFIO_DEVICE_FEATURE_PROBE;
    if ((flags & ~known) !== 0 || asked === 0 || (asked === operations && !probe)) {
      throw new Errno('EINVAL', `feature flags 0x${flags.toString(16)}`);
    }
    throw new Errno('ENOTTY', `feature ${flags & VFIO_DEVICE_FEATURE_MASK}`);
  }

  /** pread. @throws Errno EINVAL, EFAULT, EIO */
  *read(caller: Caller, buffer: number, count: number, position: number): Task<number> {
    if (count === 0) return 0;
    const { index, offset } = decodePosition(position);
    let bytes: Uint8Array;
    if (index === VFIO_PCI_CONFIG_REGION_INDEX) {
      checkConfig(offset, count);
      yield CONFIG_NS;
      bytes = this.#opened().config.read(offset, count);
    } else {
      checkBar(index);
      bytes = yield* readBar(this.pdev, this.kernel.machine.root, index, offset, count);
    }
    caller.mm.copyTo(BigInt(buffer), bytes);
    return bytes.length;
  }

  /** pwrite. @throws Errno EINVAL, EFAULT, EIO */
  *write(caller: Caller, buffer: number, count: number, position: number): Task<number> {
    if (count === 0) return 0;
    const { index, offset } = decodePosition(position);
    if (index === VFIO_PCI_CONFIG_REGION_INDEX) {
      checkConfig(offset, count);
      yield CONFIG_NS;
      const bytes = caller.mm.copyFrom(BigInt(buffer), count);
      const effect = this.#opened().config.write(offset, bytes);
      if (effect === 'reset' && this.pdev.hasFlr) yield* this.#lockedReset();
      return count;
    }
    checkBar(index);
    const room = Math.min(count, regionOf(this.pdev, index).size);
    const bytes = caller.mm.copyFrom(BigInt(buffer), room);
    return yield* writeBar(this.pdev, this.kernel.machine.root, index, offset, bytes);
  }

  mmap(request: MmapRequest): MmapResult {
    return mapBar(this.pdev, request);
  }

  /** A reset saves and restores the configuration: two at once would restore a reset one. */
  *#lockedReset(): Task {
    yield* this.mutex.lock();
    try {
      yield* this.pdev.reset();
    } finally {
      this.mutex.unlock();
    }
  }

  #opened(): Session {
    if (this.#session === null) throw new Errno('EINVAL', `${this.pdev.name} is not open`);
    return this.#session;
  }
}

function checkConfig(offset: number, count: number): void {
  if (offset + count <= CONFIG_SPACE_BYTES) return;
  const what = `offset 0x${offset.toString(16)} + ${count}`;
  throw new Errno('EFAULT', `${what} is beyond configuration space`);
}

/** ROM and VGA are not there; higher indices do not exist. */
function checkBar(index: number): void {
  if (index >= BAR_COUNT) throw new Errno('EINVAL', `region ${index} cannot be read or written`);
}
