/** A unit on a bench: memory, a clock, a logging world, and software's side of the registers. */
import type { Clock } from '../../../devices/clock.ts';
import type { PhysicalMemory } from '../../../devices/memory.ts';
import { AT, CPL, NO_PASID } from '../../../devices/pci/fabric.ts';
import type { Descriptor } from '../../../devices/spec/vtd/invalidation.ts';
import { CAP, ECAP, HOST_CAP, HOST_ECAP } from '../../../devices/spec/vtd/registers.ts';
import { RestlessUnit } from '../../../devices/vtd/restless-unit.ts';
import { VtdUnit } from '../../../devices/vtd/unit.ts';
import type { VtdWorld } from '../../../devices/vtd/world.ts';
import { Tracer } from '../../../trace/tracer.ts';
import { Tables } from './tables.ts';

export const SID = 0x0108;
export const OK = CPL.SUCCESS;
export const UR = CPL.UNSUPPORTED_REQUEST;
export const CA = CPL.COMPLETER_ABORT;

export class TestClock implements Clock {
  now = 0;
  /** Whose cause travels with the calls. */
  trace: Tracer | null = null;
  #queue: { at: number; n: number; cause: number; action: () => void }[] = [];
  #n = 0;

  after(ns: number, action: () => void): void {
    const cause = this.trace?.cause ?? 0;
    this.#queue.push({ at: this.now + ns, n: this.#n++, cause, action });
  }

  /** Runs what is due within `ns`, then stands at that time. */
  run(ns: number): void {
    const end = this.now + ns;
    for (;;) {
      this.#queue.sort((a, b) => a.at - b.at || a.n - b.n);
      const next = this.#queue[0];
      if (next === undefined || next.at > end) break;
      this.#queue.shift();
      this.now = next.at;
      if (this.trace !== null) this.trace.cause = next.cause;
      next.action();
      if (this.trace !== null) this.trace.cause = 0;
    }
    this.now = end;
  }
}

/** RAM in one buffer; `flat` false hides it from the fast walks, as a guest's memory is. */
export class TestMemory implements PhysicalMemory {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  readonly #size: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(size: number, flat: boolean, buffer = new ArrayBuffer(size)) {
    this.#size = size;
    this.#bytes = new Uint8Array(buffer);
    this.#view = new DataView(buffer);
    this.bytes = flat ? this.#bytes : new Uint8Array();
    this.words = flat ? new Int32Array(buffer) : new Int32Array();
  }

  #check(address: number, length: number, align: number): void {
    if (!this.contains(address, length) || address % align !== 0) {
      throw new Error(`bad access ${address}+${length}`);
    }
  }

  contains(address: number, length: number): boolean {
    return address >= 0 && address + length <= this.#size;
  }

  read32(address: number): number {
    this.#check(address, 4, 4);
    return this.#view.getInt32(address, true);
  }

  write32(address: number, value: number): void {
    this.#check(address, 4, 4);
    this.#view.setInt32(address, value, true);
  }

  read64(address: number): bigint {
    this.#check(address, 8, 8);
    return this.#view.getBigUint64(address, true);
  }

  write64(address: number, value: bigint): void {
    this.#check(address, 8, 8);
    this.#view.setBigUint64(address, value, true);
  }

  read(address: number, into: Uint8Array): void {
    this.#check(address, into.length, 1);
    into.set(this.#bytes.subarray(address, address + into.length));
  }

  write(address: number, from: Uint8Array): void {
    this.#check(address, from.length, 1);
    this.#bytes.set(from, address);
  }
}

export interface BenchOptions {
  cap?: Partial<Record<keyof ReturnType<typeof CAP.decode>, number>>;
  ecap?: Partial<Record<keyof ReturnType<typeof ECAP.decode>, number>>;
  haw?: number;
  flat?: boolean;
  bytes?: number;
  memory?: TestMemory;
  forward?: (descriptor: Descriptor) => boolean;
  /** Functions answer invalidate requests by themselves, unless false. */
  answers?: boolean;
  /** Byte addresses where locked updates fail. */
  refusesUpdates?: (address: number) => boolean;
  cacheNotPresent?: boolean;
  /** Caches that evict and prefetch at random, by this seed. */
  restless?: number;
  trace?: Tracer;
}

