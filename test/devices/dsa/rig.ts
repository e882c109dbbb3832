/** An accelerator on a bus of the tests' own: memory, translations, and a log of what it does. */
import type { Clock } from '../../../devices/clock.ts';
import { DsaDevice } from '../../../devices/dsa/dsa.ts';
import type { DsaModel } from '../../../devices/dsa/model.ts';
import type {
  AddressType,
  AtsReply,
  CompletionStatus,
  Fabric,
} from '../../../devices/pci/fabric.ts';
import { AT, CPL } from '../../../devices/pci/fabric.ts';
import { type DsaCapabilities, dsaCapabilities } from '../../../devices/spec/dsa/capabilities.ts';
import { type Completion, decodeCompletion } from '../../../devices/spec/dsa/completion.ts';
import { type DescriptorInit, encodeDescriptor } from '../../../devices/spec/dsa/descriptor.ts';
import { DescriptorFlag as F } from '../../../devices/spec/dsa/opcodes.ts';
import { CmdReg, DsaCommand, DsaPci, DsaReg } from '../../../devices/spec/dsa/registers.ts';
import {
  encodeWqcfg,
  Grpcfg,
  portalOffset,
  type WqConfig,
} from '../../../devices/spec/dsa/tables.ts';
import {
  AtsCap,
  MsixCap,
  MsixEntry,
  PasidCap,
  PciCommand,
  PciHeader,
  PriCap,
} from '../../../devices/spec/pci.ts';
import type { EventRecord } from '../../../trace/event.ts';
import { Tracer } from '../../../trace/tracer.ts';

export const RID = 0x08;
export const CAP = { PCIE: 0x40, MSIX: 0x80, ATS: 0x100, PRI: 0x108, PASID: 0x118 } as const;
export const RECORD = F.COMPLETION_VALID | F.REQUEST_COMPLETION;
const PAGE = 4096;

export class TestClock implements Clock {
  now = 0;
  #sequence = 0;
  #events: { at: number; sequence: number; cause: number; action: () => void }[] = [];
  trace: Tracer | null = null;

  after(ns: number, action: () => void): void {
    if (!Number.isInteger(ns) || ns < 0) throw new Error(`a delay of ${ns}`);
    const cause = this.trace?.cause ?? 0;
    this.#events.push({ at: this.now + ns, sequence: this.#sequence++, cause, action });
  }

  step(): boolean {
    let first = this.#events[0];
    if (first === undefined) return false;
    for (const event of this.#events) {
      if (event.at < first.at || (event.at === first.at && event.sequence < first.sequence)) {
        first = event;
      }
    }
    this.#events = this.#events.filter((event) => event !== first);
    this.now = first.at;
    if (this.trace !== null) this.trace.cause = first.cause;
    first.action();
    if (this.trace !== null) this.trace.cause = 0;
    return true;
  }

  /** Runs until nothing is left; throws when that does not come about. */
  run(until: () => boolean = () => false): void {
    for (let i = 0; i < 200_000; i++) if (until() || !this.step()) return;
    throw new Error('the device does not come to rest');
  }
}

interface Mapping {
  pfn: number;
  write: boolean;
  shift: number;
  untranslatedOnly: boolean;
}

export interface PageRequestSeen {
  pasid: number;
  priv: boolean;
  vpn: number;
  read: boolean;
  write: boolean;
  last: boolean;
  prgi: number;
}

/** Memory and an IOMMU as simple as can be: one table of pages for each PASID. */
export class TestFabric implements Fabric {
  readonly memory = new Uint8Array(2048 * PAGE);
  readonly tables = new Map<number, Map<number, Mapping>>();
  readonly requests: PageRequestSeen[] = [];
  readonly completions: number[] = [];
  readonly messages: { address: number; data: number }[] = [];
  readonly asked: { pasid: number; priv: boolean; vpn: number; noWrite: boolean }[] = [];
  /** Writes and copies that arrived, in order. */
  readonly writes: { type: AddressType; page: number; offset: number; length: number }[] = [];
  refuse: CompletionStatus = CPL.SUCCESS;
  /** Physical pages that answer every translated access with completer abort. */
  readonly poisoned = new Set<number>();
  onPageRequest: ((request: PageRequestSeen) => void) | null = null;
  #nextFrame = 1;

