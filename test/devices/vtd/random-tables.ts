/**
 * Random remapping structures, mostly sound, then damaged on purpose: bits flipped, pointers moved
 * to every edge, entries emptied. From bit positions of the specification only.
 */
import type { Silicon } from './oracle.ts';
import type { WalkerMemory } from './walker.ts';

/** 0 to `below` - 1. */
export type Roll = (below: number) => number;

/** xorshift32. */
export function random(seed: number): Roll {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

export const BYTES = 1 << 19;
export const SIDS = [0x0108, 0x0188, 0x0209] as const;
export const PASIDS = [1, 2, 70] as const;

/** A 64-bit entry or register field that may be damaged. */
interface Site {
  readonly at: bigint;
  readonly kind: 'root' | 'context' | 'directory' | 'pasid' | 'table';
  /** Bits of the domain id, which stays what it is. */
  readonly domain: bigint;
}

/** An address that was mapped for a PASID; -1: for requests without one. */
export interface Target {
  readonly pasid: number;
  readonly address: bigint;
}

export interface Tables {
  rtaddr: bigint;
  /** Addresses that are mapped. */
  targets: Target[];
  sites: Site[];
  /** There were pages enough: none has two roles. */
  pure: boolean;
}

export function randomSilicon(roll: Roll): Silicon {
  const most = (): boolean => roll(8) !== 0;
  return {
    haw: [39, 40, 46, 52][roll(4)]!,
    mgaw: [57, 57, 48, 38, 47][roll(5)]!,
    sagaw: [0xe, 0xe, 0xe, 6, 4][roll(5)]!,
    ssLarge: [3, 3, 3, 1, 2, 0][roll(6)]!,
    fs1gp: most(),
    fs5lp: most(),
    zlr: roll(2) === 0,
    sc: most(),
    pt: most(),
    nest: most(),
    nwfs: most(),
    srs: most(),
    eafs: most(),
    ssads: most(),
    smpwcs: most(),
    rps: most(),
    rprivs: most(),
    adms: roll(2) === 0,
    pss: roll(12) === 0 ? 5 : 19,
  };
}

export class Builder {
  readonly #memory: WalkerMemory;
  readonly #roll: Roll;
  readonly #silicon: Silicon;
  readonly #sites: Site[] = [];
  readonly #targets: Target[] = [];
  /** Whose tables are being built. */
  #pasid = -1;
  #next = 0x1000;
  #pure = true;
  /** Each table has a domain of its own, as the rules for software want it. */
  #domain = 1;

  constructor(memory: WalkerMemory, roll: Roll, silicon: Silicon) {
    this.#memory = memory;
    this.#roll = roll;
    this.#silicon = silicon;
  }

  build(): Tables {
    const some = this.#roll(20);
    const mode = some < 15 ? 1n : some < 19 ? 0n : BigInt(this.#roll(4));
    const root = this.#page();
    if (mode === 0n) this.#legacy(root);
    else this.#scalable(root);
    let rtaddr = root | (mode << 10n);
    if (this.#roll(150) === 0) rtaddr |= 0x80n;
    if (this.#roll(40) === 0) rtaddr = this.#pointer() | (mode << 10n);
    const sites = this.#sites;
    return { rtaddr, targets: this.#targets, sites, pure: this.#pure };
  }

  #chance(percent: number): boolean {
    return this.#roll(100) < percent;
  }

  /** A fresh page; when there are no more, one that is in use. */
  #page(): bigint {
    if (this.#next >= BYTES) {
      this.#pure = false;
      return BigInt(1 + this.#roll(BYTES / 4096 - 1)) * 4096n;
    }
    const at = this.#next;
    this.#next += 4096;
    return BigInt(at);
  }

  /** A pointer at some edge. */
  #pointer(): bigint {
    return edges(this.#silicon)[this.#roll(8)]!;
  }

  #write(at: bigint, value: bigint, kind: Site['kind'], domain = 0n): void {
    if (at + 8n > BigInt(BYTES)) return;
    this.#memory.write64(Number(at), BigInt.asUintN(64, value));
    this.#sites.push({ at, kind, domain });
  }

  #scalable(root: bigint): void {
    const s = this.#silicon;
    let shared: bigint | null = null;
    for (const sid of SIDS) {
      if (this.#chance(2)) continue;
      const entryAt = root + BigInt(sid >> 8) * 16n + ((sid & 0x80) === 0 ? 0n : 8n);
      const contexts = this.#page();
      this.#write(entryAt, contexts | 1n, 'root');
      const own: boolean = shared === null || sid === SIDS[2] || this.#chance(40);
      const directory: bigint = own ? this.#page() : shared!;
      shared = directory;
      const context = contexts + BigInt(sid & 0x7f) * 32n;
      const pdts = BigInt(this.#roll(3));
      const flags = (pdts << 9n) | (this.#chance(94) ? 0x10n : 0n) | (this.#chance(95) ? 8n : 0n);
      const dte = this.#chance(95) ? 4n : 0n;
      const pre = dte === 0n && this.#chance(80) ? flags & ~0x10n : flags;
      const fpd = this.#chance(10) ? 2n : 0n;
      const rid = s.rps && this.#chance(12) ? BigInt(PASIDS[this.#roll(3)]!) : 0n;
      const priv = s.rprivs && s.srs && this.#chance(20) ? 1n << 20n : 0n;
      this.#write(context + 8n, rid | priv, 'context');
      this.#write(context, directory | pre | dte | fpd | 1n, 'context');
      for (const pasid of own ? [0, ...PASIDS] : []) {
        if (this.#chance(94)) this.#entry(directory, pasid);
      }
    }
  }

  #entry(directory: bigint, pasid: number): void {
    this.#pasid = pasid === 0 ? -1 : pasid;
    const s = this.#silicon;
    const dirAt = directory + BigInt(pasid >> 6) * 8n;
    const old = this.#memory.read64(Number(dirAt));
    const fpd = this.#chance(6) ? 2n : 0n;
    const table = (old & 1n) === 1n ? old & ~0xfffn : this.#page();
    this.#write(dirAt, table | 1n | (old & 2n) | fpd, 'directory');
    const at = table + BigInt(pasid & 63) * 64n;
    const kinds = [1n, 1n, 2n, ...(s.nest ? [3n, 3n, 3n] : []), ...(s.pt ? [4n] : [])];
    const pgtt = this.#chance(98) ? kinds[this.#roll(kinds.length)]! : BigInt(this.#roll(8));
    const aws = [1, 2, 3].filter((aw) => ((s.sagaw >> aw) & 1) === 1);
    const aw = this.#chance(97) ? aws[this.#roll(aws.length)]! : this.#roll(8);
    const fspm = s.fs5lp && this.#chance(40) ? 1 : 0;
    const ssRoot = this.#page();
    const fsRoot = this.#trees(Number(pgtt), ssRoot, Math.min(Math.max(aw, 1), 3) + 2, fspm + 4);
    const on = (has: boolean, percent: number, bit: bigint): bigint =>
      has && this.#chance(percent) ? 1n << bit : 0n;
    this.#write(
      at + 16n,
      fsRoot |
        BigInt(fspm << 2) |
        on(s.srs, 85, 0n) |
        on(true, 50, 4n) |
        on(s.eafs, 40, 7n) |
        on(true, 10, 5n) |
        on(true, 10, 6n),
      'pasid',
    );
    const snoops = on(s.smpwcs, 85, 23n) | on(s.sc, 30, 24n);
    this.#write(at + 8n, BigInt(this.#domain++) | snoops, 'pasid', 0xffffn);
    const ssade = on(s.ssads, 40, 9n);
    const own = this.#chance(5) ? 2n : 0n;
    this.#write(at, ssRoot | (pgtt << 6n) | BigInt(aw << 2) | ssade | own | 1n, 'pasid');
    if (this.#chance(3)) this.#write(at + BigInt(24 + 8 * this.#roll(5)), 0n, 'pasid');
  }

  #legacy(root: bigint): void {
    for (const sid of SIDS) {
      if (this.#chance(3)) continue;
      const at = root + BigInt(sid >> 8) * 16n;
      const old = this.#memory.read64(Number(at));
      const contexts = (old & 1n) === 1n ? old & ~0xfffn : this.#page();
      this.#write(at, contexts | 1n, 'root');
      if (this.#chance(3)) this.#write(at + 8n, 0n, 'root');
      const context = contexts + BigInt(sid & 0xff) * 16n;
      const aws = [1, 2, 3].filter((aw) => ((this.#silicon.sagaw >> aw) & 1) === 1);
      const aw = this.#chance(95) ? aws[this.#roll(aws.length)]! : this.#roll(8);
      const ssRoot = this.#page();
      this.#trees(2, ssRoot, Math.min(Math.max(aw, 1), 3) + 2, 4);
      const tt = this.#silicon.pt && this.#chance(20) ? 2n : BigInt(this.#roll(2));
      const ignored = BigInt(this.#roll(16)) << 3n;
      this.#write(
        context + 8n,
        BigInt(aw) | ignored | (BigInt(this.#domain++) << 8n),
        'context',
        0xffff00n,
      );
      this.#write(context, ssRoot | (tt << 2n) | (this.#chance(10) ? 2n : 0n) | 1n, 'context');
    }
  }

  /** Maps a few pages; returns the first-stage root. */
  #trees(pgtt: number, ssRoot: bigint, ssLevels: number, fsLevels: number): bigint {
    if (pgtt === 2) {
      for (let i = 0; i < 3; i++) this.#mapSecond(ssRoot, ssLevels, this.#address(ssLevels));
      return 0n;
    }
    if (pgtt !== 1 && pgtt !== 3) return 0n;
    const nested = pgtt === 3;
    // Under nesting, guest page g of the tables lies at the host page that `placed` remembers.
    const placed = new Map<bigint, bigint>();
    let guest = 0x10_0000n + BigInt(this.#roll(4)) * 0x20_0000n;
    const fresh = (): bigint => {
      const host = this.#page();
      if (!nested) return host;
      guest += 4096n;
      placed.set(guest, host);
      this.#map(ssRoot, ssLevels, guest, host | this.#ssBits(true), this.#ssLink(), 1);
      return guest;
    };
    const place = (address: bigint): bigint => placed.get(address) ?? address;
    const root = fresh();
    for (let i = 0; i < 3; i++) {
      const level = this.#chance(75) ? 1 : 1 + this.#roll(3);
      const size = 1n << BigInt(12 + 9 * (level - 1));
      let target = BigInt(1 + this.#roll(0x3ff)) * (this.#chance(90) ? 1n << 30n : 1n << 12n);
      target = (target / size) * size;
      if (this.#chance(2)) target = 0xfee0_0000n & ~(size - 1n);
      if (this.#chance(3)) target = edges(this.#silicon)[this.#roll(8)]! & ~(size - 1n);
      const address = this.#address(fsLevels);
      const leaf = target | this.#fsBits() | (level > 1 ? 0x80n : 0n);
      this.#map(root, fsLevels, address, leaf, this.#fsLink(), level, place, fresh);
      if (!nested || this.#chance(5)) continue;
      const output = target + (address % size);
      const ssLevel = this.#chance(70) ? 1 : 1 + this.#roll(3);
      const ssSize = 1n << BigInt(12 + 9 * (ssLevel - 1));
      if (placed.has(output - (output % 4096n))) continue;
      const host = ((BigInt(1 + this.#roll(0x3ff)) << 30n) / ssSize) * ssSize;
      const bits = this.#ssBits(false) | (ssLevel > 1 ? 0x80n : 0n);
      this.#map(ssRoot, ssLevels, output - (output % ssSize), host | bits, this.#ssLink(), ssLevel);
    }
    return root;
  }

  #mapSecond(root: bigint, levels: number, address: bigint): void {
    const level = this.#chance(70) ? 1 : 1 + this.#roll(3);
    const size = 1n << BigInt(12 + 9 * (level - 1));
    let target = ((BigInt(1 + this.#roll(0x3ff)) << 30n) / size) * size;
    if (this.#chance(3)) target = 0xfee0_0000n & ~(size - 1n);
    const leaf = target | this.#ssBits(false) | (level > 1 ? 0x80n : 0n);
    this.#map(root, levels, address - (address % size), leaf, this.#ssLink(), level);
  }

  /** An address that a tree of that many levels can hold, and that is remembered. */
  #address(levels: number): bigint {
    const roll = this.#roll;
    const address =
      (BigInt(roll(2)) << 30n) |
      (BigInt(roll(3)) << 21n) |
      (BigInt(roll(4)) << 12n) |
      (levels >= 4 ? BigInt(roll(2)) << 39n : 0n) |
      (levels >= 5 ? BigInt(roll(3)) << 48n : 0n);
    this.#targets.push({ pasid: this.#pasid, address });
    return address;
  }

  #fsBits(): bigint {
    const on = (percent: number, bits: bigint): bigint => (this.#chance(percent) ? bits : 0n);
    return (
      on(96, 1n) |
      on(85, 2n) |
      on(92, 4n) |
      on(60, 0x20n) |
      on(50, 0x40n) |
      on(60, 0x400n) |
      on(10, 0x18n) |
      on(10, 0x100n) |
      on(10, 0x7ff0_0000_0000_0000n) |
      on(5, 1n << 63n)
    );
  }

  #fsLink(): bigint {
    return (this.#chance(92) ? 7n : 5n) | (this.#chance(80) ? 0x420n : 0n);
  }

  #ssBits(table: boolean): bigint {
    const on = (percent: number, bits: bigint): bigint => (this.#chance(percent) ? bits : 0n);
    const access = this.#chance(table ? 3 : 8) ? BigInt(this.#roll(4)) : 3n;
    return access | on(60, 0x300n) | on(15, 0x7cn) | on(this.#silicon.sc ? 10 : 0, 0x800n);
  }

  #ssLink(): bigint {
    return (this.#chance(96) ? 3n : BigInt(1 + this.#roll(2))) | (this.#chance(75) ? 0x100n : 0n);
  }

  /** Puts a leaf for an address at a level of a tree; what is in the way is left as it is. */
  #map(
    root: bigint,
    levels: number,
    address: bigint,
    leaf: bigint,
    link: bigint,
    leafLevel: number,
    place: (address: bigint) => bigint = (at) => at,
    fresh: () => bigint = () => this.#page(),
  ): void {
    let table = root;
    for (let level = levels; ; level--) {
      const at = place(table) + ((address >> BigInt(12 + 9 * (level - 1))) & 511n) * 8n;
      if (at + 8n > BigInt(BYTES)) return;
      if (level === leafLevel) {
        this.#write(at, leaf, 'table');
        return;
      }
      const entry = this.#memory.read64(Number(at));
      if ((entry & 3n) === 0n) this.#write(at, fresh() | link, 'table');
      else if ((entry & 0x80n) !== 0n) return;
      table = this.#memory.read64(Number(at)) & 0x000f_ffff_ffff_f000n;
    }
  }
}

/** Page addresses at the limits: of memory, of the widths, of the interrupt window. */
function edges(s: Silicon): readonly bigint[] {
  const top = 1n << BigInt(s.haw);
  return [
    BigInt(BYTES) - 4096n,
    BigInt(BYTES),
    top - 4096n,
    (top & 0x000f_ffff_ffff_ffffn) | 0x1000n,
    1n << BigInt(Math.min(s.mgaw, 51)),
    (1n << BigInt(Math.min(s.mgaw, 51))) - 4096n,
    0xfee0_0000n,
    0xfeef_f000n,
  ];
}

/**
 * Damages the word at a random site: returns where, and what stands there now. The domain of an
 * entry stays.
 */
export function damage(
  memory: WalkerMemory,
  tables: Tables,
  silicon: Silicon,
  roll: Roll,
): { at: number; value: bigint } | null {
  if (tables.sites.length === 0) return null;
  // Structures are few beside page-table entries: every other time one of them.
  const few = tables.sites.filter(({ kind }) => kind !== 'table');
  const site = few.length > 0 && roll(2) === 0 ? few : tables.sites;
  const { at, domain } = site[roll(site.length)]!;
  const old = memory.read64(Number(at));
  const address = 0x000f_ffff_ffff_f000n;
  const edge = edges(silicon)[roll(8)]!;
  const values = [
    old ^ (1n << BigInt(roll(12))),
    old ^ (1n << BigInt(19 + roll(45))),
    old ^ (1n << BigInt(20 + roll(12))),
    old | (1n << BigInt(Math.min(silicon.haw, 63))),
    old | (1n << BigInt(52 + roll(12))),
    old | 0x80n,
    (old & ~address) | (edge & address),
    (old & 0xfffn) | edge,
    old & ~1n,
    old & ~2n,
    old & ~4n,
    old & ~0x60n,
    old & ~0x300n,
    old & ~0x1000_0000n,
    0n,
    old + 0x1000n,
    old ^ (1n << BigInt(12 + roll(7))),
  ];
  const changed = BigInt.asUintN(64, values[roll(values.length)]!);
  const value = (changed & ~domain) | (old & domain);
  memory.write64(Number(at), value);
  return { at: Number(at), value };
}
