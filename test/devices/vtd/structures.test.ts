import { Bench, type BenchOptions, SID } from './bench.ts';
import { faultId } from './fault-rules.ts';
import { rule } from './rule.ts';
import { A, D, P, RW, US } from './tables.ts';

const PASID = 70;
const VA = 0x7f12_3456_7000n;
const PAGE_OUT = 0x30_0000n;

interface Ready {
  bench: Bench;
  directory: bigint;
  context: bigint;
  directoryEntry: bigint;
  entry: bigint;
}

/** A function whose PASID 70 and RID_PASID 0 translate VA in the first stage. */
function ready(options: BenchOptions = {}, rootMode = 1): Ready {
  const bench = new Bench(options);
  const { tables, root } = bench;
  const directory = tables.context(root, SID);
  const fs = tables.page();
  tables.map(fs, 4, VA, PAGE_OUT | P | RW | US | A | D, P | RW | US | A);
  const entry = tables.pasid(directory, PASID, { fs });
  tables.pasid(directory, 0, { fs, did: 2 });
  bench.enable(rootMode);
  const context = tables.contextAddress(root, SID);
  return {
    bench,
    directory,
    context,
    directoryEntry: tables.directoryEntry(directory, PASID),
    entry,
  };
}

rule('REQ-4', 'a sound set of structures translates, with and without PASID', (t) => {
  const { bench } = ready();
  t.is(bench.dma(VA, { pasid: PASID, write: true }), Number(PAGE_OUT));
  t.is(bench.dma(VA), Number(PAGE_OUT));
  t.is(bench.ats(VA, { pasid: PASID }), 'rw 300000/12');
  t.is(bench.ats(VA, { pasid: PASID, nw: true }), 'r- 300000/12');
  t.is(bench.takeFault(), null);
});

interface Row {
  readonly name: string;
  readonly code: number;
  /** What a translation request is answered. */
  readonly ats: 'UR' | 'CA' | '--';
  /** Whether an untranslated request meets the condition too (else it passes). */
  readonly dmaToo?: boolean;
  readonly breakIt: (ready: Ready) => void;
  readonly pasid?: number;
  readonly priv?: boolean;
  /** What FPD of the context entry cannot silence. */
  readonly unqualified?: boolean;
  /** What a page request meets, if not the same: another code, or nothing (it is queued). */
  readonly pageRequest?: false | number;
  readonly options?: BenchOptions;
}

const FAR = 1n << 40n;

