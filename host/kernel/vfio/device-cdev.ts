/** `/dev/vfio/devices/vfioN`: one open of a device (drivers/vfio/device_cdev.c, vfio_main.c). */
import type { Task } from '../../syscall.ts';
import {
  VFIO_DEVICE_ATTACH_PASID,
  VFIO_DEVICE_BIND_FLAG_TOKEN,
  VFIO_DEVICE_CMD,
  VFIO_DEVICE_DETACH_PASID,
  VFIO_DEVICE_IOCTLS,
  vfio_device_attach_iommufd_pt,
  vfio_device_bind_iommufd,
  vfio_device_detach_iommufd_pt,
} from '../../uapi/vfio.ts';
import { Errno } from '../errno.ts';
import type { Caller, FileOps, MmapRequest, MmapResult, OpenFile } from '../file.ts';
import { describeArgument } from '../iommufd/describe.ts';
import { ctxFromFd } from '../iommufd/main.ts';
import { Undo } from '../undo.ts';
import { checkZeroed } from '../zeroed.ts';
import { readArgument, writeArgument } from './argument.ts';
import { VfioIommufd } from './iommufd.ts';
import type { VfioPciDevice } from './pci-core.ts';

const ARGSZ_BYTES = 4;
/** Commands that a device has only at its own node. */
const OF_CDEV: ReadonlySet<number> = new Set([
  VFIO_DEVICE_CMD.VFIO_DEVICE_ATTACH_IOMMUFD_PT,
  VFIO_DEVICE_CMD.VFIO_DEVICE_DETACH_IOMMUFD_PT,
]);

/** A device that was opened through its group: bound and attached already. */
export interface GroupAccess {
  readonly iommufd: VfioIommufd;
  /** The file has gone. */
  close(): Task;
}

/** What bars a device's own node while its group is open, and the other way round. */
export interface GroupGate {
  /** @throws Errno EBUSY */
  block(): void;
  unblock(): void;
}

export class VfioDeviceFile implements FileOps {
  readonly name: string;
  readonly #device: VfioPciDevice;
  readonly #gate: GroupGate | null;
  readonly #access: GroupAccess | null;
  /** Null until BIND succeeds: nothing else works before. */
  #iommufd: VfioIommufd | null = null;

  /** @param name of the node, e.g. `vfio0` */
  constructor(
    name: string,
    device: VfioPciDevice,
    gate: GroupGate | null = null,
    access: GroupAccess | null = null,
  ) {
    this.name = name;
    this.#device = device;
    this.#gate = gate;
    this.#access = access;
    if (access !== null) this.#iommufd = access.iommufd;
  }

  /** @throws Errno EINVAL: not bound yet; ENOTTY: no such command; what the command says */
  *ioctl(caller: Caller, _file: OpenFile, request: number, argument: number): Task<number> {
    if (request === VFIO_DEVICE_CMD.VFIO_DEVICE_BIND_IOMMUFD) {
      yield* this.#bind(caller, argument);
      return 0;
    }
    const iommufd = this.#bound();
    const device = this.#device;
    if (this.#access !== null && OF_CDEV.has(request)) {
      throw new Errno('ENOTTY', 'what is attached to a group is its container');
    }
    switch (request) {
      case VFIO_DEVICE_CMD.VFIO_DEVICE_ATTACH_IOMMUFD_PT:
        yield* this.#attach(iommufd, caller, argument);
        break;
      case VFIO_DEVICE_CMD.VFIO_DEVICE_DETACH_IOMMUFD_PT:
        yield* this.#detach(iommufd, caller, argument);
        break;
      case VFIO_DEVICE_CMD.VFIO_DEVICE_GET_INFO:
        device.getInfo(caller, argument);
        break;
      case VFIO_DEVICE_CMD.VFIO_DEVICE_GET_REGION_INFO:
        device.getRegionInfo(caller, argument);
        break;
      case VFIO_DEVICE_CMD.VFIO_DEVICE_GET_IRQ_INFO:
        device.getIrqInfo(caller, argument);
        break;
      case VFIO_DEVICE_CMD.VFIO_DEVICE_SET_IRQS:
        yield* locked(device, () => device.setIrqs(caller, argument));
        break;
      case VFIO_DEVICE_CMD.VFIO_DEVICE_RESET:
        yield* locked(device, () => device.reset());
        break;
      case VFIO_DEVICE_CMD.VFIO_DEVICE_FEATURE:
        device.feature(caller, argument);
        break;
      default:
        throw new Errno('ENOTTY', `0x${request.toString(16)} is no command of this device`);
    }
    return 0;
  }

  *pread(
    caller: Caller,
    _file: OpenFile,
    buffer: number,
    count: number,
    position: number,
  ): Task<number> {
    this.#bound();
    return yield* this.#device.read(caller, buffer, count, position);
  }

  *pwrite(
    caller: Caller,
    _file: OpenFile,
    buffer: number,
    count: number,
    position: number,
  ): Task<number> {
    this.#bound();
    return yield* this.#device.write(caller, buffer, count, position);
  }

  mmap(_caller: Caller, _file: OpenFile, request: MmapRequest): MmapResult {
    this.#bound();
    return this.#device.mmap(request);
  }

