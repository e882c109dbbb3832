/**
 * A builder of remapping tables for the tests, from the bit positions of the specification and
 * nothing of the model's.
 */
import type { PhysicalMemory } from '../../../devices/memory.ts';

export const PAGE = 4096n;

/** First-stage bits. */
export const P = 1n;
export const RW = 2n;
export const US = 4n;
export const A = 0x20n;
export const D = 0x40n;
export const PS = 0x80n;
export const EA = 0x400n;
/** Second-stage bits. */
export const R = 1n;
export const W = 2n;
export const SS_A = 0x100n;
export const SS_D = 0x200n;
export const SNP = 0x800n;

export interface PasidFields {
  present?: boolean;
  fpd?: boolean;
  pgtt?: number;
  aw?: number;
  ssade?: boolean;
  ss?: bigint;
  did?: number;
  pwsnp?: boolean;
  pgsnp?: boolean;
  sre?: boolean;
  wpe?: boolean;
  fspm?: number;
  eafe?: boolean;
  fs?: bigint;
}

export interface ContextFields {
  present?: boolean;
  fpd?: boolean;
  dte?: boolean;
  paside?: boolean;
  pre?: boolean;
  pdts?: number;
  ridPasid?: number;
}

const flag = (on: boolean | undefined, shift: number): bigint =>
  on === true ? 1n << BigInt(shift) : 0n;

export class Tables {
  readonly memory: PhysicalMemory;
  #next: number;

  constructor(memory: PhysicalMemory, from = 0x10_0000) {
    this.memory = memory;
    this.#next = from;
  }

  /** Byte address of a fresh, empty page. */
  page(count = 1): bigint {
    const at = this.#next;
    this.#next += 4096 * count;
    return BigInt(at);
  }

  read(address: bigint): bigint {
    return this.memory.read64(Number(address));
  }

  write(address: bigint, value: bigint): void {
    this.memory.write64(Number(address), BigInt.asUintN(64, value));
  }

  or(address: bigint, value: bigint): void {
    this.write(address, this.read(address) | value);
  }

  rootEntry(root: bigint, sid: number): bigint {
    return root + BigInt(sid >> 8) * 16n + ((sid & 0x80) === 0 ? 0n : 8n);
  }

  /** Makes the scalable context table of a function if there is none. */
  contextAddress(root: bigint, sid: number): bigint {
    const at = this.rootEntry(root, sid);
    if ((this.read(at) & 1n) === 0n) this.write(at, this.page() | 1n);
    return (this.read(at) & ~0xfffn) + BigInt(sid & 0x7f) * 32n;
  }

  /** Writes a context entry over a fresh PASID directory; returns the directory. */
  context(root: bigint, sid: number, fields: ContextFields = {}): bigint {
    const { present = true, dte = true, paside = true, pre = true, pdts = 2 } = fields;
    const directory = this.page();
    const at = this.contextAddress(root, sid);
    this.write(at + 8n, BigInt(fields.ridPasid ?? 0));
    this.write(
      at,
      directory |
        (BigInt(pdts) << 9n) |
        flag(pre, 4) |
        flag(paside, 3) |
        flag(dte, 2) |
        flag(fields.fpd, 1) |
        flag(present, 0),
    );
    return directory;
  }

  directoryEntry(directory: bigint, pasid: number): bigint {
    return directory + BigInt(pasid >> 6) * 8n;
  }

  pasidAddress(directory: bigint, pasid: number): bigint {
    const at = this.directoryEntry(directory, pasid);
    if ((this.read(at) & 1n) === 0n) this.write(at, this.page() | 1n);
    return (this.read(at) & ~0xfffn) + BigInt(pasid & 63) * 64n;
  }

  pasid(directory: bigint, pasid: number, f: PasidFields): bigint {
    const at = this.pasidAddress(directory, pasid);
    const { present = true, pgtt = 1, aw = 2, did = 1, pwsnp = true } = f;
    this.write(
      at + 16n,
      (f.fs ?? 0n) |
        flag(f.sre, 0) |
        (BigInt(f.fspm ?? 0) << 2n) |
        flag(f.wpe, 4) |
        flag(f.eafe, 7),
    );
    this.write(at + 8n, BigInt(did) | flag(pwsnp, 23) | flag(f.pgsnp, 24));
    this.write(
      at,
      (f.ss ?? 0n) |
        (BigInt(pgtt) << 6n) |
        (BigInt(aw) << 2n) |
        flag(f.ssade, 9) |
        flag(f.fpd, 1) |
        flag(present, 0),
    );
    return at;
  }

  /**
   * Maps `va` in a tree of `levels` levels under `root` with a leaf at `leafLevel`; missing tables
   * get `link` bits. `place` says where a table or page of the address space is in memory (for
   * first-stage tables in guest-physical addresses). Returns the leaf entry's memory address.
   */
  map(
    root: bigint,
    levels: number,
    va: bigint,
    leaf: bigint,
    link: bigint,
    leafLevel = 1,
    place: (address: bigint) => bigint = (address) => address,
    fresh: () => bigint = () => this.page(),
  ): bigint {
    let table = root;
    for (let level = levels; ; level--) {
      const at = place(table) + ((va >> BigInt(12 + 9 * (level - 1))) & 511n) * 8n;
      if (level === leafLevel) {
        this.write(at, leaf);
        return at;
      }
      if ((this.read(at) & 3n) === 0n) this.write(at, fresh() | link);
      table = this.read(at) & 0x000f_ffff_ffff_f000n;
    }
  }

  /** Memory address of the entry of `va` at `level` (tables in host memory). */
  entry(root: bigint, levels: number, va: bigint, level: number): bigint {
    let table = root;
    for (let at = levels; ; at--) {
      const address = table + ((va >> BigInt(12 + 9 * (at - 1))) & 511n) * 8n;
      if (at === level) return address;
      table = this.read(address) & 0x000f_ffff_ffff_f000n;
    }
  }
}