const rows: Row[] = [
  {
    name: 'root entry out of reach',
    code: 0x38,
    ats: 'CA',
    unqualified: true,
    breakIt: ({ bench }) => {
      bench.w64(0x20, FAR | (1n << 10n));
      bench.w32(0x18, 0xc000_0000);
    },
  },
  {
    name: 'root entry not present',
    code: 0x39,
    ats: 'UR',
    unqualified: true,
    breakIt: ({ bench }) => bench.tables.write(bench.tables.rootEntry(bench.root, SID), 0n),
  },
  {
    name: 'root entry reserved',
    code: 0x3a,
    ats: 'CA',
    unqualified: true,
    breakIt: ({ bench }) => bench.tables.or(bench.tables.rootEntry(bench.root, SID), 2n),
  },
  {
    name: 'root entry pointer beyond HAW',
    code: 0x3a,
    ats: 'CA',
    unqualified: true,
    breakIt: ({ bench }) => bench.tables.or(bench.tables.rootEntry(bench.root, SID), 1n << 46n),
  },
  {
    name: 'context table out of reach',
    code: 0x40,
    ats: 'CA',
    unqualified: true,
    breakIt: ({ bench }) => bench.tables.write(bench.tables.rootEntry(bench.root, SID), FAR | 1n),
  },
  {
    name: 'context entry not present',
    code: 0x41,
    ats: 'UR',
    breakIt: ({ bench, context }) => bench.tables.write(context, bench.tables.read(context) & ~1n),
  },
  {
    name: 'context entry reserved',
    code: 0x42,
    ats: 'CA',
    breakIt: ({ bench, context }) => bench.tables.write(context + 24n, 1n),
  },
  {
    name: 'context entry with EPTR, which the unit lacks',
    code: 0x42,
    ats: 'CA',
    breakIt: ({ bench, context }) => bench.tables.or(context, 1n << 6n),
  },
  {
    name: 'context entry with RID_PRIV, which the unit lacks',
    code: 0x42,
    ats: 'CA',
    breakIt: ({ bench, context }) => bench.tables.or(context + 8n, 1n << 20n),
  },
  {
    name: 'RID_PASID on a unit without RPS',
    code: 0x42,
    ats: 'CA',
    options: { ecap: { RPS: 0 } },
    breakIt: ({ bench, context }) => bench.tables.write(context + 8n, 3n),
  },
  {
    name: 'context entry with PRE but no DTE',
    code: 0x43,
    ats: 'CA',
    breakIt: ({ bench, context }) => bench.tables.write(context, bench.tables.read(context) & ~4n),
  },
  {
    name: 'RID_PASID beyond the directory',
    code: 0x43,
    ats: 'CA',
    breakIt: ({ bench, context }) => bench.tables.write(context + 8n, 1n << 15n),
  },
  {
    name: 'DTE clear',
    code: 0x44,
    ats: 'UR',
    dmaToo: false,
    pageRequest: 0x47,
    breakIt: ({ bench, context }) =>
      bench.tables.write(context, bench.tables.read(context) & ~0x14n),
  },
  {
    name: 'PASIDE clear',
    code: 0x45,
    ats: 'UR',
    breakIt: ({ bench, context }) => bench.tables.write(context, bench.tables.read(context) & ~8n),
  },
  { name: 'PASID beyond PDTS', code: 0x46, ats: 'UR', pasid: 1 << 15, breakIt: () => undefined },
  { name: 'PASID is RID_PASID', code: 0x48, ats: 'UR', pasid: 0, breakIt: () => undefined },
  {
    name: 'PASID wider than PSS',
    code: 0x89,
    ats: 'UR',
    options: { ecap: { PSS: 5 } },
    breakIt: () => undefined,
  },
  {
    name: 'directory out of reach',
    code: 0x50,
    ats: 'CA',
    unqualified: true,
    breakIt: ({ bench, context }) =>
      bench.tables.write(context, (bench.tables.read(context) & 0xfffn) | FAR),
  },
  {
    name: 'directory entry not present',
    code: 0x51,
    ats: '--',
    breakIt: ({ bench, directoryEntry }) => bench.tables.write(directoryEntry, 0n),
  },
  {
    name: 'directory entry reserved',
    code: 0x52,
    ats: 'CA',
    breakIt: ({ bench, directoryEntry }) => bench.tables.or(directoryEntry, 4n),
  },
  {
    name: 'PASID table out of reach',
    code: 0x58,
    ats: 'CA',
    unqualified: true,
    breakIt: ({ bench, directoryEntry }) => bench.tables.write(directoryEntry, FAR | 1n),
  },
  {
    name: 'PASID entry not present',
    code: 0x59,
    ats: '--',
    breakIt: ({ bench, entry }) => bench.tables.write(entry, bench.tables.read(entry) & ~1n),
  },
  {
    name: 'PASID entry reserved in qword 7',
    code: 0x5a,
    ats: 'CA',
    breakIt: ({ bench, entry }) => bench.tables.write(entry + 56n, 1n << 63n),
  },
  {
    name: 'SSADE on a unit without SSADS',
    code: 0x5a,
    ats: 'CA',
    options: { ecap: { SSADS: 0 } },
    breakIt: ({ bench, entry }) => bench.tables.or(entry, 1n << 9n),
  },
  {
    name: 'PGTT 0',
    code: 0x5b,
    ats: 'CA',
    breakIt: ({ bench, entry }) => bench.tables.write(entry, bench.tables.read(entry) & ~0x1c0n),
  },
  {
    name: 'PGTT 7',
    code: 0x5b,
    ats: 'CA',
    breakIt: ({ bench, entry }) => bench.tables.or(entry, 0x1c0n),
  },
  {
    name: 'first stage on a unit without it',
    code: 0x5b,
    ats: 'CA',
    options: { ecap: { FSTS: 0 } },
    breakIt: () => undefined,
  },
  {
    name: 'nested on a unit without it',
    code: 0x5b,
    ats: 'CA',
    options: { ecap: { NEST: 0 } },
    breakIt: ({ bench, entry }) => bench.tables.or(entry, 3n << 6n),
  },
  {
    name: 'pass-through on a unit without it',
    code: 0x5b,
    ats: 'CA',
    options: { ecap: { PT: 0 } },
    breakIt: ({ bench, directory }) => bench.tables.pasid(directory, PASID, { pgtt: 4 }),
  },
  {
    name: 'second stage on a unit without it',
    code: 0x5b,
    ats: 'CA',
    options: { ecap: { SSTS: 0 } },
    breakIt: ({ bench, directory }) => bench.tables.pasid(directory, PASID, { pgtt: 2 }),
  },
  {
    name: 'second-stage width that CAP.SAGAW lacks',
    code: 0x5b,
    ats: 'CA',
    breakIt: ({ bench, directory }) => bench.tables.pasid(directory, PASID, { pgtt: 2, aw: 3 }),
  },
  {
    name: 'five levels on a unit without FS5LP',
    code: 0x5b,
    ats: 'CA',
    breakIt: ({ bench, entry }) => bench.tables.or(entry + 16n, 1n << 2n),
  },
  {
    name: 'nested first-stage root beyond the second stage',
    code: 0x5b,
    ats: 'CA',
    breakIt: ({ bench, directory }) =>
      bench.tables.pasid(directory, PASID, { pgtt: 3, aw: 1, fs: 1n << 39n }),
  },
  {
    name: 'supervisor request without SRE',
    code: 0x5d,
    ats: '--',
    priv: true,
    pageRequest: false,
    breakIt: () => undefined,
  },
];

