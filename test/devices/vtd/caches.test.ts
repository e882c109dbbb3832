/** What each invalidation drops, and that without it the old translation stays in use. */

import { Bench, SID } from './bench.ts';
import { rule } from './rule.ts';
import type { RuleId } from './rules.ts';
import { A, D, P, PS, R, RW, US, W } from './tables.ts';

const VA = 0x7f12_3456_7000n;
const FAR_VA = 0x6000_0000_0000n;
const OLD = 0x30_0000n;
const NEW = 0x50_0000n;
const LEAF = P | RW | US | A | D;
const LINK = P | RW | US | A;
const SS_VA = 0x1234_5000n;
const SS_FAR_VA = 0x60_0000_0000n;

const ALL_IOTLB = 0x12n;
const iotlbDomain = (did: number): bigint => 0x22n | (BigInt(did) << 16n);
const iotlbPage = (did: number): bigint => 0x32n | (BigInt(did) << 16n);
const pasidAll = (did: number, pasid: number): bigint =>
  0x26n | (BigInt(did) << 16n) | (BigInt(pasid) << 32n);
const pasidPage = (did: number, pasid: number): bigint =>
  0x36n | (BigInt(did) << 16n) | (BigInt(pasid) << 32n);
const pcDomain = (did: number): bigint => 0x07n | (BigInt(did) << 16n);
const pcPasid = (did: number, pasid: number): bigint =>
  0x17n | (BigInt(did) << 16n) | (BigInt(pasid) << 32n);

/**
 * PASIDs 1 (DID 11), 2 (DID 11) and 3 (DID 12) in the first stage, 4 (DID 13) in the second, 5
 * (DID 14) nested, each with a page near VA and one far away; all walked once, so all cached.
 */
class World {
  readonly bench = new Bench({ bytes: 1 << 25 });
  readonly directory: bigint;
  readonly roots = new Map<number, bigint>();

  constructor() {
    const { bench } = this;
    const { tables } = bench;
    this.directory = tables.context(bench.root, SID);
    for (const [pasid, did] of [
      [1, 11],
      [2, 11],
      [3, 12],
    ] as const) {
      const fs = tables.page();
      tables.map(fs, 4, VA, OLD | LEAF, LINK);
      tables.map(fs, 4, FAR_VA, OLD | LEAF, LINK);
      tables.pasid(this.directory, pasid, { fs, did });
      this.roots.set(pasid, fs);
    }
    const ss = tables.page();
    tables.map(ss, 4, SS_VA, OLD | R | W, R | W);
    tables.map(ss, 4, SS_FAR_VA, OLD | R | W, R | W);
    tables.pasid(this.directory, 4, { pgtt: 2, ss, did: 13 });
    this.roots.set(4, ss);
    // Nested over a second stage that maps guest memory onto itself with a 1 GiB page.
    const stage = tables.page();
    tables.map(stage, 4, 0n, PS | R | W, R | W, 3);
    const fs = tables.page();
    tables.map(fs, 4, VA, OLD | LEAF, LINK);
    tables.map(fs, 4, FAR_VA, OLD | LEAF, LINK);
    tables.pasid(this.directory, 5, { pgtt: 3, fs, ss: stage, did: 14 });
    this.roots.set(5, fs);
    bench.enable();
    bench.enableQueue();
    this.touch();
  }

  near(pasid: number): bigint {
    return pasid === 4 ? SS_VA : VA;
  }

  far(pasid: number): bigint {
    return pasid === 4 ? SS_FAR_VA : FAR_VA;
  }

  /** Uses everything once. */
  touch(): void {
    for (const pasid of this.roots.keys()) {
      this.bench.dma(this.near(pasid), { pasid });
      this.bench.dma(this.far(pasid), { pasid });
    }
  }

  /** Points every leaf at NEW, without a word to the unit. */
  remap(): void {
    const { tables } = this.bench;
    for (const [pasid, root] of this.roots) {
      const leaf = pasid === 4 ? R | W : LEAF;
      for (const va of [this.near(pasid), this.far(pasid)]) {
        tables.write(tables.entry(root, 4, va, 1), NEW | leaf);
      }
    }
  }

  /** Gives every tree a fresh last table for the near page (mapping NEW): level-2 entries change. */
  retable(): void {
    const { tables } = this.bench;
    for (const [pasid, root] of this.roots) {
      const fresh = tables.page();
      const va = this.near(pasid);
      tables.write(fresh + ((va >> 12n) & 511n) * 8n, NEW | (pasid === 4 ? R | W : LEAF));
      // The page next to it has no cached translation, only cached structures on its way.
      tables.write(fresh + (((va >> 12n) + 1n) & 511n) * 8n, NEW | (pasid === 4 ? R | W : LEAF));
      tables.write(tables.entry(root, 4, va, 2), fresh | (pasid === 4 ? R | W : LINK));
    }
  }

