/**
 * `/dev/vfio/N`: all devices of an iommu group for programs that know the VFIO container
 * (drivers/vfio/group.c). The container is an iommufd, whose compatibility IOAS they share.
 */
import { Mutex } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import { O_CLOEXEC, O_RDWR } from '../../uapi/poll.ts';
import {
  VFIO_GROUP_CMD,
  VFIO_GROUP_FLAGS_CONTAINER_SET,
  VFIO_GROUP_FLAGS_VIABLE,
  vfio_group_status,
} from '../../uapi/vfio.ts';
import { Errno } from '../errno.ts';
import type { Caller, FileOps, OpenFile } from '../file.ts';
import type { IommuGroup } from '../iommu/group.ts';
import { ctxFromFd } from '../iommufd/main.ts';
import type { IommufdCtx } from '../iommufd/object.ts';
import { ensureCompatIoas } from '../iommufd/vfio-compat.ts';
import { Undo } from '../undo.ts';
import { readArgument, writeArgument } from './argument.ts';
import { VfioDeviceFile } from './device-cdev.ts';
import { VfioIommufd } from './iommufd.ts';
import type { VfioPciDevice } from './pci-core.ts';

/** Longest name of a device, its end included. */
const NAME_BYTES = 4096;
const NAME_CHUNK = 64;
const FD_BYTES = 4;

/** The iommufd that a group uses, with its file held. */
interface Container {
  readonly ctx: IommufdCtx;
  readonly file: OpenFile;
}

/** A device that is open through its group, by however many files. */
interface Opened {
  readonly iommufd: VfioIommufd;
  users: number;
}

/** The state behind `/dev/vfio/N`: one file at a time, and none beside the devices' own nodes. */
export class VfioGroup {
  readonly #group: IommuGroup;
  readonly #mutex = new Mutex();
  /** By the name that sysfs has for them. */
  readonly #devices = new Map<string, VfioPciDevice>();
  readonly #opened = new Map<VfioPciDevice, Opened>();
  #container: Container | null = null;
  #open = false;
  #cdevs = 0;

  constructor(group: IommuGroup) {
    this.#group = group;
  }

  get id(): number {
    return this.#group.id;
  }

  add(device: VfioPciDevice): void {
    this.#devices.set(device.pdev.name, device);
  }