for (const row of rows) {
  const { code, pasid = PASID, priv = false } = row;
  const hex = code.toString(16);
  rule(faultId(code), `${hex}h ${row.name}`, (t) => {
    const state = ready(row.options);
    const { bench } = state;
    row.breakIt(state);
    if (row.dmaToo === false) {
      t.is(bench.dma(VA, { pasid, priv, write: true }), Number(PAGE_OUT));
    } else {
      t.is(bench.dma(VA, { pasid, priv, write: true }), -code);
      t.is(bench.unit.result.status, 1);
      const fault = bench.takeFault();
      t.like(fault, { code, sid: SID, address: VA, hasPasid: true, pasid, type: 0, at: 0 });
      t.is(bench.dma(VA, { pasid, priv }), -code);
      t.like(bench.takeFault(), { code, type: 2 });
    }
    t.is(bench.ats(VA, { pasid, priv }), `${row.ats} ${hex}`);
    const onAts = bench.takeFault();
    if (row.ats === '--') t.is(onAts, null);
    else t.like(onAts, { code, at: 1, type: 2 });

    bench.w64(0xd0, bench.tables.page());
    bench.unit.pageRequest(SID, pasid, priv, 0x1234, true, false, true, 7);
    if (row.pageRequest === false) {
      t.deepEqual(bench.responses, []);
      t.is(bench.r32(0xc8), 32);
    } else {
      t.deepEqual(bench.responses, [{ sid: SID, pasid, prgi: 7, code: 1 }]);
      t.like(bench.takeFault(), { code: row.pageRequest ?? code, type: 1, address: 0x123_4000n });
      t.is(bench.r32(0xc8), 0);
    }
  });

  rule([faultId(code), 'FPD-1'], `${hex}h ${row.name}: FPD of the context entry`, (t) => {
    const state = ready(row.options);
    const { bench, context } = state;
    bench.tables.or(context, 2n);
    row.breakIt(state);
    bench.ats(VA, { pasid, priv });
    const wasPassed = row.dmaToo === false;
    if (!wasPassed) t.is(bench.dma(VA, { pasid, priv }), -code);
    const fault = bench.takeFault();
    if (row.unqualified === true) t.is(fault?.code, code);
    else t.is(fault, null);
  });
}

