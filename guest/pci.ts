/** PCI functions through ECAM: discovery, BARs, and the PASID, ATS, PRI and MSI-X capabilities. */
import type { EcamWindow } from '../devices/spec/acpi.ts';
import {
  AtsCap,
  barSizeFromMask,
  ecamAddress,
  findCapability,
  findExtCapability,
  MsixCap,
  MsixEntry,
  NO_DEVICE,
  PasidCap,
  PciBar,
  PciCap,
  PciCommand,
  PciExtCap,
  PciHeader,
  PciHeaderType,
  PriCap,
  rid as ridOf,
  ridToString,
} from '../devices/spec/pci.ts';
import { guest } from '../trace/catalogue/guest.ts';
import type { Core } from './core.ts';
import { GuestError } from './errno.ts';
import type { IrqLine } from './irq.ts';
import { mmioRead, mmioWrite } from './mmio.ts';
import type { Task } from './task.ts';

export interface Bar {
  readonly address: number;
  readonly bytes: number;
}

const MAX_DEVICE = 31;
const CONFIG_DWORDS = 1024;

/** One function. Configuration space is read once as a snapshot and then register by register. */
export class PciFunction {
  readonly rid: number;
  readonly vendor: number;
  readonly device: number;
  readonly multiFunction: boolean;
  /** By BAR index; undefined where there is none. */
  readonly bars: (Bar | undefined)[] = [];
  readonly #ecam: number;
  readonly #caps = new Map<string, number>();

  constructor(ecam: number, rid: number, id: number, headerType: number) {
    this.#ecam = ecam;
    this.rid = rid;
    this.vendor = id & 0xffff;
    this.device = id >>> 16;
    this.multiFunction = (headerType & PciHeaderType.MULTI_FUNCTION) !== 0;
  }

  get name(): string {
    return ridToString(this.rid);
  }