  table(pasid: number): Map<number, Mapping> {
    let table = this.tables.get(pasid);
    if (table === undefined) this.tables.set(pasid, (table = new Map<number, Mapping>()));
    return table;
  }

  /** Maps pages to frames that are not next to each other. */
  map(pasid: number, address: number, bytes: number, write = true): void {
    for (let vpn = Math.floor(address / PAGE); vpn * PAGE < address + bytes; vpn++) {
      const pfn = this.#nextFrame;
      this.#nextFrame += 2;
      this.table(pasid).set(vpn, { pfn, write, shift: 12, untranslatedOnly: false });
    }
  }

  unmap(pasid: number, address: number, bytes: number): void {
    for (let vpn = Math.floor(address / PAGE); vpn * PAGE < address + bytes; vpn++) {
      this.table(pasid).delete(vpn);
    }
  }

  #spot(pasid: number, address: number): number {
    const mapping = this.table(pasid).get(Math.floor(address / PAGE));
    if (mapping === undefined) throw new Error(`0x${address.toString(16)} is not mapped`);
    return mapping.pfn * PAGE + (address % PAGE);
  }

  poke(pasid: number, address: number, bytes: Uint8Array): void {
    bytes.forEach((byte, i) => (this.memory[this.#spot(pasid, address + i)] = byte));
  }

  peek(pasid: number, address: number, length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, i) => this.memory[this.#spot(pasid, address + i)]!);
  }

  translate(
    rid: number,
    pasid: number,
    priv: boolean,
    vpn: number,
    noWrite: boolean,
    reply: AtsReply,
  ): void {
    if (rid !== RID) throw new Error(`requester ${rid}`);
    this.asked.push({ pasid, priv, vpn, noWrite });
    reply.status = this.refuse;
    const mapping = this.table(pasid).get(vpn);
    reply.read = mapping !== undefined;
    reply.write = mapping?.write === true;
    reply.pfn = mapping?.pfn ?? 0;
    reply.shift = mapping?.shift ?? 12;
    reply.untranslatedOnly = mapping?.untranslatedOnly === true;
  }

  #frame(pasid: number, type: AddressType, page: number, write: boolean): number {
    if (type === AT.TRANSLATED) return this.poisoned.has(page) ? -1 : page;
    const mapping = this.table(pasid).get(page);
    return mapping === undefined || (write && !mapping.write) ? -1 : mapping.pfn;
  }

  read(
    _rid: number,
    pasid: number,
    _priv: boolean,
    type: AddressType,
    page: number,
    offset: number,
    into: Uint8Array,
    at: number,
    length: number,
  ): CompletionStatus {
    inPage(offset, length);
    const frame = this.#frame(pasid, type, page, false);
    if (frame < 0) return CPL.UNSUPPORTED_REQUEST;
    for (let i = 0; i < length; i++) into[at + i] = this.memory[frame * PAGE + offset + i]!;
    return CPL.SUCCESS;
  }

  write(
    _rid: number,
    pasid: number,
    _priv: boolean,
    type: AddressType,
    page: number,
    offset: number,
    from: Uint8Array,
    at: number,
    length: number,
  ): CompletionStatus {
    inPage(offset, length);
    const frame = this.#frame(pasid, type, page, true);
    if (frame < 0) return CPL.UNSUPPORTED_REQUEST;
    this.writes.push({ type, page, offset, length });
    for (let i = 0; i < length; i++) this.memory[frame * PAGE + offset + i] = from[at + i]!;
    return CPL.SUCCESS;
  }

  copy(
    _rid: number,
    srcPfn: number,
    srcOffset: number,
    dstPfn: number,
    dstOffset: number,
    length: number,
  ): CompletionStatus {
    inPage(srcOffset, length);
    inPage(dstOffset, length);
    if (this.poisoned.has(srcPfn) || this.poisoned.has(dstPfn)) return CPL.COMPLETER_ABORT;
    const from = srcPfn * PAGE + srcOffset;
    this.writes.push({ type: AT.TRANSLATED, page: dstPfn, offset: dstOffset, length });
    this.memory.copyWithin(dstPfn * PAGE + dstOffset, from, from + length);
    return CPL.SUCCESS;
  }

  pageRequest(
    _rid: number,
    pasid: number,
    priv: boolean,
    vpn: number,
    read: boolean,
    write: boolean,
    last: boolean,
    prgi: number,
  ): void {
    const request = { pasid, priv, vpn, read, write, last, prgi };
    this.requests.push(request);
    this.onPageRequest?.(request);
  }

  invalidateComplete(_rid: number, itag: number): void {
    this.completions.push(itag);
  }

  msi(_rid: number, address: number, data: number): void {
    this.messages.push({ address, data });
  }
}

function inPage(offset: number, length: number): void {
  if (offset < 0 || length <= 0 || offset + length > PAGE) {
    throw new Error(`${length} bytes at ${offset} leave their page`);
  }
}

export class Rig {
  readonly clock = new TestClock();
  readonly fabric = new TestFabric();
  readonly trace: Tracer;
  readonly dsa: DsaDevice;
  readonly caps: DsaCapabilities;
  readonly events: EventRecord[] = [];

  constructor(model: Partial<DsaModel> = {}, traced = false) {
    const { clock, fabric } = this;
    this.trace = new Tracer(() => clock.now);
    if (traced) {
      clock.trace = this.trace;
      this.trace.listen((record) => this.events.push(record));
    }
    this.caps = dsaCapabilities(model.capabilities ?? {});
    this.dsa = new DsaDevice({ rid: RID, fabric, clock, trace: this.trace, model });
  }

  read(offset: number, size: 1 | 2 | 4 | 8 = 4): bigint {
    return this.dsa.barRead(0, offset, size);
  }

  read32(offset: number): number {
    return Number(this.read(offset, 4));
  }

  write(offset: number, value: number | bigint, size: 1 | 2 | 4 | 8 = 4): void {
    this.dsa.barWrite(0, offset, size, BigInt(value));
  }

  get active(): boolean {
    return this.read32(DsaReg.CMDSTS) >>> 31 === 1;
  }

  /** Starts a command. */
  start(command: number, operand = 0, interrupt = 0): void {
    this.write(DsaReg.CMD, CmdReg.encode({ command, operand, interrupt }));
  }

  /** Carries a command out and returns CMDSTS. */
  command(command: number, operand = 0, interrupt = 0): number {
    this.start(command, operand, interrupt);
    this.clock.run(() => !this.active);
    return this.read32(DsaReg.CMDSTS);
  }

  busMaster(on: boolean): void {
    const value = PciCommand.MEMORY | (on ? PciCommand.BUS_MASTER : 0) | PciCommand.INTX_DISABLE;
    this.dsa.configWrite(PciHeader.COMMAND, 2, value);
  }

  /** PASID, then ATS, then page requests, as Linux enables them. */
  enablePci(
    options: { pri?: boolean; ats?: boolean; pasid?: boolean; allocation?: number } = {},
  ): void {
    const { pri = true, ats = true, pasid = true, allocation = 32 } = options;
    this.busMaster(true);
    const control = PasidCap.CONTROL_ENABLE | PasidCap.CONTROL_PRIVILEGED;
    if (pasid) this.dsa.configWrite(CAP.PASID + PasidCap.CONTROL, 2, control);
    if (ats) this.dsa.configWrite(CAP.ATS + AtsCap.CONTROL, 2, AtsCap.CONTROL_ENABLE);
    if (pri) {
      this.dsa.configWrite(CAP.PRI + PriCap.ALLOCATION, 4, allocation);
      this.dsa.configWrite(CAP.PRI + PriCap.CONTROL, 2, PriCap.CONTROL_ENABLE);
    }
  }

  writeWq(wq: number, config: Partial<WqConfig>): void {
    const at = this.caps.wqcfgOffset + wq * this.caps.wqcfgStride;
    encodeWqcfg(config).forEach((word, i) => this.write(at + 4 * i, word));
  }

  /** One group of the first `engines` engines with all the queues given; everything enabled. */
  enable(queues: readonly Partial<WqConfig>[] = [{}], engines = 1): void {
    queues.forEach((config, wq) =>
      this.writeWq(wq, { ...SHARED, opConfig: this.caps.opcap, ...config }),
    );
    const group = this.caps.grpcfgOffset;
    this.write(group + Grpcfg.WQ_BITMAP, (1n << BigInt(queues.length)) - 1n, 8);
    this.write(group + Grpcfg.ENGINE_BITMAP, (1n << BigInt(engines)) - 1n, 8);
    const enabled = [this.command(DsaCommand.ENABLE_DEVICE)];
    queues.forEach((_, wq) => enabled.push(this.command(DsaCommand.ENABLE_WQ, wq)));
    if (enabled.some((status) => status !== 0)) throw new Error(`CMDSTS ${enabled.join()}`);
  }

  /** The usual: PASIDs, ATS and page requests on, one shared queue that may block on faults. */
  static shared(model: Partial<DsaModel> = {}, traced = false): Rig {
    const rig = new Rig(model, traced);
    rig.enablePci();
    rig.enable([{ blockOnFault: 1 }]);
    return rig;
  }

  enqueue(descriptor: DescriptorInit, wq = 0, limited = false): boolean {
    return this.dsa.barEnqueue(2, portalOffset(wq, { limited }), encodeDescriptor(descriptor));
  }

  post(descriptor: DescriptorInit, wq = 0): void {
    this.dsa.barWrite64(2, portalOffset(wq), encodeDescriptor(descriptor));
  }

  record(pasid: number, address: number | bigint): Completion {
    return decodeCompletion(this.fabric.peek(pasid, Number(address), 32));
  }

  /** Submits, runs the device to rest and returns the record (which must be mapped). */
  execute(descriptor: DescriptorInit): Completion {
    if (!this.enqueue(descriptor)) throw new Error('not accepted');
    this.clock.run();
    return this.record(descriptor.pasid ?? 0, descriptor.completion ?? 0n);
  }

  respond(request: PageRequestSeen, code = 0): void {
    this.dsa.pageGroupResponse(request.pasid, request.prgi, code);
  }

  enableMsix(): void {
    for (let vector = 0; vector < this.caps.msixVectors; vector++) {
      const at = DsaPci.MSIX_TABLE_OFFSET + vector * MsixEntry.BYTES;
      this.write(at + MsixEntry.ADDRESS_LOW, 0xfee0_0000);
      this.write(at + MsixEntry.DATA, 0x40 + vector);
      this.write(at + MsixEntry.VECTOR_CONTROL, 0);
    }
    this.dsa.configWrite(CAP.MSIX + MsixCap.CONTROL, 2, MsixCap.CONTROL_ENABLE);
  }

  /** Vectors whose messages were sent. */
  get vectors(): number[] {
    return this.fabric.messages.map(({ data }) => data - 0x40);
  }
}

export const SHARED: Partial<WqConfig> = {
  size: 16,
  threshold: 8,
  priority: 1,
  pasidEnable: 1,
  maxTransferShift: 21,
  maxBatchShift: 5,
};

/** Bytes that differ from page to page. */
export function noise(length: number, seed = 1): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state >>> 24;
  });
}
