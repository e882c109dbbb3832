/** A host with the real unit and real accelerators, and VFIO programs that drive them. */
import { DsaDevice } from '../../../devices/dsa/dsa.ts';
import type { DsaModel } from '../../../devices/dsa/model.ts';
import { dsaCapabilities } from '../../../devices/spec/dsa/capabilities.ts';
import {
  COMPLETION_BYTES,
  type Completion,
  decodeCompletion,
} from '../../../devices/spec/dsa/completion.ts';
import { type DescriptorInit, encodeDescriptor } from '../../../devices/spec/dsa/descriptor.ts';
import { DescriptorFlag, Opcode, opcap } from '../../../devices/spec/dsa/opcodes.ts';
import { CmdReg, CmdstsReg, DsaCommand, DsaReg } from '../../../devices/spec/dsa/registers.ts';
import { encodeWqcfg, Grpcfg, portalOffset } from '../../../devices/spec/dsa/tables.ts';
import { PciCommand, PciHeader, ridBus, ridDevfn } from '../../../devices/spec/pci.ts';
import {
  contextEntry,
  contextEntryAddress,
  contextTableOf,
  rootEntry,
  rootEntryAddress,
} from '../../../devices/spec/vtd/context.ts';
import {
  pasidDirEntry,
  pasidDirEntryAddress,
  pasidEntry,
  pasidEntryAddress,
} from '../../../devices/spec/vtd/pasid.ts';
import { REG, RTADDR } from '../../../devices/spec/vtd/registers.ts';
import { FS, levelIndex } from '../../../devices/spec/x86/paging.ts';
import { Sanitizer } from '../../../devices/vtd/sanitizer/sanitizer.ts';
import { bootKernel } from '../../../host/kernel/boot.ts';
import type { Kernel, KernelOptions } from '../../../host/kernel/kernel.ts';
import { Machine } from '../../../host/machine/machine.ts';
import { UNIT_BASE } from '../../../host/machine/memory-map.ts';
import type { Task } from '../../../host/syscall.ts';
import * as uapi from '../../../host/uapi/iommufd.ts';
import { MAP_SHARED, PROT_READ, PROT_WRITE } from '../../../host/uapi/poll.ts';
import {
  VFIO_PCI_BAR2_REGION_INDEX,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_OFFSET_SHIFT,
} from '../../../host/uapi/vfio.ts';
import type { EventRecord } from '../../../trace/event.ts';
import { Client, Device, type IdOrError, id } from '../../host/kernel/iommufd/client.ts';
import { User } from '../../host/kernel/iommufd/world.ts';

export const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };
export const PAGE = 4096;
const MIB = 2 ** 20;

export interface Rig {
  readonly machine: Machine;
  readonly kernel: Kernel;
  readonly devices: readonly DsaDevice[];
  readonly events: EventRecord[];
  readonly sanitizer: Sanitizer | undefined;
  run<T>(task: Task<T>): T;
  /** Lets the world go on until nothing is left to happen; rethrows what a thread threw. */
  settle(): void;
  user(name?: string): User;
}

export interface RigOptions {
  readonly devices?: number;
  readonly model?: Partial<DsaModel>;
  readonly kernel?: KernelOptions;
  readonly ramBytes?: number;
  readonly seed?: number;
  /** Watch the unit; what is found is in `sanitizer` and among the events. */
  readonly sanitize?: boolean;
  /** Collect events (slower). */
  readonly trace?: boolean;
}

/** A machine with its kernel up. */
export function bootRig(options: RigOptions = {}): Rig {
  const { devices: count = 1, model = {}, ramBytes = 64 * MIB, seed = 11 } = options;
  const devices: DsaDevice[] = [];
  const sanitizer = options.sanitize === true ? new Sanitizer() : undefined;
  const machine = new Machine({
    sanitizer,
    ramBytes,
    seed,
    functions: Array.from({ length: count }, () => (rid, world) => {
      const device = new DsaDevice({ rid, ...world, model });
      devices.push(device);
      return device;
    }),
  });
  const events: EventRecord[] = [];
  if (options.trace === true) machine.trace.listen((record) => events.push(record));
  const run = <T>(task: Task<T>): T => {
    const thread = machine.scheduler.spawn('test', task);
    machine.clock.run(() => thread.done);
    if (thread.failed) {
      machine.scheduler.observed(thread);
      throw thread.error;
    }
    if (!thread.done) throw new Error('the task waits for ever');
    return thread.result as T;
  };
  const frames = sanitizer ?? null;
  const kernel = run(bootKernel(machine, { frames, ...options.kernel }));
  sanitizer?.watchFrames((pfn) => kernel.pages.isFree(pfn));
  return {
    machine,
    kernel,
    devices,
    events,
    sanitizer,
    run,
    settle: () => {
      machine.clock.run();
      machine.scheduler.rethrow();
    },
    user: (name = 'client') => new User(kernel.createProcess(name), run),
  };
}