  *read(register: number, size: 1 | 2 | 4): Task<number> {
    return Number(yield* mmioRead(ecamAddress(this.#ecam, this.rid, register), size));
  }

  *write(register: number, size: 1 | 2 | 4, value: number): Task {
    yield* mmioWrite(ecamAddress(this.#ecam, this.rid, register), size, value);
  }

  /** Offset of a capability (0: none), known after {@link probe}. */
  cap(id: number): number {
    return this.#caps.get(`cap ${id}`) ?? 0;
  }

  extCap(id: number): number {
    return this.#caps.get(`ext ${id}`) ?? 0;
  }

  /** Finds the capabilities and the BARs that firmware assigned. */
  *probe(): Task {
    const words = yield* this.#snapshot();
    const read32 = (at: number): number => words[at >>> 2] ?? NO_DEVICE;
    const read8 = (at: number): number => (read32(at) >>> (8 * (at & 3))) & 0xff;
    for (const id of Object.values(PciCap)) this.#caps.set(`cap ${id}`, findCapability(read8, id));
    for (const id of Object.values(PciExtCap)) {
      this.#caps.set(`ext ${id}`, findExtCapability(read32, id));
    }
    for (let index = 0; index < 6; index++) {
      const low = read32(PciHeader.BAR0 + 4 * index);
      const is64 = (low & PciBar.TYPE_MASK) === PciBar.TYPE_64;
      this.bars[index] = yield* this.#probeBar(index, low, is64);
      if (is64) this.bars[++index] = undefined;
    }
  }

  /** Reads only what a capability chain can need: until the chain's end is known to be read. */
  *#snapshot(): Task<number[]> {
    const words: number[] = [];
    const conventional = 64;
    for (let i = 0; i < conventional; i++) words.push(yield* this.read(4 * i, 4));
    let next = 0x100;
    for (let hops = 0; hops < 48 && next >= 0x100; hops++) {
      const index = next >>> 2;
      if (words[index] !== undefined || index >= CONFIG_DWORDS) break;
      const header = yield* this.read(next, 4);
      words[index] = header;
      next = header === NO_DEVICE ? 0 : (header >>> 20) & 0xffc;
    }
    return words;
  }

  /** Sizes a memory BAR with decoding off, as Linux does; I/O BARs are left alone. */
  *#probeBar(index: number, low: number, is64: boolean): Task<Bar | undefined> {
    if ((low & PciBar.SPACE_IO) !== 0) return undefined;
    const at = PciHeader.BAR0 + 4 * index;
    const high = is64 ? yield* this.read(at + 4, 4) : 0;
    const command = yield* this.read(PciHeader.COMMAND, 2);
    yield* this.write(PciHeader.COMMAND, 2, command & ~PciCommand.MEMORY);
    yield* this.write(at, 4, NO_DEVICE);
    if (is64) yield* this.write(at + 4, 4, NO_DEVICE);
    const maskLow = yield* this.read(at, 4);
    const maskHigh = is64 ? yield* this.read(at + 4, 4) : 0;
    yield* this.write(at, 4, low);
    if (is64) yield* this.write(at + 4, 4, high);
    yield* this.write(PciHeader.COMMAND, 2, command);
    const bytes = barSizeFromMask(maskLow, maskHigh);
    if (bytes === 0) return undefined;
    return { address: barAddress(low, high), bytes };
  }

  /** The BAR with that index. Throws GuestError ENODEV when it is missing or too small. */
  bar(index: number, minBytes: number): Bar {
    const bar = this.bars[index];
    if (bar === undefined || bar.address === 0 || bar.bytes < minBytes) {
      throw new GuestError('ENODEV', `${this.name}: BAR${index} has no ${minBytes} bytes`);
    }
    return bar;
  }

  /** Memory decoding, and bus mastering if asked for. */
  *enable(busMaster: boolean): Task {
    const command = yield* this.read(PciHeader.COMMAND, 2);
    const bits = PciCommand.MEMORY | (busMaster ? PciCommand.BUS_MASTER : 0);
    yield* this.write(PciHeader.COMMAND, 2, command | bits);
  }

  /** PASID width in bits, 0 without the capability. */
  *pasidBits(): Task<number> {
    const at = this.extCap(PciExtCap.PASID);
    if (at === 0) return 0;
    const capability = yield* this.read(at + PasidCap.CAPABILITY, 2);
    return (capability & PasidCap.CAPABILITY_WIDTH_MASK) >>> PasidCap.CAPABILITY_WIDTH_SHIFT;
  }

  /** Turns PASIDs on, with privileged mode if the device has it. Before ATS (PCIe, PASID control). */
  *enablePasid(): Task {
    const at = this.extCap(PciExtCap.PASID);
    const capability = yield* this.read(at + PasidCap.CAPABILITY, 2);
    const features = capability & PasidCap.CAPABILITY_PRIVILEGED;
    yield* this.write(at + PasidCap.CONTROL, 2, PasidCap.CONTROL_ENABLE | features);
  }

  /** The ATS capability: invalidate queue depth (1 to 32), or null if it cannot be used. */
  *atsQueueDepth(): Task<number | null> {
    const at = this.extCap(PciExtCap.ATS);
    if (at === 0) return null;
    const capability = yield* this.read(at + AtsCap.CAPABILITY, 2);
    if ((capability & AtsCap.CAPABILITY_PAGE_ALIGNED) === 0) return null;
    return capability & AtsCap.CAPABILITY_QUEUE_DEPTH_MASK || 32;
  }

  /** ATS with the smallest translation unit of 4 KiB (STU 0). */
  *enableAts(): Task {
    yield* this.write(this.extCap(PciExtCap.ATS) + AtsCap.CONTROL, 2, AtsCap.CONTROL_ENABLE);
  }

  *resetPri(): Task {
    const at = this.extCap(PciExtCap.PRI);
    yield* this.write(at + PriCap.CONTROL, 2, PriCap.CONTROL_RESET);
  }

  /**
   * Page requests on, with at most `requests` outstanding (pci_enable_pri). Throws GuestError EBUSY
   * when the function has not stopped.
   */
  *enablePri(requests: number): Task {
    const at = this.extCap(PciExtCap.PRI);
    const status = yield* this.read(at + PriCap.STATUS, 2);
    if ((status & PriCap.STATUS_STOPPED) === 0) {
      throw new GuestError('EBUSY', `${this.name}: page requests have not stopped`);
    }
    const max = yield* this.read(at + PriCap.MAX_REQUESTS, 4);
    yield* this.write(at + PriCap.ALLOCATION, 4, Math.min(max, requests));
    yield* this.write(at + PriCap.CONTROL, 2, PriCap.CONTROL_ENABLE);
  }

  /** Whether page group responses must carry the PASID (PRI status bit 15). */
  *prgResponseNeedsPasid(): Task<boolean> {
    const status = yield* this.read(this.extCap(PciExtCap.PRI) + PriCap.STATUS, 2);
    return (status & PriCap.STATUS_PRG_RESPONSE_PASID) !== 0;
  }

  /**
   * Programs MSI-X vectors 0.. with these lines, leaves the others masked and turns MSI-X on.
   * Throws GuestError ENODEV without the capability or with too few vectors.
   */
  *enableMsix(lines: readonly IrqLine[]): Task {
    const at = this.cap(PciCap.MSIX);
    if (at === 0) throw new GuestError('ENODEV', `${this.name}: no MSI-X capability`);
    const control = yield* this.read(at + MsixCap.CONTROL, 2);
    const size = (control & MsixCap.CONTROL_SIZE_MASK) + 1;
    if (size < lines.length) {
      throw new GuestError('ENODEV', `${this.name}: ${size} vectors, needs ${lines.length}`);
    }
    const where = yield* this.read(at + MsixCap.TABLE, 4);
    const bir = where & MsixCap.BIR_MASK;
    const table = this.bar(bir, MsixEntry.BYTES * size).address + (where - bir);
    const masked = control | MsixCap.CONTROL_ENABLE | MsixCap.CONTROL_FUNCTION_MASK;
    yield* this.write(at + MsixCap.CONTROL, 2, masked);
    for (const [vector, line] of lines.entries()) {
      const entry = table + MsixEntry.BYTES * vector;
      yield* mmioWrite(entry + MsixEntry.ADDRESS_LOW, 4, line.address);
      yield* mmioWrite(entry + MsixEntry.ADDRESS_HIGH, 4, 0);
      yield* mmioWrite(entry + MsixEntry.DATA, 4, line.data);
      yield* mmioWrite(entry + MsixEntry.VECTOR_CONTROL, 4, 0);
    }
    yield* this.write(at + MsixCap.CONTROL, 2, masked & ~MsixCap.CONTROL_FUNCTION_MASK);
  }
}

/** A BAR's address from its two words. */
function barAddress(low: number, high: number): number {
  return (high >>> 0) * 2 ** 32 + ((low & ~PciBar.MEMORY_FLAGS_MASK) >>> 0);
}

/** Every function on the first bus of every window (the machine has no bridges). */
export function* scanPci(core: Core, windows: readonly EcamWindow[]): Task<PciFunction[]> {
  const found: PciFunction[] = [];
  for (const window of windows) {
    for (let device = 0; device <= MAX_DEVICE; device++) {
      yield* scanDevice(core, window, device, found);
    }
  }
  return found;
}

function* scanDevice(core: Core, window: EcamWindow, device: number, found: PciFunction[]): Task {
  for (let fn = 0; fn < 8; fn++) {
    const rid = ridOf(window.startBus, device, fn);
    const id = Number(yield* mmioRead(ecamAddress(window.base, rid, PciHeader.VENDOR_ID), 4));
    if (id === NO_DEVICE || id === 0) {
      if (fn === 0) return;
      continue;
    }
    const type = ecamAddress(window.base, rid, PciHeader.HEADER_TYPE);
    const headerType = Number(yield* mmioRead(type, 1));
    const pci = new PciFunction(window.base, rid, id, headerType);
    yield* pci.probe();
    found.push(pci);
    yield* report(core, pci);
    if (!pci.multiFunction) return;
  }
}

function* report(core: Core, pci: PciFunction): Task {
  const pasidBits = yield* pci.pasidBits();
  core.trace.emit(guest.pciFound, {
    vm: core.vm,
    rid: pci.name,
    vendor: pci.vendor,
    device: pci.device,
    pasidBits,
    ats: pci.extCap(PciExtCap.ATS) === 0 ? 0 : 1,
    pri: pci.extCap(PciExtCap.PRI) === 0 ? 0 : 1,
  });
}
