/**
 * A host kernel that is only its system call surface: it checks and records what a VMM asks for,
 * fails what a test tells it to, and runs the VMM's threads in turn.
 */
import { DsaPci } from '../../devices/spec/dsa/registers.ts';
import {
  AtsCap,
  extCapHeader,
  MsixCap,
  PciCap,
  PciExtCap,
  PcieCap,
  PciHeader,
  PciStatus,
  PriCap,
} from '../../devices/spec/pci.ts';
import { HOST_CAP, HOST_ECAP } from '../../devices/spec/vtd/registers.ts';
import type { Syscalls, Task, UserMemory, Wait, Waitable } from '../../host/syscall.ts';
import { Segfault } from '../../host/syscall.ts';
import type { ErrnoName } from '../../host/uapi/errno.ts';
import { ERRNO } from '../../host/uapi/errno.ts';
import * as iommu from '../../host/uapi/iommufd.ts';
import { POLLIN, pollfd } from '../../host/uapi/poll.ts';
import * as vfio from '../../host/uapi/vfio.ts';

const BASE = 0x1_0000;
const ALL_IOCTLS = [...iommu.IOMMUFD_IOCTLS, ...vfio.VFIO_DEVICE_IOCTLS];
const CONFIG = { MSIX: 0x80, PCIE: 0x40, ATS: 0x100, PRI: 0x108 } as const;
export const VECTORS = 9;
export const BAR2_BYTES = 0x2_0000;
export const MAX_PASID_LOG2 = 20;

/** An ioctl as the fake kernel saw it. */
export interface Call {
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

class Ready implements Waitable {
  readonly waitable = true;
  readonly ready: () => boolean;
  constructor(ready: () => boolean) {
    this.ready = ready;
  }
}

class FlatMemory implements UserMemory {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Descriptors that reached a portal, with the address. */
  readonly submissions: { address: number; bytes: Uint8Array; posted: boolean }[] = [];
  device = { start: 0, end: 0 };
  accept = true;
  decode = true;

  constructor(bytes: number) {
    this.bytes = new Uint8Array(bytes);
    this.view = new DataView(this.bytes.buffer);
  }

  #at(address: number, length: number): number {
    const at = address - BASE;
    const inDevice = address < this.device.end && address + length > this.device.start;
    if (at < 0 || at + length > this.bytes.length || inDevice) {
      throw new Segfault(address, 'the fake host has nothing there');
    }
    return at;
  }
  read(address: number, into: Uint8Array): void {
    const at = this.#at(address, into.length);
    into.set(this.bytes.subarray(at, at + into.length));
  }
  write(address: number, from: Uint8Array): void {
    this.bytes.set(from, this.#at(address, from.length));
  }
  copy(to: number, from: number, length: number): void {
    const at = this.#at(from, length);
    this.bytes.copyWithin(this.#at(to, length), at, at + length);
  }
  load(address: number, size: number): bigint {
    const at = this.#at(address, size);
    if (size === 8) return this.view.getBigUint64(at, true);
    if (size === 4) return BigInt(this.view.getUint32(at, true));
    return BigInt(size === 2 ? this.view.getUint16(at, true) : this.view.getUint8(at));
  }
  store(address: number, size: number, value: bigint): void {
    const at = this.#at(address, size);
    if (size === 8) this.view.setBigUint64(at, value, true);
    else if (size === 4) this.view.setUint32(at, Number(value), true);
    else if (size === 2) this.view.setUint16(at, Number(value), true);
    else this.view.setUint8(at, Number(value));
  }
  movdir64b(address: number, bytes: Uint8Array): void {
    this.#portal(address, bytes, true);
  }
  enqcmd(address: number, bytes: Uint8Array): boolean {
    this.#portal(address, bytes, false);
    return this.accept;
  }
  #portal(address: number, bytes: Uint8Array, posted: boolean): void {
    const { start, end } = this.device;
    if (address < start || address + 64 > end || !this.decode)
      throw new Segfault(address, 'SIGBUS');
    this.submissions.push({ address: address - start, bytes: bytes.slice(), posted });
  }
}

interface Thread {
  readonly task: Task;
  wait: Wait;
  done: boolean;
}

export class FakeHost implements Syscalls {
  readonly pid = 100;
  readonly memory: FlatMemory;
  readonly calls: Call[] = [];
  /** Ioctls to fail: the next one of that name gives the errno. */
  readonly failures = new Map<string, ErrnoName>();
  /** Config space of the device, and its registers as written. */
  readonly config = deviceConfig();
  readonly registers = new Map<number, bigint>();
  /** Fault records to be read, group by group, and responses that came. */
  readonly faults: Uint8Array[] = [];
  readonly responses: { cookie: number; code: number }[] = [];
  readonly open_ = new Map<number, string>();
  readonly mappings = new Map<number, number>();
  msixFds: number[] = [];
  resets = 0;
  hwInfo = { cap: HOST_CAP, ecap: HOST_ECAP, maxPasidLog2: MAX_PASID_LOG2, capabilities: 0n };
  readonly #events = new Map<number, bigint>();
  readonly #threads: Thread[] = [];
  #nextFd = 3;
  #nextId = 1;
  #next = BASE;