/**
 * The 512-bit PASID entry as the silicon finds it: from the unit's root table register through the
 * tables in memory. Null: there is no table for it.
 */
export function pasidEntryInMemory(rig: Rig, rid: number, pasid: number): Uint8Array | null {
  const { root, ram } = rig.machine;
  const words = (address: number, count: number): bigint[] =>
    Array.from({ length: count }, (_, i) => ram.read64(address + 8 * i));
  const { RTA } = RTADDR.decode([root.read(UNIT_BASE + REG.RTADDR, 8)]);
  const devfn = ridDevfn(rid);
  const rootWords = words(rootEntryAddress(RTA, ridBus(rid)), rootEntry.words);
  const { present, ctp } = contextTableOf(rootEntry.decode(rootWords), devfn);
  if (!present) return null;
  const context = contextEntry.decode(words(contextEntryAddress(ctp, devfn), contextEntry.words));
  if (context.P === 0) return null;
  const slot = pasidDirEntryAddress(context.PASIDDIRPTR, pasid);
  const { P, SMPTBLPTR } = pasidDirEntry.decode(words(slot, 1));
  if (P === 0) return null;
  const bytes = new Uint8Array(pasidEntry.bytes);
  ram.read(pasidEntryAddress(SMPTBLPTR, pasid), bytes);
  return bytes;
}

/** Memory of a program that is mapped into an IOAS from IOVA 0, as guest RAM is. */
export class GuestRam {
  readonly bytes: number;
  readonly #user: User;
  readonly #base: number;
  #next = PAGE;

  constructor(user: User, bytes = MIB) {
    this.#user = user;
    this.bytes = bytes;
    this.#base = user.map(bytes);
  }

  /** Where it is in the program's own memory. */
  get address(): number {
    return this.#base;
  }

  /** The next page that nobody took. */
  take(): number {
    const page = this.#next;
    this.#next += PAGE;
    if (this.#next > this.bytes) throw new RangeError('guest RAM is full');
    return page;
  }

  read(gpa: number, length: number): Uint8Array<ArrayBuffer> {
    return this.#user.read(this.#base + gpa, length);
  }

  write(gpa: number, bytes: Uint8Array): void {
    this.#user.write(this.#base + gpa, bytes);
  }

  read64(gpa: number): bigint {
    return new DataView(this.read(gpa, 8).buffer).getBigUint64(0, true);
  }

  write64(gpa: number, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.write(gpa, bytes);
  }

  fill(gpa: number, length: number, value: number): void {
    this.write(gpa, new Uint8Array(length).fill(value));
  }
}

/** A four-level first-stage table in guest RAM, written by hand. */
export class FirstStage {
  readonly root: number;
  readonly #ram: GuestRam;

  constructor(ram: GuestRam) {
    this.#ram = ram;
    this.root = ram.take();
  }

  /** Maps one page; `target` may be any address. Returns where the leaf entry is. */
  map(va: bigint, target: bigint | number, flags = FS.P | FS.RW | FS.US): number {
    let table = this.root;
    for (let level = 4; level > 1; level--) {
      const at = table + 8 * levelIndex(va, level);
      const entry = this.#ram.read64(at);
      if ((entry & FS.P) === 0n) {
        const below = this.#ram.take();
        this.#ram.write64(at, BigInt(below) | FS.P | FS.RW | FS.US);
        table = below;
      } else {
        table = Number(entry & 0x000f_ffff_ffff_f000n);
      }
    }
    const leaf = table + 8 * levelIndex(va, 1);
    this.#ram.write64(leaf, BigInt(target) | flags);
    return leaf;
  }
}

const CAPS = dsaCapabilities();
const OPERATIONS = opcap([Opcode.NOOP, Opcode.MEMMOVE, Opcode.FILL, Opcode.DRAIN, Opcode.COMPARE]);
/** Work queues: shared with PASIDs; dedicated without; shared with PASIDs and without ATS. */
export const WQ = { SHARED: 0, PLAIN: 1, NO_ATS: 2 } as const;
const QUEUES = [
  { pasidEnable: 1, blockOnFault: 1 },
  { dedicated: 1, blockOnFault: 1 },
  { pasidEnable: 1, atsDisable: 1 },
] as const;

/** A VFIO program with one accelerator that it drives from user space. */
export class Accelerator {
  readonly rig: Rig;
  readonly user: User;
  readonly client: Client;
  readonly device: Device;
  readonly rid: number;
  #portals = 0;