  /** The function is quiet before it loses its attachments: reset first, then detach and unbind. */
  *release(): Task {
    const iommufd = this.#iommufd;
    this.#iommufd = null;
    if (this.#access !== null) {
      if (iommufd !== null) yield* this.#access.close();
      return;
    }
    if (iommufd !== null) {
      yield* locked(this.#device, () => endOf(this.#device, iommufd));
      this.#gate?.unblock();
    }
    this.#device.closed();
  }

  describe(request: number, argument: number, caller: Caller): { name: string; args: string } {
    const found = VFIO_DEVICE_IOCTLS.find(({ cmd }) => cmd === request);
    if (found === undefined) return { name: `0x${request.toString(16)}`, args: '' };
    const { name, struct } = found;
    if (struct === null) return { name, args: '' };
    const args = this.#device.kernel.failpoints.suspended(() => {
      let argsz = 0;
      try {
        const bytes = caller.mm.copyFrom(BigInt(argument), ARGSZ_BYTES);
        argsz = new DataView(bytes.buffer).getUint32(0, true);
      } catch (error) {
        if (!(error instanceof Errno)) throw error;
      }
      return describeArgument(caller.mm, argument, struct, argsz);
    });
    return { name, args };
  }

  *#unblock(): Task {
    this.#gate?.unblock();
  }

  #bound(): VfioIommufd {
    if (this.#iommufd === null) {
      throw new Errno('EINVAL', `${this.name} is not bound to an iommufd yet`);
    }
    return this.#iommufd;
  }

  /** VFIO_DEVICE_BIND_IOMMUFD. */
  *#bind(caller: Caller, argument: number): Task {
    const { values, argsz } = readArgument(caller, argument, vfio_device_bind_iommufd);
    checkTail(caller, argument, argsz);
    const { iommufd, flags } = values;
    if (iommufd < 0) throw new Errno('EINVAL', `iommufd ${iommufd}`);
    if ((flags & ~VFIO_DEVICE_BIND_FLAG_TOKEN) !== 0) {
      throw new Errno('EINVAL', `flags 0x${flags.toString(16)}`);
    }
    if (this.#access !== null) throw new Errno('EINVAL', 'a device of an open group');
    const device = this.#device;
    this.#gate?.block();
    const undo = new Undo();
    undo.defer(() => this.#unblock());
    yield* device.mutex.lock();
    try {
      if (this.#iommufd !== null) throw new Errno('EINVAL', `${this.name} is bound`);
      if ((flags & VFIO_DEVICE_BIND_FLAG_TOKEN) !== 0) {
        throw new Errno('EINVAL', `${this.name} takes no VF token`);
      }
      const ctx = ctxFromFd(caller, iommufd);
      if (device.open) throw new Errno('EINVAL', `${this.name} is open in another file`);
      const bound = yield* VfioIommufd.bind(ctx, device.pdev);
      undo.defer(() => bound.unbind());
      yield* device.enable();
      undo.defer(() => device.disable());
      const devid = new Uint8Array(ARGSZ_BYTES);
      new DataView(devid.buffer).setUint32(0, bound.idev.id, true);
      const { out_devid } = vfio_device_bind_iommufd.offsets;
      caller.mm.copyTo(BigInt(argument + out_devid), devid);
      this.#iommufd = bound;
      undo.commit();
    } finally {
      yield* undo.unwind();
      device.mutex.unlock();
    }
  }

  /** VFIO_DEVICE_ATTACH_IOMMUFD_PT: what is attached already is replaced. */
  *#attach(iommufd: VfioIommufd, caller: Caller, argument: number): Task {
    const struct = vfio_device_attach_iommufd_pt;
    const first = readArgument(caller, argument, struct);
    const { flags } = first.values;
    if ((flags & ~VFIO_DEVICE_ATTACH_PASID) !== 0) {
      throw new Errno('EINVAL', `flags 0x${flags.toString(16)}`);
    }
    const withPasid = (flags & VFIO_DEVICE_ATTACH_PASID) !== 0;
    const whole = withPasid ? readArgument(caller, argument, struct, struct.size) : first;
    const { pt_id, pasid } = whole.values;
    const bytes = withPasid ? struct.size : struct.minSize;
    yield* locked(this.#device, function* () {
      const id = yield* withPasid ? iommufd.attachPasid(pasid, pt_id) : iommufd.attach(pt_id);
      try {
        writeArgument(caller, argument, struct, { ...whole.values, pt_id: id }, bytes);
      } catch (error) {
        // As upstream: the RID goes, even after the attach of a PASID.
        yield* iommufd.detach();
        throw error;
      }
    });
  }

  /** VFIO_DEVICE_DETACH_IOMMUFD_PT: nothing happens if nothing is attached. */
  *#detach(iommufd: VfioIommufd, caller: Caller, argument: number): Task {
    const struct = vfio_device_detach_iommufd_pt;
    const first = readArgument(caller, argument, struct);
    const { flags } = first.values;
    if ((flags & ~VFIO_DEVICE_DETACH_PASID) !== 0) {
      throw new Errno('EINVAL', `flags 0x${flags.toString(16)}`);
    }
    if ((flags & VFIO_DEVICE_DETACH_PASID) === 0) {
      yield* locked(this.#device, () => iommufd.detach());
      return;
    }
    const { pasid } = readArgument(caller, argument, struct, struct.size).values;
    yield* locked(this.#device, () => iommufd.detachPasid(pasid));
  }
}

function* endOf(device: VfioPciDevice, iommufd: VfioIommufd): Task {
  yield* device.disable();
  yield* iommufd.unbind();
}

function* locked(device: VfioPciDevice, work: () => Task): Task {
  yield* device.mutex.lock();
  try {
    yield* work();
  } finally {
    device.mutex.unlock();
  }
}

/** What follows the structure in a longer argument. @throws Errno E2BIG, EFAULT */
function checkTail(caller: Caller, argument: number, argsz: number): void {
  const { size } = vfio_device_bind_iommufd;
  checkZeroed(
    caller.mm,
    BigInt(argument + size),
    argsz - size,
    () => new Errno('E2BIG', `argsz ${argsz}: non-zero bytes beyond the structure`),
  );
}