  /** Which translations are new: `1 1far 2 ...`. */
  fresh(): string {
    const seen: string[] = [];
    for (const pasid of this.roots.keys()) {
      if (this.bench.dma(this.near(pasid), { pasid }) === Number(NEW)) seen.push(`${pasid}`);
      if (this.bench.dma(this.far(pasid), { pasid }) === Number(NEW)) seen.push(`${pasid}far`);
    }
    return seen.join(' ');
  }

  /** Which trees a walk of the page next to VA goes through anew, rather than by cached tables. */
  freshTables(): string {
    return [...this.roots.keys()]
      .filter((pasid) => this.bench.dma(this.near(pasid) + 4096n, { pasid }) === Number(NEW))
      .join(' ');
  }
}

const EVERYTHING = '1 1far 2 2far 3 3far 4 4far 5 5far';

interface Rule {
  name: string;
  descriptor: readonly [bigint, bigint];
  /** IOTLB entries that go. */
  iotlb: string;
  /** Trees whose cached path to VA goes. */
  structures: string;
}

const rules: Rule[] = [
  { name: 'iotlb global', descriptor: [ALL_IOTLB, 0n], iotlb: EVERYTHING, structures: '1 2 3 4 5' },
  {
    name: 'iotlb domain, first stage',
    descriptor: [iotlbDomain(11), 0n],
    iotlb: '1 1far 2 2far',
    structures: '1 2',
  },
  {
    name: 'iotlb domain, second stage',
    descriptor: [iotlbDomain(13), 0n],
    iotlb: '4 4far',
    structures: '4',
  },
  {
    name: 'iotlb page, second stage',
    descriptor: [iotlbPage(13), SS_VA],
    iotlb: '4',
    structures: '4',
  },
  {
    name: 'iotlb page, second stage, IH',
    descriptor: [iotlbPage(13), SS_VA | 0x40n],
    iotlb: '4',
    structures: '',
  },
  {
    name: 'iotlb page, second stage, AM covers it',
    descriptor: [iotlbPage(13), 0x1234_0000n | 4n],
    iotlb: '4',
    structures: '4',
  },
  {
    name: 'iotlb page, second stage, elsewhere',
    descriptor: [iotlbPage(13), 0x9999_0000n],
    iotlb: '',
    structures: '',
  },
  {
    name: 'iotlb page, first stage: all of the domain',
    descriptor: [iotlbPage(11), SS_VA],
    iotlb: '1 1far 2 2far',
    structures: '1 2',
  },
  {
    name: 'iotlb page, nested: all of the domain',
    descriptor: [iotlbPage(14), 0x9999_0000n],
    iotlb: '5 5far',
    structures: '5',
  },
  {
    name: 'p_iotlb all, first stage',
    descriptor: [pasidAll(11, 1), 0n],
    iotlb: '1 1far',
    structures: '1',
  },
  {
    name: 'p_iotlb all, nested',
    descriptor: [pasidAll(14, 5), 0n],
    iotlb: '5 5far',
    structures: '5',
  },
  {
    name: 'p_iotlb all, second stage: no structures',
    descriptor: [pasidAll(13, 4), 0n],
    iotlb: '4 4far',
    structures: '',
  },
  {
    name: 'p_iotlb all, DID of another',
    descriptor: [pasidAll(12, 1), 0n],
    iotlb: '',
    structures: '',
  },
  {
    name: 'p_iotlb page, first stage',
    descriptor: [pasidPage(11, 2), VA],
    iotlb: '2',
    structures: '2',
  },
  {
    name: 'p_iotlb page, IH',
    descriptor: [pasidPage(11, 2), VA | 0x40n],
    iotlb: '2',
    structures: '',
  },
  { name: 'p_iotlb page, nested', descriptor: [pasidPage(14, 5), VA], iotlb: '5', structures: '5' },
  {
    name: 'p_iotlb page, second stage: nothing',
    descriptor: [pasidPage(13, 4), SS_VA],
    iotlb: '',
    structures: '',
  },
  {
    name: 'p_iotlb page, AM 52: every page',
    descriptor: [pasidPage(11, 1), 52n],
    iotlb: '1 1far',
    structures: '1',
  },
  {
    name: 'p_iotlb page, another page',
    descriptor: [pasidPage(11, 1), VA + 0x20_0000n],
    iotlb: '',
    structures: '',
  },
  {
    name: 'p_iotlb page, low page bits of AM ignored',
    descriptor: [pasidPage(11, 1), (VA & ~0xffffn) | 0xf000n | 4n],
    iotlb: '1',
    structures: '1',
  },
  { name: 'pc global', descriptor: [0x37n, 0n], iotlb: '', structures: '' },
  { name: 'cc global', descriptor: [0x11n, 0n], iotlb: '', structures: '' },
];