  /** Opens `/dev/iommu` and the device and binds them. */
  constructor(rig: Rig, number = 0, user = rig.user()) {
    this.rig = rig;
    this.user = user;
    this.client = new Client(user);
    this.device = new Device(user, number);
    this.rid = rig.kernel.pciDevices[number]!.rid;
    const result = this.device.bind(this.client.fd);
    if (result !== 'OK') throw new Error(`bind: ${result}`);
  }

  read(region: number, offset: number, size: number): number {
    const buffer = this.user.scratch + 0x3000;
    const at = region * 2 ** VFIO_PCI_OFFSET_SHIFT + offset;
    const done = this.user.run(this.user.process.pread(this.device.fd, buffer, size, at));
    if (done !== size) throw new Error(`read of region ${region}: ${done}`);
    return Number(this.user.process.memory.load(buffer, size));
  }

  write(region: number, offset: number, size: number, value: number | bigint): void {
    const buffer = this.user.scratch + 0x3000;
    const at = region * 2 ** VFIO_PCI_OFFSET_SHIFT + offset;
    this.user.process.memory.store(buffer, size, BigInt(value));
    const done = this.user.run(this.user.process.pwrite(this.device.fd, buffer, size, at));
    if (done !== size) throw new Error(`write of region ${region}: ${done}`);
  }

  command(command: number, operand = 0): void {
    this.write(0, DsaReg.CMD, 4, CmdReg.encode({ command, operand }));
    let status: number;
    do {
      status = this.read(0, DsaReg.CMDSTS, 4);
    } while (CmdstsReg.decode(status).active === 1);
    const { error } = CmdstsReg.decode(status);
    if (error !== 0) throw new Error(`command ${command}: error ${error}`);
  }

  /** Bus mastering on, queues of every kind (`WQ`) configured and enabled, portals mapped. */
  bringUp(): void {
    const config = VFIO_PCI_CONFIG_REGION_INDEX;
    const old = this.read(config, PciHeader.COMMAND, 2);
    this.write(config, PciHeader.COMMAND, 2, old | PciCommand.BUS_MASTER);
    for (const [wq, mode] of QUEUES.entries()) {
      const words = encodeWqcfg({
        size: 16,
        threshold: 16,
        priority: 5,
        maxTransferShift: 21,
        maxBatchShift: 5,
        opConfig: OPERATIONS,
        ...mode,
      });
      words.forEach((word, i) => {
        this.write(0, CAPS.wqcfgOffset + wq * CAPS.wqcfgStride + 4 * i, 4, word);
      });
    }
    this.write(0, CAPS.grpcfgOffset + Grpcfg.WQ_BITMAP, 8, 2 ** QUEUES.length - 1);
    this.write(0, CAPS.grpcfgOffset + Grpcfg.ENGINE_BITMAP, 8, 2 ** CAPS.engineCount - 1);
    this.command(DsaCommand.ENABLE_DEVICE);
    for (const wq of QUEUES.keys()) this.command(DsaCommand.ENABLE_WQ, wq);
    const offset = VFIO_PCI_BAR2_REGION_INDEX * 2 ** VFIO_PCI_OFFSET_SHIFT;
    const prot = PROT_READ | PROT_WRITE;
    const { process } = this.user;
    const mapping = process.mmap(CAPS.bar2Bytes, prot, MAP_SHARED, this.device.fd, offset);
    this.#portals = this.user.run(mapping);
  }

  /** An IOAS with `ram` at IOVA 0, and a nest parent on it. */
  parentOf(ram: GuestRam): { ioas: number; parent: number } {
    const ioas = this.client.ioas();
    const result = this.client.map(ioas, ram.address, ram.bytes, 0);
    if (result !== 'OK') throw new Error(`map: ${result}`);
    const flags = uapi.IOMMU_HWPT_ALLOC_NEST_PARENT | uapi.IOMMU_HWPT_ALLOC_PASID;
    return { ioas, parent: id(this.client.hwpt(this.device.id, ioas, flags)) };
  }