export interface Invalidation {
  sid: number;
  itag: number;
  pasid: number;
  global: boolean;
  vpn: number;
  shift: number;
}

export class Bench {
  readonly memory: TestMemory;
  readonly clock = new TestClock();
  readonly trace: Tracer;
  readonly tables: Tables;
  readonly unit: VtdUnit;
  readonly root: bigint;
  readonly msis: { address: number; data: number }[] = [];
  readonly invalidations: Invalidation[] = [];
  readonly responses: { sid: number; pasid: number; prgi: number; code: number }[] = [];
  readonly remapped: string[] = [];
  readonly forwarded: Descriptor[] = [];
  /** Functions that exist. */
  functions = new Set([SID]);
  #queue = 0n;
  #tail = 0;
  #queueBytes = 4096;
  #width = 32;

  constructor(options: BenchOptions = {}) {
    this.memory = options.memory ?? new TestMemory(options.bytes ?? 1 << 24, options.flat ?? true);
    this.trace = options.trace ?? new Tracer(() => this.clock.now);
    this.clock.trace = this.trace;
    this.tables = new Tables(this.memory);
    const { forward, answers = true } = options;
    const world: VtdWorld = {
      memory: this.memory,
      clock: this.clock,
      ...(options.refusesUpdates === undefined
        ? {}
        : { atomics: (address: number) => options.refusesUpdates?.(address) !== true }),
      interrupt: (address, data) => this.msis.push({ address, data }),
      deviceInvalidate: (sid, itag, pasid, global, vpn, shift) => {
        this.invalidations.push({ sid, itag, pasid, global, vpn, shift });
        if (!this.functions.has(sid)) return false;
        if (answers) this.clock.after(500, () => this.unit.invalidateComplete(sid, itag));
        return true;
      },
      pageGroupResponse: (sid, pasid, prgi, code) =>
        this.responses.push({ sid, pasid, prgi, code }),
      remapped: (change) => this.remapped.push(change),
      ...(forward === undefined
        ? {}
        : {
            forward: (descriptor: Descriptor) => {
              this.forwarded.push(descriptor);
              return forward(descriptor);
            },
          }),
    };
    const cap = CAP.encode({ ...CAP.decode([HOST_CAP]), ...options.cap })[0]!;
    const ecap = ECAP.encode({ ...ECAP.decode([HOST_ECAP]), ...options.ecap })[0]!;
    const { haw = 46 } = options;
    const { cacheNotPresent = false, restless } = options;
    const unit = { cap, ecap, haw, world, trace: this.trace, name: 'host', cacheNotPresent };
    this.unit =
      restless === undefined ? new VtdUnit(unit) : new RestlessUnit({ ...unit, seed: restless });
    this.root = this.tables.page();
  }

  r32(offset: number): number {
    return Number(this.unit.readRegister(offset, 4));
  }

  r64(offset: number): bigint {
    return this.unit.readRegister(offset, 8);
  }

  w32(offset: number, value: number): void {
    this.unit.writeRegister(offset, 4, BigInt(value >>> 0));
  }

  w64(offset: number, value: bigint): void {
    this.unit.writeRegister(offset, 8, value);
  }

  /** Sets the root pointer with TTM `ttm` and turns remapping on. */
  enable(ttm = 1): void {
    this.setRoot(ttm);
    this.gcmd(0x8000_0000, true);
  }

  setRoot(ttm = 1): void {
    this.w64(0x20, this.root | (BigInt(ttm) << 10n));
    this.w32(0x18, ((this.r32(0x1c) & 0x96ff_ffff) | 0x4000_0000) >>> 0);
  }

  /** The recipe of the specification for one persistent bit of GCMD. */
  gcmd(bit: number, on: boolean): void {
    const kept = this.r32(0x1c) & 0x96ff_ffff;
    this.w32(0x18, (on ? kept | bit : kept & ~bit) >>> 0);
  }

