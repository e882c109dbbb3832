/**
 * A second opinion: the page-table walks written straight from the specification's rules with
 * bigints, no caches and no shortcuts. It shares nothing with the model.
 */

/** Memory as the walker sees it. */
export interface WalkerMemory {
  contains(address: number, length: number): boolean;
  read64(address: number): bigint;
  write64(address: number, value: bigint): void;
  /** Told of each entry read, and as what. */
  note?(address: number, role: string): void;
}

export interface Setup {
  /** 1 first stage, 2 second stage, 3 nested. */
  pgtt: number;
  fsRoot: bigint;
  fsLevels: number;
  ssRoot: bigint;
  ssLevels: number;
  ssade: boolean;
  eafe: boolean;
  wpe: boolean;
  /** PWSNP. */
  snooped: boolean;
  /** PGSNP. */
  forceSnoop: boolean;
  haw: number;
  mgaw: number;
  snoopControl: boolean;
  gigabytePages: boolean;
  /** SSLPS: bit 0 2 MiB, bit 1 1 GiB. */
  ssLarge: number;
  /** Memory refuses locked updates. */
  refuses: (address: number) => boolean;
}

export interface Ask {
  address: bigint;
  user: boolean;
  /** What must be allowed. */
  read: boolean;
  write: boolean;
  /** At least one of the two must be. */
  either: boolean;
  /** A page that may be written gets its dirty bit. */
  dirty: boolean;
}

export interface Answer {
  /** 0 or the fault code. */
  fault: number;
  address: bigint;
  read: boolean;
  write: boolean;
  shift: number;
  snoop: boolean;
}

class WalkFault extends Error {
  readonly code: number;
  constructor(code: number) {
    super();
    this.code = code;
  }
}

interface Leaf {
  page: bigint;
  read: boolean;
  write: boolean;
  shift: number;
  entryAt: bigint;
  snoop: boolean;
}

/** Bits hi:lo of a value. */
export function bitsOf(value: bigint, hi: number, lo: number): bigint {
  return (value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n);
}

export class Walker {
  readonly #memory: WalkerMemory;
  readonly #setup: Setup;

  constructor(memory: WalkerMemory, setup: Setup) {
    this.#memory = memory;
    this.#setup = setup;
  }

  ask(ask: Ask): Answer {
    Error.stackTraceLimit = 0;
    try {
      return this.#setup.pgtt === 2 ? this.#secondOnly(ask) : this.#first(ask);
    } catch (error) {
      if (!(error instanceof WalkFault)) throw error;
      return { fault: error.code, address: 0n, read: false, write: false, shift: 0, snoop: false };
    } finally {
      Error.stackTraceLimit = 10;
    }
  }

  #load(address: bigint, otherwise: number): bigint {
    const n = Number(address);
    if (address + 8n > 1n << BigInt(this.#setup.haw) || !this.#memory.contains(n, 8)) {
      throw new WalkFault(otherwise);
    }
    return this.#memory.read64(n);
  }

  #set(address: bigint, value: bigint, refused: number): void {
    const n = Number(address);
    if (this.#setup.refuses(n)) throw new WalkFault(refused);
    this.#memory.write64(n, this.#memory.read64(n) | value);
  }