  /** A nested HWPT: its id, or the error's name. */
  nested(parent: number, root: bigint | number, fault = 0): IdOrError {
    const { user, client } = this;
    user.write(
      client.payload,
      uapi.iommu_hwpt_vtd_s1.encode({ pgtbl_addr: BigInt(root), addr_width: 48 }),
    );
    const withFault = fault === 0 ? 0 : uapi.IOMMU_HWPT_FAULT_ID_VALID;
    const { result, out } = user.call(
      client.fd,
      uapi.IOMMUFD_CMD.IOMMU_HWPT_ALLOC,
      uapi.iommu_hwpt_alloc,
      {
        flags: uapi.IOMMU_HWPT_ALLOC_PASID | withFault,
        dev_id: this.device.id,
        pt_id: parent,
        data_type: uapi.IOMMU_HWPT_DATA_VTD_S1,
        data_len: uapi.iommu_hwpt_vtd_s1.size,
        data_uptr: BigInt(client.payload),
        fault_id: fault,
      },
    );
    return result === 'OK' ? out.out_hwpt_id : result;
  }

  /** Everything that is cached for a nested HWPT goes; or `pages` pages from `address`. */
  invalidate(hwpt: number, address = 0n, pages = 0xffff_ffff_ffff_ffffn): string {
    const { user, client } = this;
    const entry = uapi.iommu_hwpt_vtd_s1_invalidate;
    user.write(client.payload, entry.encode({ addr: address, npages: pages }));
    return user.refused(
      client.fd,
      uapi.IOMMUFD_CMD.IOMMU_HWPT_INVALIDATE,
      uapi.iommu_hwpt_invalidate,
      {
        hwpt_id: hwpt,
        data_uptr: BigInt(client.payload),
        data_type: uapi.IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
        entry_len: entry.size,
        entry_num: 1,
      },
    );
  }

  /** One submission, ENQCMD or MOVDIR64B as the queue wants it. False: retry. */
  submit(descriptor: DescriptorInit, wq: number = WQ.SHARED): boolean {
    const { memory } = this.user.process;
    const bytes = encodeDescriptor(descriptor);
    const portal = this.#portals + portalOffset(wq);
    if (wq !== WQ.PLAIN) return memory.enqcmd(portal, bytes);
    memory.movdir64b(portal, bytes);
    return true;
  }

  /**
   * Submits a MEMMOVE whose completion record is at `record` (the client's address) and lets the
   * world come to rest. `seen` reads the record's bytes.
   */
  move(
    values: Omit<DescriptorInit, 'opcode' | 'completion'> & { readonly record: bigint },
    seen: () => Uint8Array,
    wq: number = WQ.SHARED,
  ): Completion {
    const { record, flags = 0, ...rest } = values;
    const asked = DescriptorFlag.COMPLETION_VALID | DescriptorFlag.REQUEST_COMPLETION | flags;
    const descriptor = { opcode: Opcode.MEMMOVE, ...rest, flags: asked, completion: record };
    if (!this.submit(descriptor, wq)) throw new Error('the queue refused');
    this.rig.settle();
    return decodeCompletion(seen());
  }

  /** Ends the program: what it has goes. */
  exit(): void {
    this.user.process.kill();
    this.rig.settle();
  }
}

/** A client's address space under one PASID: two data pages, and one for completion records. */
export interface Space {
  readonly pasid: number;
  readonly table: FirstStage;
  readonly source: { readonly va: bigint; readonly gpa: number; readonly leaf: number };
  readonly target: { readonly va: bigint; readonly gpa: number; readonly leaf: number };
  readonly record: { readonly va: bigint; readonly gpa: number };
}

/** Source filled with `value`, target zero. The addresses differ from those of any other base. */
export function makeSpace(ram: GuestRam, pasid: number, base: bigint, value: number): Space {
  const table = new FirstStage(ram);
  const page = (n: bigint): { va: bigint; gpa: number; leaf: number } => {
    const gpa = ram.take();
    const va = base + n * 4096n;
    return { va, gpa, leaf: table.map(va, gpa) };
  };
  const [source, target, record] = [page(0n), page(1n), page(2n)];
  ram.fill(source.gpa, PAGE, value);
  ram.fill(target.gpa, PAGE, 0);
  return { pasid, table, source, target, record };
}

/** The record of `space`, empty again. */
export function clearRecord(ram: GuestRam, space: Space): void {
  ram.fill(space.record.gpa, COMPLETION_BYTES, 0);
}

export const isAll = (bytes: Uint8Array, value: number): boolean =>
  bytes.every((byte) => byte === value);

export const isSame = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