  /** open(2). @throws Errno EBUSY: it is open, or one of its devices is through its own node */
  open(): FileOps {
    if (this.#cdevs > 0) throw new Errno('EBUSY', `a device of group ${this.id} is bound`);
    if (this.#open) throw new Errno('EBUSY', `group ${this.id} is open`);
    this.#open = true;
    return new VfioGroupFile(this);
  }

  /** The group's file has gone, and with it every device file. */
  *release(): Task {
    this.#open = false;
    yield* this.#drop();
  }

  /** A device is being bound through its own node. @throws Errno EBUSY: the group is open */
  block(): void {
    if (this.#open) throw new Errno('EBUSY', `group ${this.id} is open`);
    this.#cdevs += 1;
  }

  unblock(): void {
    this.#cdevs -= 1;
  }

  /** VFIO_GROUP_GET_STATUS. @throws Errno EFAULT, EINVAL */
  status(caller: Caller, argument: number): void {
    const { argsz } = readArgument(caller, argument, vfio_group_status).values;
    const viable = this.#container !== null || this.#group.ownerCount === 0;
    const flags =
      (viable ? VFIO_GROUP_FLAGS_VIABLE : 0) |
      (this.#container === null ? 0 : VFIO_GROUP_FLAGS_CONTAINER_SET);
    writeArgument(caller, argument, vfio_group_status, { argsz, flags });
  }

  /** VFIO_GROUP_SET_CONTAINER. @throws Errno EFAULT; EBADF; EINVAL: it has one; EBADFD: no iommufd */
  *setContainer(caller: Caller, argument: number): Task {
    const bytes = caller.mm.copyFrom(BigInt(argument), FD_BYTES);
    const fd = new DataView(bytes.buffer).getInt32(0, true);
    const file = caller.files.get(fd);
    yield* this.#mutex.lock();
    try {
      if (this.#container !== null) throw new Errno('EINVAL', `group ${this.id} has a container`);
      const ctx = ctxFromFd(caller, fd);
      yield* ensureCompatIoas(ctx);
      this.#container = { ctx, file: file.get() };
    } finally {
      this.#mutex.unlock();
    }
  }

  /** VFIO_GROUP_UNSET_CONTAINER: open devices keep what they have. @throws Errno EINVAL: none */
  *unsetContainer(): Task {
    yield* this.#mutex.lock();
    try {
      if (this.#container === null) throw new Errno('EINVAL', `group ${this.id} has no container`);
      yield* this.#drop();
    } finally {
      this.#mutex.unlock();
    }
  }

  /**
   * VFIO_GROUP_GET_DEVICE_FD: opens a device, attached to the container's IOAS.
   *
   * @throws Errno EFAULT; EINVAL: the name is too long or has options, no container; ENODEV: no such
   *   device; as binding and attaching
   */
  *deviceFd(caller: Caller, own: OpenFile, argument: number): Task<number> {
    const device = this.#find(nameAt(caller, argument));
    yield* this.#mutex.lock();
    const undo = new Undo();
    try {
      const { ctx } = this.#needContainer();
      const opened = yield* this.#openDevice(device, ctx);
      own.get();
      const close = (): Task => this.#closeDevice(device, own);
      undo.defer(close);
      const file = new VfioDeviceFile('[vfio-device]', device, null, {
        iommufd: opened.iommufd,
        close,
      });
      const fd = caller.files.install(file, O_RDWR | O_CLOEXEC);
      undo.commit();
      return fd;
    } finally {
      yield* undo.unwind();
      this.#mutex.unlock();
    }
  }

  *#openDevice(device: VfioPciDevice, ctx: IommufdCtx): Task<Opened> {
    yield* device.mutex.lock();
    const undo = new Undo();
    try {
      const known = this.#opened.get(device);
      if (known !== undefined) {
        known.users += 1;
        return known;
      }
      device.opened();
      undo.defer(() => closed(device));
      const iommufd = yield* VfioIommufd.bind(ctx, device.pdev);
      undo.defer(() => iommufd.unbind());
      yield* device.enable();
      undo.defer(() => device.disable());
      if (ctx.vfioIoas === null) throw new Errno('ENODEV', 'the container has no IOAS any more');
      yield* iommufd.attach(ctx.vfioIoas.id);
      const opened = { iommufd, users: 1 };
      this.#opened.set(device, opened);
      undo.commit();
      return opened;
    } finally {
      yield* undo.unwind();
      device.mutex.unlock();
    }
  }

  *#closeDevice(device: VfioPciDevice, own: OpenFile): Task {
    const opened = this.#opened.get(device)!;
    yield* device.mutex.lock();
    try {
      opened.users -= 1;
      if (opened.users === 0) {
        this.#opened.delete(device);
        yield* device.disable();
        yield* opened.iommufd.unbind();
        yield* closed(device);
      }
    } finally {
      device.mutex.unlock();
    }
    yield* own.put();
  }

  #find(name: string): VfioPciDevice {
    const [address = '', ...options] = name.split(' ');
    const device = this.#devices.get(address);
    if (device === undefined) throw new Errno('ENODEV', `no device ${name} in group ${this.id}`);
    if (options.length > 0) throw new Errno('EINVAL', `${address} takes no ${options.join(' ')}`);
    return device;
  }

  #needContainer(): Container {
    if (this.#container === null) throw new Errno('EINVAL', `group ${this.id} has no container`);
    return this.#container;
  }

  *#drop(): Task {
    const container = this.#container;
    this.#container = null;
    if (container !== null) yield* container.file.put();
  }
}

/** An open `/dev/vfio/N`. */
class VfioGroupFile implements FileOps {
  readonly name: string;
  readonly #group: VfioGroup;

  constructor(group: VfioGroup) {
    this.name = `vfio group ${group.id}`;
    this.#group = group;
  }

  *ioctl(caller: Caller, file: OpenFile, request: number, argument: number): Task<number> {
    switch (request) {
      case VFIO_GROUP_CMD.VFIO_GROUP_GET_STATUS:
        this.#group.status(caller, argument);
        return 0;
      case VFIO_GROUP_CMD.VFIO_GROUP_SET_CONTAINER:
        yield* this.#group.setContainer(caller, argument);
        return 0;
      case VFIO_GROUP_CMD.VFIO_GROUP_UNSET_CONTAINER:
        yield* this.#group.unsetContainer();
        return 0;
      case VFIO_GROUP_CMD.VFIO_GROUP_GET_DEVICE_FD:
        return yield* this.#group.deviceFd(caller, file, argument);
      default:
        throw new Errno('ENOTTY', `0x${request.toString(16)} is no command of a group`);
    }
  }

  release(): Task {
    return this.#group.release();
  }
}

function* closed(device: VfioPciDevice): Task {
  device.closed();
}

/** strndup_user. @throws Errno EFAULT; EINVAL: no end within a page's length */
function nameAt(caller: Caller, address: number): string {
  let name = '';
  for (let at = 0; at < NAME_BYTES; ) {
    // Not beyond the chunk that holds the end: what follows need not be readable.
    const bytes = NAME_CHUNK - ((address + at) % NAME_CHUNK);
    const text = new TextDecoder('latin1').decode(caller.mm.copyFrom(BigInt(address + at), bytes));
    const end = text.indexOf('\0');
    if (end >= 0) return name + text.slice(0, end);
    name += text;
    at += bytes;
  }
  throw new Errno('EINVAL', `a name of ${NAME_BYTES} bytes or more`);
}
