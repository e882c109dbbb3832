/** Second stage alone, and pass-through. */
import { Bench, SID } from './bench.ts';
import { rule } from './rule.ts';
import { drop, OUT, or, PASID, SS_VA, second, set, through } from './stages.ts';
import { PS, R, SNP, SS_A, W } from './tables.ts';

rule(['SS-LEVEL-1', 'SS-ADDR-1'], 'three, four and five levels, up to their last page', (t) => {
  const bench = new Bench({ cap: { SAGAW: 0xe, MGAW: 56 } });
  const { tables } = bench;
  const directory = tables.context(bench.root, SID);
  const last = (levels: number): bigint => (1n << BigInt(12 + 9 * levels)) - 0x1000n;
  for (const levels of [3, 4, 5]) {
    const ss = tables.page();
    for (const va of [0n, last(levels)]) tables.map(ss, levels, va, OUT | R | W, R | W);
    tables.pasid(directory, levels, { pgtt: 2, aw: levels - 2, ss, did: levels });
  }
  bench.enable();
  for (const levels of [3, 4, 5]) {
    for (const va of [0n, last(levels)]) {
      t.is(bench.dma(va, { pasid: levels, write: true }), Number(OUT));
    }
    t.is(bench.dma(last(levels) + 0x1000n, { pasid: levels }), -0x84);
    t.is(bench.dma(1n << 63n, { pasid: levels }), -0x84);
  }
});

rule('SS-ADDR-1', 'MGAW bounds what AW would allow', (t) => {
  const { bench } = second({ cap: { MGAW: 38 } });
  t.is(bench.dma((1n << 39n) - 0x1000n, { pasid: PASID }), -0x79);
  t.is(bench.dma(1n << 39n, { pasid: PASID }), -0x84);
});

rule(['SS-LEVEL-1', 'ATS-4'], '2 MiB and 1 GiB pages', (t) => {
  const two = second();
  set(two, two.ssEntry(SS_VA, 2), 0x40_0000n | PS | R | W);
  t.is(two.bench.ats(SS_VA, { pasid: PASID }), 'rw 567000/21');
  const gig = second();
  set(gig, gig.ssEntry(SS_VA, 3), 0x8000_0000n | PS | R | W);
  const frame = (0x8000_0000n + (SS_VA & 0x3fff_ffffn)).toString(16);
  t.is(gig.bench.ats(SS_VA, { pasid: PASID }), `rw ${frame}/30`);
});

rule('SS-AD-1', 'without SSADE the bits are ignored: no update, no fault without snooping', (t) => {
  const { bench, ssEntry } = second({}, { pwsnp: false });
  t.is(bench.dma(SS_VA, { pasid: PASID, write: true }), Number(OUT));
  t.is(bench.tables.read(ssEntry(SS_VA, 1)) & 0x300n, 0n);
});

rule(
  'SS-AD-2',
  'with SSADE: 7Ch for a bit that is missing and not snooped, 7Dh if refused',
  (t) => {
    const stage = second({}, { ssade: true, pwsnp: false });
    for (const level of [1, 2, 3, 4]) or(stage, stage.ssEntry(SS_VA, level), SS_A);
    t.is(stage.bench.dma(SS_VA, { pasid: PASID }), Number(OUT));
    t.is(stage.bench.dma(SS_VA, { pasid: PASID, write: true }), -0x7c);
    t.is(stage.bench.ats(SS_VA, { pasid: PASID }), 'CA 7c');
    t.is(stage.bench.ats(SS_VA, { pasid: PASID, nw: true }), 'r- 300000/12');
    const refused = second({ refusesUpdates: () => true }, { ssade: true });
    t.is(refused.bench.ats(SS_VA, { pasid: PASID }), 'CA 7d');
    t.like(refused.bench.takeFault(), { code: 0x7d, at: 1 });
  },
);

rule('ATS-6', 'SNP of the leaf', (t) => {
  const stage = second();
  stage.bench.ats(SS_VA, { pasid: PASID });
  t.false(stage.bench.unit.result.noSnoop);
  or(stage, stage.ssEntry(SS_VA, 1), SNP);
  stage.bench.setRoot();
  for (const from of ['walk', 'IOTLB']) {
    stage.bench.ats(SS_VA, { pasid: PASID });
    t.true(stage.bench.unit.result.noSnoop, from);
  }
});

rule('REQ-9', 'zero-length reads of a write-only page, with CAP.ZLR and without', (t) => {
  for (const ZLR of [0, 1]) {
    const stage = second({ cap: { ZLR } });
    drop(stage, stage.ssEntry(SS_VA, 1), R);
    const request = { sid: SID, pasid: PASID, priv: false, exec: false, noWrite: false } as const;
    const page = Number(SS_VA >> 12n);
    const access = 'zero-length read';
    t.is(stage.bench.unit.request({ ...request, type: 0, page, access }), ZLR === 1);
    t.is(stage.bench.takeFault()?.code, ZLR === 1 ? undefined : 0x86);
  }
});

rule('PT-1', 'identity, any permission, a large range outside the interrupt window', (t) => {
  const { bench } = through();
  for (const pasid of [PASID, -1]) {
    t.is(bench.dma(0x1234_5000n, { pasid, write: true }), 0x1234_5000);
    t.is(bench.ats(0x1234_5000n, { pasid }), 'rw 12345000/21');
    t.is(bench.ats(0xfed0_0000n, { pasid }), 'rw fed00000/21');
    t.is(bench.ats(0xfef0_0000n, { pasid }), 'rw fef00000/12');
  }
  t.is(bench.ats(0x5000n, { priv: true, pasid: PASID }), 'rw 5000/21', 'SRE does not count');
});