  /** Sets up a one-page invalidation queue and turns it on. */
  enableQueue(width = 32): void {
    this.#queue = this.tables.page();
    this.#width = width;
    this.#tail = 0;
    this.w64(0x88, 0n);
    this.w64(0x90, this.#queue | (width === 32 ? 1n << 11n : 0n));
    this.gcmd(0x0400_0000, true);
  }

  get queueBase(): bigint {
    return this.#queue;
  }

  get tail(): number {
    return this.#tail;
  }

  /** Puts a descriptor in the next slot without moving the tail register; returns its address. */
  put(qw0: bigint, qw1 = 0n): bigint {
    const at = this.#queue + BigInt(this.#tail);
    this.tables.write(at, qw0);
    this.tables.write(at + 8n, qw1);
    if (this.#width === 32) {
      this.tables.write(at + 16n, 0n);
      this.tables.write(at + 24n, 0n);
    }
    this.#tail = (this.#tail + this.#width) % this.#queueBytes;
    return at;
  }

  ring(): void {
    this.w32(0x88, this.#tail);
  }

  /** Submits descriptors and gives the unit time; 5 microseconds are enough for some dozens. */
  submit(descriptors: readonly (readonly [bigint, bigint])[], ns = 5000): void {
    for (const [qw0, qw1] of descriptors) this.put(qw0, qw1);
    this.ring();
    this.clock.run(ns);
  }

  /** An untranslated request; the frame's byte address, or the fault code negated. */
  dma(va: bigint, options: { pasid?: number; write?: boolean; priv?: boolean; sid?: number } = {}) {
    const { pasid = NO_PASID, write = false, priv = false, sid = SID } = options;
    const ok = this.unit.translate(sid, pasid, priv, AT.UNTRANSLATED, vpn(va), write, false);
    return ok ? this.unit.result.pfn * 4096 : -this.unit.result.fault;
  }

  /** A translation request; a short text: status, permissions, and frame and shift if any. */
  ats(va: bigint, options: { pasid?: number; nw?: boolean; priv?: boolean; sid?: number } = {}) {
    const { pasid = NO_PASID, nw = false, priv = false, sid = SID } = options;
    this.unit.translate(sid, pasid, priv, AT.TRANSLATION, vpn(va), !nw, nw);
    const { status, read, write, fault, pfn, shift, untranslatedOnly } = this.unit.result;
    if (status === UR) return `UR ${fault.toString(16)}`;
    if (status === CA) return `CA ${fault.toString(16)}`;
    const perm = (read ? 'r' : '-') + (write ? 'w' : '-') + (untranslatedOnly ? 'u' : '');
    if (perm === '--') return fault === 0 ? '--' : `-- ${fault.toString(16)}`;
    return `${perm} ${(pfn * 4096).toString(16)}/${shift}`;
  }

  /** Fault record 0 as fields, and clears it; null when there is none. */
  takeFault(index = 0): {
    code: number;
    sid: number;
    address: bigint;
    pasid: number;
    hasPasid: boolean;
    priv: boolean;
    type: number;
    at: number;
  } | null {
    const offset = 0x600 + 16 * index;
    const lo = this.r64(offset);
    const hi = this.r64(offset + 8);
    if (hi >> 63n === 0n) return null;
    this.w32(offset + 12, 0x8000_0000);
    this.w32(0x34, 0x71);
    const field = (shift: bigint, mask: bigint): number => Number((hi >> shift) & mask);
    return {
      code: field(32n, 0xffn),
      sid: field(0n, 0xffffn),
      address: lo,
      pasid: field(40n, 0xfffffn),
      hasPasid: field(31n, 1n) === 1,
      priv: field(29n, 1n) === 1,
      type: (field(62n, 1n) << 1) | field(28n, 1n),
      at: field(60n, 3n),
    };
  }
}

/** Page number of a 64-bit address. */
export function vpn(va: bigint): number {
  return Number(BigInt.asUintN(64, va) >> 12n);
}