rule('FR-47', '47h: a page request without PRE, when the PASID entry would do', (t) => {
  const { bench, context } = ready();
  bench.tables.write(context, bench.tables.read(context) & ~0x10n);
  bench.unit.pageRequest(SID, PASID, false, 1, true, false, true, 1);
  t.deepEqual(bench.responses, [{ sid: SID, pasid: PASID, prgi: 1, code: 1 }]);
  t.is(bench.takeFault()?.code, 0x47);
  t.is(bench.dma(VA, { pasid: PASID }), Number(PAGE_OUT));
});

rule(['FPD-1', 'FPD-2'], 'FPD of directory and PASID entry, even when not present', (t) => {
  const first = ready();
  first.bench.tables.write(first.directoryEntry, 2n);
  t.is(first.bench.dma(VA, { pasid: PASID }), -0x51);
  t.is(first.bench.takeFault(), null);

  const second = ready();
  second.bench.tables.write(second.entry, 2n);
  t.is(second.bench.dma(VA, { pasid: PASID }), -0x59);
  t.is(second.bench.takeFault(), null);
  t.is(second.bench.ats(VA, { pasid: PASID }), '-- 59');
});

rule('FPD-3', 'FPD of a cached PASID entry silences page-table faults too', (t) => {
  const { bench, entry } = ready();
  bench.tables.or(entry, 2n);
  t.is(bench.dma(VA, { pasid: PASID }), Number(PAGE_OUT));
  t.is(bench.dma(VA + 0x1000n, { pasid: PASID }), -0x71);
  t.is(bench.takeFault(), null);
  t.is(bench.dma(VA + 0x1000n), -0x71);
  t.is(bench.takeFault()?.code, 0x71, 'the other PASID has no FPD');
  t.is(bench.dma(VA + 0x1000n, { pasid: PASID }), -0x71);
  t.is(bench.takeFault(), null, 'after another PASID too');
});

rule('REQ-6', 'a translation cached for user requests does not serve privileged ones', (t) => {
  const { bench } = ready();
  t.is(bench.dma(VA, { pasid: PASID }), Number(PAGE_OUT));
  t.is(bench.dma(VA, { pasid: PASID, priv: true }), -0x5d);
  t.is(
    bench.dma(VA, { priv: true }),
    Number(PAGE_OUT),
    'without PASID the request has no privilege',
  );
});

rule(
  ['FR-30', 'FR-33', 'REG-TE-1', 'REG-SRTP-3'],
  'root modes: reserved 30h, abort-DMA 33h, remapping off',
  (t) => {
    const { bench } = ready({ ecap: { ADMS: 1 } }, 3);
    t.is(bench.dma(VA, { pasid: PASID }), -0x33);
    t.is(bench.takeFault()?.code, 0x33);
    t.is(bench.ats(VA), 'UR 33');
    t.false(bench.unit.translated(SID, 5, false));
    t.is(bench.unit.result.fault, 0x33);
    bench.unit.pageRequest(SID, PASID, false, 1, true, false, true, 1);
    t.is(bench.responses[0]?.code, 1);
    bench.setRoot(2);
    t.is(bench.dma(VA), -0x30);
    t.is(bench.ats(VA), 'CA 30');
    bench.setRoot(1);
    t.is(bench.dma(VA), Number(PAGE_OUT));
    bench.gcmd(0x8000_0000, false);
    t.is(bench.dma(VA, { pasid: PASID, write: true }), Number(VA));
    t.is(bench.ats(VA), 'UR 0');
    t.false(bench.unit.translated(SID, 5, false));
    t.is(bench.unit.result.status, 1);

    const plain = ready({}, 3);
    t.is(plain.bench.dma(VA), -0x30, 'abort-DMA needs ADMS');
    const noScalable = ready({ ecap: { SMTS: 0 } });
    t.is(noScalable.bench.dma(VA), -0x30);
  },
);