/** The rule of a descriptor. */
function ruleOf(name: string): RuleId {
  if (name.startsWith('p_iotlb')) return 'CACHE-5';
  if (name.startsWith('iotlb')) return 'CACHE-4';
  return name.startsWith('pc') ? 'CACHE-3' : 'CACHE-2';
}

for (const { name, descriptor, iotlb, structures } of rules) {
  rule([ruleOf(name)], `${name} drops ${iotlb || 'no translation'}`, (t) => {
    const world = new World();
    world.remap();
    t.is(world.fresh(), '', 'stale without an invalidation');
    world.bench.submit([descriptor]);
    t.is(world.fresh(), iotlb);
  });

  rule(
    [ruleOf(name), 'CACHE-6'],
    `${name} drops the structures of ${structures || 'none'}`,
    (t) => {
      const world = new World();
      world.retable();
      world.bench.submit([descriptor]);
      t.is(world.freshTables(), structures);
    },
  );
}

rule('CACHE-1', 'stale structures are used until they are dropped', (t) => {
  const world = new World();
  world.retable();
  t.is(world.freshTables(), '');
});

rule(['CACHE-1', 'CACHE-3'], 'PASID entries: stale until pc; pc leaves translations alone', (t) => {
  const world = new World();
  const { bench, directory } = world;
  const { tables } = bench;
  for (const pasid of [1, 2, 3]) {
    const fs = tables.page();
    tables.map(fs, 4, VA + 0x1000n, NEW | LEAF, LINK);
    tables.pasid(directory, pasid, { fs, did: pasid === 3 ? 22 : 21 });
  }
  const changed = (): string =>
    [1, 2, 3].filter((pasid) => bench.dma(VA + 0x1000n, { pasid }) === Number(NEW)).join(' ');
  t.is(changed(), '');
  bench.submit([[pcPasid(11, 1), 0n]]);
  t.is(changed(), '1');
  t.is(bench.dma(VA, { pasid: 1 }), Number(OLD), 'the IOTLB was not asked');
  bench.submit([[pcPasid(11, 3), 0n]]);
  t.is(changed(), '1', 'DID and PASID must both fit');
  bench.submit([[pcDomain(12), 0n]]);
  t.is(changed(), '1 3');
  bench.submit([[0x37n, 0n]]);
  t.is(changed(), '1 2 3');
});

rule(
  ['CACHE-1', 'CACHE-2'],
  'context entries: stale until cc; device-selective with its function mask',
  (t) => {
    const bench = new Bench();
    const { tables } = bench;
    const sids = [0x100, 0x101, 0x104, 0x108];
    for (const sid of sids) tables.pasid(tables.context(bench.root, sid), 0, { pgtt: 4 });
    bench.enable();
    bench.enableQueue();
    const touch = (): void => sids.forEach((sid) => bench.unit.translated(sid, 1, false));
    const cut = (): void =>
      sids.forEach((sid) => tables.write(tables.contextAddress(bench.root, sid), 0n));
    const gone = (): string =>
      sids
        .filter((sid) => !bench.unit.translated(sid, 1, false))
        .map((sid) => sid.toString(16))
        .join(' ');
    touch();
    cut();
    t.is(gone(), '');
    const device = (sid: number, fm: number): bigint =>
      0x31n | (BigInt(sid) << 32n) | (BigInt(fm) << 48n);
    bench.submit([[device(0x101, 0), 0n]]);
    t.is(gone(), '101');
    bench.submit([[device(0x100, 1), 0n]]);
    t.is(gone(), '100 101 104');
    bench.submit([[device(0x10f, 3), 0n]]);
    t.is(gone(), '100 101 104 108');
  },
);

rule('CACHE-2', 'domain-selective cc is global in scalable mode', (t) => {
  const bench = new Bench();
  bench.tables.pasid(bench.tables.context(bench.root, SID), 0, { pgtt: 4 });
  bench.enable();
  bench.enableQueue();
  bench.unit.translated(SID, 1, false);
  bench.tables.write(bench.tables.contextAddress(bench.root, SID), 0n);
  t.true(bench.unit.translated(SID, 1, false));
  bench.submit([[0x21n | (77n << 16n), 0n]]);
  t.false(bench.unit.translated(SID, 1, false));
});