  #beyondHaw(entry: bigint): boolean {
    const { haw } = this.#setup;
    return haw < 52 && bitsOf(entry, 51, haw) !== 0n;
  }

  #second(gpa: bigint, tooBig: number): Leaf {
    const s = this.#setup;
    const width = Math.min(s.mgaw, 12 + 9 * s.ssLevels);
    if (gpa >> BigInt(width) !== 0n) throw new WalkFault(tooBig);
    let table = s.ssRoot;
    let read = true;
    let write = true;
    for (let level = s.ssLevels; ; level--) {
      const shift = 12 + 9 * (level - 1);
      const at = table + bitsOf(gpa, shift + 8, shift) * 8n;
      const entry = this.#load(at, level === s.ssLevels ? 0x7b : 0x78);
      this.#memory.note?.(Number(at), `second ${level}`);
      if ((entry & 3n) === 0n) throw new WalkFault(0x79);
      const large = level > 1 && bitsOf(entry, 7, 7) === 1n;
      const leaf = level === 1 || large;
      let reserved = this.#beyondHaw(entry) || bitsOf(entry, 62, 62) === 1n;
      if (bitsOf(entry, 11, 11) === 1n && !(leaf && s.snoopControl)) reserved = true;
      if (large && level > 3) reserved = true;
      if (large && level <= 3 && bitsOf(entry, shift - 1, 12) !== 0n) reserved = true;
      if (large && level <= 3 && ((s.ssLarge >> (level - 2)) & 1) === 0) reserved = true;
      if (reserved) throw new WalkFault(0x7a);
      read &&= (entry & 1n) !== 0n;
      write &&= (entry & 2n) !== 0n;
      if (!read && !write) throw new WalkFault(0x79);
      if (s.ssade && bitsOf(entry, 8, 8) === 0n) {
        if (!s.snooped) throw new WalkFault(0x7c);
        this.#set(at, 0x100n, 0x7d);
      }
      const base = bitsOf(entry, 51, 12) << 12n;
      if (leaf) {
        const page = base | (shift > 12 ? bitsOf(gpa, shift - 1, 12) << 12n : 0n);
        return { page, read, write, shift, entryAt: at, snoop: bitsOf(entry, 11, 11) === 1n };
      }
      table = base;
    }
  }

  #dirtySecond(leaf: Leaf): void {
    if (!this.#setup.ssade || bitsOf(this.#load(leaf.entryAt, 0), 9, 9) === 1n) return;
    if (!this.#setup.snooped) throw new WalkFault(0x7c);
    this.#set(leaf.entryAt, 0x200n, 0x7d);
  }

  #secondOnly(ask: Ask): Answer {
    const leaf = this.#second(ask.address, 0x84);
    if (ask.write && !leaf.write) throw new WalkFault(0x85);
    if (ask.read && !leaf.read) throw new WalkFault(0x86);
    if (leaf.write && ask.dirty) this.#dirtySecond(leaf);
    const { page, read, write, shift, snoop } = leaf;
    return this.#answer(page, read, write, shift, snoop);
  }

  #answer(page: bigint, read: boolean, write: boolean, shift: number, snoop: boolean): Answer {
    if (page >> 20n === 0xfeen) throw new WalkFault(0x87);
    const forced = this.#setup.forceSnoop || snoop;
    return { fault: 0, address: page, read, write, shift, snoop: forced };
  }

  /** Host address of a first-stage table, and how its page may be written. */
  #table(address: bigint, isRoot: boolean): { at: bigint; leaf: Leaf | null } {
    if (this.#setup.pgtt === 1) return { at: address, leaf: null };
    const leaf = this.#second(address, 0x74);
    if (!leaf.read) throw new WalkFault(isRoot ? 0x75 : 0x76);
    if (this.#setup.ssade && !leaf.write) throw new WalkFault(0x77);
    return { at: leaf.page, leaf };
  }

  #mark(at: bigint, wanted: bigint, table: Leaf | null): void {
    if ((this.#load(at, 0) & wanted) === wanted) return;
    if (!this.#setup.snooped) throw new WalkFault(0x90);
    if (table !== null) {
      if (!table.write) throw new WalkFault(0x77);
      this.#dirtySecond(table);
    }
    this.#set(at, wanted, 0x91);
  }

  #first(ask: Ask): Answer {
    const s = this.#setup;
    const width = s.fsLevels === 5 ? 57 : 48;
    if (BigInt.asUintN(64, BigInt.asIntN(width, ask.address)) !== ask.address) {
      throw new WalkFault(0x80);
    }
    let { at: table, leaf: tableLeaf } = this.#table(s.fsRoot, true);
    let userOk = true;
    let rw = true;
    for (let level = s.fsLevels; ; level--) {
      const shift = 12 + 9 * (level - 1);
      const at = table + bitsOf(ask.address, shift + 8, shift) * 8n;
      const entry = this.#load(at, level === s.fsLevels ? 0x73 : 0x70);
      this.#memory.note?.(Number(at), `first ${level}`);
      if ((entry & 1n) === 0n) throw new WalkFault(0x71);
      const large = level > 1 && bitsOf(entry, 7, 7) === 1n;
      let reserved = this.#beyondHaw(entry);
      if (large && (level > 3 || (level === 3 && !s.gigabytePages))) reserved = true;
      if (large && level <= 3 && bitsOf(entry, shift - 1, 13) !== 0n) reserved = true;
      if (reserved) throw new WalkFault(0x72);
      this.#mark(at, s.eafe ? 0x420n : 0x20n, tableLeaf);
      rw &&= bitsOf(entry, 1, 1) === 1n;
      userOk &&= bitsOf(entry, 2, 2) === 1n;
      const next = bitsOf(entry, 51, 12) << 12n;
      if (level > 1 && !large) {
        ({ at: table, leaf: tableLeaf } = this.#table(next, false));
        continue;
      }
      if (ask.user && !userOk) throw new WalkFault(0x81);
      const writable = rw || !(ask.user || s.wpe);
      if (ask.write && !writable) throw new WalkFault(0x85);
      const base = (next >> BigInt(shift)) << BigInt(shift);
      const output = base | (bitsOf(ask.address, shift - 1, 0) & ~0xfffn);
      const final = s.pgtt === 3 ? this.#second(output, 0x74) : null;
      const read = final?.read ?? true;
      const write = writable && (final?.write ?? true);
      if (ask.write && !write) throw new WalkFault(0x85);
      if (ask.read && !read) throw new WalkFault(0x86);
      if (ask.either && !read && !write) throw new WalkFault(0x86);
      if (write && ask.dirty) {
        this.#mark(at, 0x40n, tableLeaf);
        if (final !== null) this.#dirtySecond(final);
      }
      const size = Math.min(shift, final?.shift ?? shift);
      return this.#answer(final?.page ?? output, read, write, size, final?.snoop ?? false);
    }
  }
}