rule(
  ['REQ-5', 'REQ-7', 'FR-44', 'FR-83', 'FR-87'],
  'translated requests: DTE, width and interrupt window; the upper context table',
  (t) => {
    const { bench, context } = ready();
    t.true(bench.unit.translated(SID, 0x300, true));
    t.is(bench.unit.result.pfn, 0x300);
    t.false(bench.unit.translated(SID, 2 ** 34, true));
    t.is(bench.unit.result.fault, 0x83);
    t.like(bench.takeFault(), { code: 0x83, at: 2, type: 0 });
    t.false(bench.unit.translated(SID, 0xfee00, false));
    t.like(bench.takeFault(), { code: 0x87, at: 2, type: 2 });
    t.is(bench.unit.result.status, 1);
    const other = SID | 0x80;
    t.false(bench.unit.translated(other, 0x300, true));
    t.is(bench.takeFault()?.code, 0x39);
    bench.tables.context(bench.root, other, { dte: false, pre: false });
    t.false(bench.unit.translated(other, 0x300, true));
    t.is(bench.takeFault()?.code, 0x44);
    t.true(bench.tables.contextAddress(bench.root, other) !== context);
  },
);

rule(
  ['REQ-1', 'REQ-2', 'REQ-3'],
  'the interrupt window belongs to requests without PASID only',
  (t) => {
    const { bench, directory } = ready();
    const fs = bench.tables.page();
    bench.tables.map(fs, 4, 0xfee0_1000n, PAGE_OUT | P | RW | US | A | D, P | RW | US);
    bench.tables.pasid(directory, 9, { fs });
    t.is(bench.dma(0xfee0_1000n, { pasid: 9 }), Number(PAGE_OUT));
    t.is(bench.dma(0xfee0_1000n), -0x29);
    t.is(bench.takeFault()?.code, 0x29);
    t.is(bench.ats(0xfee0_1000n), '-wu fee01000/12');
    t.is(bench.ats(0xfee0_1000n, { nw: true }), '--');
  },
);

rule(
  ['REQ-4', 'REQ-6', 'ATS-5'],
  'privileged requests and the RID_PRIV of those without PASID',
  (t) => {
    const { bench, directory, context } = ready({ ecap: { RPRIVS: 1 } });
    const fs = bench.tables.page();
    bench.tables.map(fs, 4, VA, PAGE_OUT | P | A | D, P | US | A);
    bench.tables.pasid(directory, 9, { fs, sre: true });
    bench.tables.pasid(directory, 0, { fs, sre: true, did: 3 });
    t.is(bench.dma(VA, { pasid: 9 }), -0x81);
    t.is(bench.ats(VA, { pasid: 9 }), '-- 81');
    t.is(bench.dma(VA, { pasid: 9, priv: true, write: true }), Number(PAGE_OUT), 'WPE clear');
    t.is(bench.ats(VA, { pasid: 9, priv: true }), 'rw 300000/12');
    t.true(bench.unit.result.priv);
    t.is(bench.dma(VA), -0x81);
    bench.tables.or(context + 8n, 1n << 20n);
    bench.setRoot();
    t.is(bench.dma(VA), Number(PAGE_OUT));
    bench.tables.pasid(directory, 9, { fs, sre: true, wpe: true });
    bench.setRoot();
    t.is(bench.dma(VA, { pasid: 9, priv: true, write: true }), -0x85);
    t.is(bench.ats(VA, { pasid: 9, priv: true }), 'r- 300000/12');
  },
);