rule(
  ['REG-SRTP-2', 'REG-TE-2'],
  'SRTP with ESRTPS and TE off drop everything; without ESRTPS, SRTP drops nothing',
  (t) => {
    const world = new World();
    world.remap();
    world.bench.setRoot();
    t.is(world.fresh(), EVERYTHING);

    const off = new World();
    off.remap();
    off.bench.gcmd(0x8000_0000, false);
    off.bench.gcmd(0x8000_0000, true);
    t.is(off.fresh(), EVERYTHING);

    const bench = new Bench({ cap: { ESRTPS: 0 } });
    const { tables } = bench;
    const fs = tables.page();
    const leaf = tables.map(fs, 4, VA, OLD | LEAF, LINK);
    tables.pasid(tables.context(bench.root, SID), 1, { fs });
    bench.enable();
    bench.dma(VA, { pasid: 1 });
    tables.write(leaf, NEW | LEAF);
    bench.setRoot();
    t.is(bench.dma(VA, { pasid: 1 }), Number(OLD));
  },
);

rule('CACHE-7', 'requests without PASID are dropped by RID_PASID', (t) => {
  const bench = new Bench();
  const { tables } = bench;
  const fs = tables.page();
  const leaf = tables.map(fs, 4, VA, OLD | LEAF, LINK);
  const directory = tables.context(bench.root, SID, { ridPasid: 9 });
  tables.pasid(directory, 9, { fs, did: 7 });
  bench.enable();
  bench.enableQueue();
  t.is(bench.dma(VA), Number(OLD));
  t.is(bench.dma(VA, { pasid: 9 }), -0x48);
  tables.write(leaf, NEW | LEAF);
  bench.submit([[pasidPage(7, 0), VA]]);
  t.is(bench.dma(VA), Number(OLD));
  bench.submit([[pasidPage(7, 9), VA]]);
  t.is(bench.dma(VA), Number(NEW));
});

rule('CACHE-8', 'a page of a large translation takes the whole of it', (t) => {
  const bench = new Bench();
  const { tables } = bench;
  const fs = tables.page();
  const leaf = tables.map(fs, 4, VA, 0x20_0000n | PS | LEAF, LINK, 2);
  tables.pasid(tables.context(bench.root, SID), 1, { fs });
  bench.enable();
  bench.enableQueue();
  t.is(bench.dma(VA, { pasid: 1 }), 0x36_7000);
  t.is(bench.dma(VA + 0x1000n, { pasid: 1 }), 0x36_8000);
  tables.write(leaf, 0x40_0000n | PS | LEAF);
  bench.submit([[pasidPage(1, 1), VA & ~0x1f_ffffn]]);
  t.is(bench.dma(VA, { pasid: 1 }), 0x56_7000);
  t.is(bench.dma(VA + 0x1000n, { pasid: 1 }), 0x56_8000);
});

rule(['CACHE-9', 'CM-2'], 'nothing that faulted is cached, whatever CM says', (t) => {
  for (const CM of [0, 1]) {
    const bench = new Bench({ cap: { CM } });
    const { tables } = bench;
    bench.enable();
    t.is(bench.dma(VA, { pasid: 1 }), -0x39);
    const directory = tables.context(bench.root, SID);
    t.is(bench.dma(VA, { pasid: 1 }), -0x51);
    const fs = tables.page();
    tables.pasid(directory, 1, { fs });
    t.is(bench.dma(VA, { pasid: 1 }), -0x71);
    tables.map(fs, 4, VA, OLD | LEAF, LINK);
    t.is(bench.dma(VA, { pasid: 1 }), Number(OLD));
  }
});

rule('CACHE-10', 'more pages than the IOTLB holds: all translate, before and after', (t) => {
  const bench = new Bench({ bytes: 1 << 25 });
  const { tables } = bench;
  const fs = tables.page();
  const count = 6000;
  for (let i = 0; i < count; i++) {
    tables.map(fs, 4, VA + BigInt(i) * 4096n, OLD + BigInt(i) * 4096n + LEAF, LINK);
  }
  tables.pasid(tables.context(bench.root, SID), 1, { fs });
  bench.enable();
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < count; i++) {
      const want = Number(OLD) + i * 4096;
      if (bench.dma(VA + BigInt(i) * 4096n, { pasid: 1 }) !== want) t.fail(`page ${i}`);
    }
  }
  t.true(bench.unit.stats.walks > count);
});