  constructor(bytes = 16 << 20) {
    this.memory = new FlatMemory(bytes);
  }

  /** Runs a task and every thread it clones until the task is done. */
  run<T>(task: Task<T>): T {
    let result: { value: T } | undefined;
    this.#spawn(
      (function* main(): Task {
        result = { value: yield* task };
      })(),
    );
    while (result === undefined) {
      if (!this.#round()) throw new Error('every thread of the VMM waits');
    }
    return result.value;
  }

  /** Lets threads run until they all wait. */
  settle(): void {
    while (this.#round());
  }

  /** The ioctls since the last look, as `NAME field=value`, by the fields named. */
  take(...fields: string[]): string[] {
    return this.calls.splice(0).map(({ name, values }) => {
      const shown = fields.filter((field) => field in values);
      return [name, ...shown.map((field) => `${field}=${String(values[field])}`)].join(' ');
    });
  }

  /** The device raises MSI-X vector `vector`. */
  fire(vector: number): void {
    const fd = this.msixFds[vector];
    if (fd !== undefined) this.#events.set(fd, (this.#events.get(fd) ?? 0n) + 1n);
  }

  *open(path: string, _flags: number): Task<number> {
    const known = path === '/dev/iommu' || path.startsWith('/dev/vfio/devices/');
    return known ? this.#install(path) : -ERRNO.ENOENT;
  }

  *close(fd: number): Task<number> {
    this.#events.delete(fd);
    return this.open_.delete(fd) ? 0 : -ERRNO.EBADF;
  }

  *ioctl(fd: number, request: number, argument: number): Task<number> {
    yield 100;
    const found = ALL_IOCTLS.find((known) => known.cmd === request);
    if (found === undefined || !this.open_.has(fd)) return -ERRNO.ENOTTY;
    const { struct } = found;
    const bytes = new Uint8Array(struct?.size ?? 0);
    if (struct !== null) this.memory.read(argument, bytes);
    const view = new DataView(bytes.buffer);
    const values: Record<string, unknown> = struct === null ? {} : struct.read(view);
    const stated = values['argsz'] ?? values['size'];
    if (struct !== null && struct.name !== 'vfio_irq_set' && stated !== struct.size) {
      return -ERRNO.EINVAL;
    }
    this.calls.push({ name: found.name, values });
    const failure = this.failures.get(found.name);
    if (failure !== undefined) {
      this.failures.delete(found.name);
      return -ERRNO[failure];
    }
    const outputs = this.#answer(found.name, values, argument);
    struct?.write(view, 0, outputs);
    if (struct !== null) this.memory.write(argument, bytes);
    return 0;
  }

  *read(fd: number, buffer: number, count: number): Task<number> {
    yield 100;
    if (this.open_.get(fd) === 'faults') return this.#readFaults(buffer, count);
    if (!this.#events.has(fd)) return -ERRNO.EBADF;
    while (this.#events.get(fd) === 0n) yield new Ready(() => this.#events.get(fd) !== 0n);
    this.memory.store(buffer, 8, this.#events.get(fd)!);
    this.#events.set(fd, 0n);
    return 8;
  }

  *write(fd: number, buffer: number, count: number): Task<number> {
    yield 100;
    if (this.open_.get(fd) === 'faults') {
      const bytes = new Uint8Array(count);
      this.memory.read(buffer, bytes);
      this.responses.push(iommu.iommu_hwpt_page_response.read(new DataView(bytes.buffer)));
      return count;
    }
    const old = this.#events.get(fd);
    if (old === undefined) return -ERRNO.EBADF;
    this.#events.set(fd, old + this.memory.load(buffer, 8));
    return 8;
  }

  *pread(_fd: number, buffer: number, count: number, position: number): Task<number> {
    const offset = position % 2 ** 40;
    if (Math.floor(position / 2 ** 40) === vfio.VFIO_PCI_CONFIG_REGION_INDEX) {
      this.memory.write(buffer, this.config.subarray(offset, offset + count));
    } else this.memory.store(buffer, count, this.registers.get(offset) ?? 0n);
    return count;
  }

  *pwrite(_fd: number, buffer: number, count: number, position: number): Task<number> {
    const offset = position % 2 ** 40;
    if (Math.floor(position / 2 ** 40) === vfio.VFIO_PCI_CONFIG_REGION_INDEX) {
      this.memory.read(buffer, this.config.subarray(offset, offset + count));
    } else this.registers.set(offset, this.memory.load(buffer, count));
    return count;
  }

  *mmap(length: number, _prot: number, _flags: number, fd: number, _offset: number): Task<number> {
    const address = this.#next;
    if (address + length - BASE > this.memory.bytes.length) return -ERRNO.ENOMEM;
    this.#next += Math.ceil(length / 4096) * 4096;
    if (fd >= 0) this.memory.device = { start: address, end: address + length };
    this.mappings.set(address, length);
    return address;
  }

  *munmap(address: number, length: number): Task<number> {
    if (this.mappings.get(address) !== length) return -ERRNO.EINVAL;
    this.mappings.delete(address);
    return 0;
  }

  *eventfd(initial: number, _flags: number): Task<number> {
    const fd = this.#install('eventfd');
    this.#events.set(fd, BigInt(initial));
    return fd;
  }

  *poll(fds: number, count: number, timeoutNs: number): Task<number> {
    const bytes = new Uint8Array(count * pollfd.size);
    this.memory.read(fds, bytes);
    const view = new DataView(bytes.buffer);
    const ready = (): number[] =>
      Array.from({ length: count }, (_, i) => i).filter((i) => {
        const { fd } = pollfd.read(view, i * pollfd.size);
        if (this.open_.get(fd) === 'faults') return this.faults.length > 0;
        return (this.#events.get(fd) ?? 0n) > 0n;
      });
    if (timeoutNs >= 0 && ready().length === 0) yield timeoutNs;
    while (timeoutNs < 0 && ready().length === 0) yield new Ready(() => ready().length > 0);
    for (let i = 0; i < count; i++) pollfd.write(view, i * pollfd.size, { revents: 0 });
    for (const i of ready()) pollfd.write(view, i * pollfd.size, { revents: POLLIN });
    this.memory.write(fds, bytes);
    return ready().length;
  }

  *clone(_name: string, body: () => Task): Task<number> {
    this.#spawn(body());
    return 1;
  }

  *exit(code: number): Task<never> {
    throw new Error(`exit(${code}) is not for the VMM`);
  }

  #install(what: string): number {
    const fd = this.#nextFd++;
    this.open_.set(fd, what);
    return fd;
  }

  #spawn(task: Task): void {
    this.#threads.push({ task, wait: 0, done: false });
  }

  /** Resumes every thread that can run; whether any could. */
  #round(): boolean {
    let progress = false;
    for (const thread of [...this.#threads]) {
      if (thread.done || (thread.wait instanceof Ready && !thread.wait.ready())) continue;
      progress = true;
      const step = thread.task.next();
      if (step.done === true) thread.done = true;
      else thread.wait = step.value;
    }
    return progress;
  }

  #readFaults(buffer: number, count: number): number {
    let done = 0;
    while (this.faults.length > 0 && done + this.faults[0]!.length <= count) {
      const group = this.faults.shift()!;
      this.memory.write(buffer + done, group);
      done += group.length;
    }
    return done;
  }

  #answer(name: string, values: Record<string, unknown>, argument: number): object {
    switch (name) {
      case 'IOMMU_IOAS_ALLOC':
        return { out_ioas_id: this.#nextId++ };
      case 'IOMMU_HWPT_ALLOC':
        this.#attachPayload(values, iommu.iommu_hwpt_vtd_s1);
        return { out_hwpt_id: this.#nextId++ };
      case 'IOMMU_HWPT_INVALIDATE':
        this.#attachPayload(values, iommu.iommu_hwpt_vtd_s1_invalidate);
        return {};
      case 'IOMMU_FAULT_QUEUE_ALLOC':
        return { out_fault_id: this.#nextId++, out_fault_fd: this.#install('faults') };
      case 'IOMMU_GET_HW_INFO':
        return this.#hwInfo(values);
      case 'VFIO_DEVICE_BIND_IOMMUFD':
        return { out_devid: this.#nextId++ };
      case 'VFIO_DEVICE_GET_INFO':
        return { flags: 3, num_regions: 9, num_irqs: 5 };
      case 'VFIO_DEVICE_GET_REGION_INFO':
        return region(Number(values['index']));
      case 'VFIO_DEVICE_GET_IRQ_INFO':
        return { flags: 9, count: values['index'] === 2 ? VECTORS : 0 };
      case 'VFIO_DEVICE_SET_IRQS':
        this.msixFds = Array.from({ length: Number(values['count']) }, (_, i) =>
          Number(this.memory.load(argument + vfio.vfio_irq_set.size + 4 * i, 4)),
        );
        return {};
      case 'VFIO_DEVICE_RESET':
        this.resets++;
        return {};
      default:
        return {};
    }
  }

  /** Merges the payload behind `data_uptr` into the recorded call. */
  #attachPayload(
    values: Record<string, unknown>,
    type: typeof iommu.iommu_hwpt_vtd_s1 | typeof iommu.iommu_hwpt_vtd_s1_invalidate,
  ): void {
    if (values['data_uptr'] === 0n) return;
    const bytes = new Uint8Array(type.size);
    this.memory.read(Number(values['data_uptr']), bytes);
    const { flags, ...payload } = type.read(new DataView(bytes.buffer));
    Object.assign(values, payload, { data_flags: flags });
  }

  #hwInfo(values: Record<string, unknown>): object {
    const { cap, ecap, maxPasidLog2, capabilities } = this.hwInfo;
    const data = iommu.iommu_hw_info_vtd.encode({ cap_reg: cap, ecap_reg: ecap });
    this.memory.write(Number(values['data_uptr']), data);
    return {
      out_data_type: iommu.IOMMU_HW_INFO_TYPE_INTEL_VTD,
      data_len: data.length,
      out_max_pasid_log2: maxPasidLog2,
      out_capabilities: capabilities,
    };
  }
}

function region(index: number): object {
  const offset = BigInt(index) << 40n;
  const [size, flags] = [
    [DsaPci.BAR0_BYTES, 7],
    [0, 0],
    [BAR2_BYTES, 7],
    [0, 0],
    [0, 0],
    [0, 0],
    [0, 0],
    [4096, 3],
  ][index]!;
  return { flags, size: BigInt(size!), offset };
}

/** What vfio-pci shows of the accelerator: ATS and PRI, no PASID capability. */
function deviceConfig(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  const put16 = (at: number, value: number): void => view.setUint16(at, value, true);
  put16(PciHeader.VENDOR_ID, DsaPci.VENDOR_ID);
  put16(PciHeader.DEVICE_ID, DsaPci.DEVICE_ID);
  put16(PciHeader.STATUS, PciStatus.CAP_LIST);
  bytes[PciHeader.CAP_PTR] = CONFIG.PCIE;
  bytes[PciHeader.BAR0] = 0xc;
  bytes[PciHeader.BAR2] = 0xc;
  put16(CONFIG.PCIE, PciCap.PCIE | (CONFIG.MSIX << 8));
  put16(CONFIG.PCIE + PcieCap.FLAGS, 0x92);
  put16(CONFIG.MSIX, PciCap.MSIX);
  put16(CONFIG.MSIX + MsixCap.CONTROL, VECTORS - 1);
  view.setUint32(CONFIG.MSIX + MsixCap.TABLE, DsaPci.MSIX_TABLE_OFFSET, true);
  view.setUint32(CONFIG.MSIX + MsixCap.PBA, DsaPci.MSIX_PBA_OFFSET, true);
  view.setUint32(CONFIG.ATS, extCapHeader(PciExtCap.ATS, 1, CONFIG.PRI), true);
  put16(CONFIG.ATS + AtsCap.CAPABILITY, 0x61);
  put16(CONFIG.ATS + AtsCap.CONTROL, AtsCap.CONTROL_ENABLE);
  view.setUint32(CONFIG.PRI, extCapHeader(PciExtCap.PRI, 1, 0), true);
  put16(CONFIG.PRI + PriCap.CONTROL, PriCap.CONTROL_ENABLE);
  put16(CONFIG.PRI + PriCap.STATUS, PriCap.STATUS_PRG_RESPONSE_PASID);
  view.setUint32(CONFIG.PRI + PriCap.MAX_REQUESTS, 512, true);
  return bytes;
}
