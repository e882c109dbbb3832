import type { Syscalls, Task } from '../host/syscall.ts';
import { MAP_SHARED, O_RDWR, PROT_READ, PROT_WRITE } from '../host/uapi/poll.ts';
import type { Fields, Struct, Values } from '../host/uapi/struct.ts';
import * as uapi from '../host/uapi/vfio.ts';
import type { Heap } from './heap.ts';
import { ioctl } from './iommufd.ts';
import { check } from './sys-error.ts';

/** A region of the device file. */
export interface Region {
  readonly index: number;
  /** VFIO_REGION_INFO_FLAG bits. */
  readonly flags: number;
  /** Bytes; 0: there is none. */
  readonly size: number;
  /** Position in the device file. */
  readonly offset: number;
}

const MAX_ACCESS = 8;

/** /dev/vfio/devices/vfioN. Every method is one system call (host/uapi/vfio.ts), throws SysError. */
export class VfioDevice {
  readonly fd: number;
  readonly #sys: Syscalls;
  readonly #heap: Heap;

  private constructor(sys: Syscalls, heap: Heap, fd: number) {
    this.#sys = sys;
    this.#heap = heap;
    this.fd = fd;
  }

  static *open(sys: Syscalls, heap: Heap, path: string): Task<VfioDevice> {
    const fd = check(`open ${path}`, yield* sys.open(path, O_RDWR));
    return new VfioDevice(sys, heap, fd);
  }

  *close(): Task {
    check('close vfio device', yield* this.#sys.close(this.fd));
  }

  /** Binds to an iommufd; returns the device's object id there. */
  *bind(iommufd: number): Task<number> {
    const type = uapi.vfio_device_bind_iommufd;
    const values = { argsz: type.size, iommufd };
    return (yield* this.#call('VFIO_DEVICE_BIND_IOMMUFD', type, values)).out_devid;
  }

  /** Attaches, or replaces what is attached. `pasid` 0: requests without PASID (the RID). */
  *attach(pasid: number, hwpt: number): Task {
    const type = uapi.vfio_device_attach_iommufd_pt;
    const flags = pasid === 0 ? 0 : uapi.VFIO_DEVICE_ATTACH_PASID;
    const values = { argsz: type.size, flags, pt_id: hwpt, pasid };
    yield* this.#call('VFIO_DEVICE_ATTACH_IOMMUFD_PT', type, values);
  }

  *detach(pasid: number): Task {
    const type = uapi.vfio_device_detach_iommufd_pt;
    const flags = pasid === 0 ? 0 : uapi.VFIO_DEVICE_DETACH_PASID;
    const values = { argsz: type.size, flags, pasid };
    yield* this.#call('VFIO_DEVICE_DETACH_IOMMUFD_PT', type, values);
  }

  *reset(): Task {
    const request = uapi.VFIO_DEVICE_CMD.VFIO_DEVICE_RESET;
    check('VFIO_DEVICE_RESET', yield* this.#sys.ioctl(this.fd, request, 0));
  }

  *info(): Task<{ readonly regions: number; readonly irqs: number }> {
    const type = uapi.vfio_device_info;
    const out = yield* this.#call('VFIO_DEVICE_GET_INFO', type, { argsz: type.size });
    return { regions: out.num_regions, irqs: out.num_irqs };
  }

  *region(index: number): Task<Region> {
    const type = uapi.vfio_region_info;
    const values = { argsz: type.size, index };
    const out = yield* this.#call('VFIO_DEVICE_GET_REGION_INFO', type, values);
    return { index, flags: out.flags, size: Number(out.size), offset: Number(out.offset) };
  }

  /** How many vectors an interrupt index has. */
  *irqCount(index: number): Task<number> {
    const type = uapi.vfio_irq_info;
    const values = { argsz: type.size, index };
    return (yield* this.#call('VFIO_DEVICE_GET_IRQ_INFO', type, values)).count;
  }

  /** Has MSI-X vectors 0.. signal these eventfds; an empty list disables MSI-X. */
  *setMsix(eventfds: readonly number[]): Task {
    const type = uapi.vfio_irq_set;
    const bytes = type.size + 4 * eventfds.length;
    const data =
      eventfds.length === 0 ? uapi.VFIO_IRQ_SET_DATA_NONE : uapi.VFIO_IRQ_SET_DATA_EVENTFD;
    const argument = new Uint8Array(bytes);
    const view = new DataView(argument.buffer);
    type.write(view, 0, {
      argsz: bytes,
      flags: data | uapi.VFIO_IRQ_SET_ACTION_TRIGGER,
      index: uapi.VFIO_PCI_MSIX_IRQ_INDEX,
      start: 0,
      count: eventfds.length,
    });
    eventfds.forEach((fd, i) => {
      view.setInt32(type.size + 4 * i, fd, true);
    });
    const address = this.#heap.alloc(bytes);
    try {
      this.#sys.memory.write(address, argument);
      const request = uapi.VFIO_DEVICE_CMD.VFIO_DEVICE_SET_IRQS;
      check('VFIO_DEVICE_SET_IRQS', yield* this.#sys.ioctl(this.fd, request, address));
    } finally {
      this.#heap.free(address, bytes);
    }
  }

  /** Reads `size` (1, 2, 4, 8) bytes of a region, little-endian; null when the kernel refuses. */
  *read(region: Region, offset: number, size: number): Task<bigint | null> {
    const buffer = this.#heap.alloc(MAX_ACCESS);
    try {
      const done = yield* this.#sys.pread(this.fd, buffer, size, region.offset + offset);
      return done === size ? this.#sys.memory.load(buffer, size) : null;
    } finally {
      this.#heap.free(buffer, MAX_ACCESS);
    }
  }

  /** Writes `size` bytes; false when the kernel refuses. */
  *write(region: Region, offset: number, size: number, value: bigint): Task<boolean> {
    const buffer = this.#heap.alloc(MAX_ACCESS);
    try {
      this.#sys.memory.store(buffer, size, BigInt.asUintN(8 * size, value));
      const done = yield* this.#sys.pwrite(this.fd, buffer, size, region.offset + offset);
      return done === size;
    } finally {
      this.#heap.free(buffer, MAX_ACCESS);
    }
  }

  /** The first `bytes` of a region. */
  *readAll(region: Region, bytes: number): Task<Uint8Array> {
    const buffer = this.#heap.alloc(bytes);
    try {
      const result = yield* this.#sys.pread(this.fd, buffer, bytes, region.offset);
      const into = new Uint8Array(check('pread vfio region', result));
      this.#sys.memory.read(buffer, into);
      return into;
    } finally {
      this.#heap.free(buffer, bytes);
    }
  }

  /** Maps a whole region; returns its address. */
  *mmap(region: Region): Task<number> {
    const prot = PROT_READ | PROT_WRITE;
    const { size, offset } = region;
    return check(
      'mmap vfio region',
      yield* this.#sys.mmap(size, prot, MAP_SHARED, this.fd, offset),
    );
  }

  #call<F extends Fields>(
    name: uapi.VfioDeviceCmdName,
    type: Struct<F>,
    values: Partial<Values<F>>,
  ): Task<Values<F>> {
    const request = uapi.VFIO_DEVICE_CMD[name];
    return ioctl(this.#sys, this.#heap, this.fd, name, request, type, values);
  }
}
