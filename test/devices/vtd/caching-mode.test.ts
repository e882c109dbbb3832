/** A unit in caching mode that caches what is not present, as it may. */
import { Bench, type BenchOptions, SID } from './bench.ts';
import { legacy } from './legacy-scenes.ts';
import { rule } from './rule.ts';
import { first, LEAF, OUT, PASID, SS_VA, type Stage, second, set, VA } from './stages.ts';
import { R, W } from './tables.ts';

const CACHING: BenchOptions = { cap: { CM: 1 }, cacheNotPresent: true };

const device = 0x31n | (BigInt(SID) << 32n);
const pc = (g: bigint, did: bigint, pasid: number): bigint =>
  0x7n | (g << 4n) | (did << 16n) | (BigInt(pasid) << 32n);
const iotlb = (g: bigint, did: bigint): bigint => 0x2n | (g << 4n) | (did << 16n);

/** Asks, makes the thing present, asks again, and after each descriptor. */
function story(
  stage: Stage,
  va: bigint,
  mend: () => void,
  descriptors: readonly (readonly [bigint, bigint])[],
): boolean[] {
  const { bench } = stage;
  bench.enableQueue();
  const works = (): boolean => bench.dma(va, { pasid: PASID }) > 0;
  const seen = [works()];
  mend();
  seen.push(works());
  for (const descriptor of descriptors) {
    bench.submit([descriptor]);
    seen.push(works());
  }
  return seen;
}

const T = true;
const F = false;

rule('CM-1', 'a context that was not present: until cc of the device, or of all', (t) => {
  // In scalable mode a domain is no tag of a context: domain-selective acts as global.
  for (const last of [device, 0x11n, 0x21n | (9n << 16n)]) {
    const stage = first(CACHING);
    const sound = stage.bench.tables.read(stage.context);
    set(stage, stage.context, 0n);
    const mend = (): void => set(stage, stage.context, sound);
    const other = 0x31n | (0x0200n << 32n);
    t.deepEqual(
      story(stage, VA, mend, [
        [pc(3n, 0n, 0), 0n],
        [other, 0n],
        [last, 0n],
      ]),
      [F, F, F, F, T],
    );
  }
});

rule('CM-1', 'a PASID entry that was not present: until pc with DID 0, or global', (t) => {
  for (const last of [pc(0n, 0n, 0), pc(1n, 0n, PASID), pc(3n, 0n, 0)]) {
    const stage = first(CACHING);
    stage.enter({ present: false });
    const mend = (): void => stage.enter({});
    t.deepEqual(
      story(stage, VA, mend, [
        [device, 0n],
        [pc(1n, 1n, PASID), 0n],
        [pc(1n, 0n, PASID + 1), 0n],
        [last, 0n],
      ]),
      [F, F, F, F, F, T],
    );
  }
});

rule('CM-1', 'a second-stage page that was not mapped: until iotlb with DID 0, or global', (t) => {
  for (const last of [
    [iotlb(1n, 0n), 0n],
    [iotlb(2n, 0n), 0n],
    [iotlb(3n, 0n), SS_VA],
    [0x26n | (BigInt(PASID) << 32n), 0n],
  ] as const) {
    const stage = second(CACHING);
    set(stage, stage.ssEntry(SS_VA, 1), 0n);
    const mend = (): void => set(stage, stage.ssEntry(SS_VA, 1), OUT | R | W);
    t.deepEqual(
      story(stage, SS_VA, mend, [[iotlb(2n, 1n), 0n], [iotlb(3n, 0n), SS_VA + 0x1000n], last]),
      [F, F, F, F, T],
    );
  }
});

rule('CM-2', 'a first-stage page that was not mapped is found at once', (t) => {
  const stage = first(CACHING);
  set(stage, stage.fsEntry(1), 0n);
  const mend = (): void => set(stage, stage.fsEntry(1), OUT | LEAF);
  t.deepEqual(story(stage, VA, mend, []), [F, T]);
});

rule('CM-1', 'what is remembered keeps its code and its FPD; SRTP forgets it', (t) => {
  const stage = first(CACHING);
  const sound = stage.bench.tables.read(stage.context);
  set(stage, stage.context, 2n);
  t.is(stage.bench.dma(VA, { pasid: PASID }), -0x41);
  set(stage, stage.context, sound);
  t.is(stage.bench.dma(VA, { pasid: PASID }), -0x41);
  t.is(stage.bench.takeFault(), null);
  stage.bench.setRoot();
  t.is(stage.bench.dma(VA, { pasid: PASID }), Number(OUT));
});

rule('CM-1', 'legacy contexts: domain-selective cc with DID 0', (t) => {
  const { bench, context } = legacy(1n, CACHING);
  const sound = bench.tables.read(context);
  bench.enableQueue();
  bench.tables.write(context, 0n);
  t.is(bench.dma(0x1234_5000n), -2);
  bench.tables.write(context, sound);
  bench.submit([[0x21n | (7n << 16n), 0n]]);
  t.is(bench.dma(0x1234_5000n), -2);
  bench.submit([[0x21n, 0n]]);
  t.true(bench.dma(0x1234_5000n) > 0);
});

rule('CM-1', 'without CAP.CM, or without the option, nothing of the kind', (t) => {
  for (const options of [{ cacheNotPresent: true }, { cap: { CM: 1 } }]) {
    const stage = first(options);
    stage.enter({ present: false });
    t.deepEqual(
      story(stage, VA, () => stage.enter({}), []),
      [F, T],
    );
  }
});

rule('CM-1', 'what is remembered is bounded', (t) => {
  const bench = new Bench({ ...CACHING, bytes: 1 << 22 });
  const directory = bench.tables.context(bench.root, SID);
  bench.tables.write(bench.tables.directoryEntry(directory, 1), bench.tables.page() | 1n);
  const ss = bench.tables.page();
  bench.tables.pasid(directory, 2, { pgtt: 2, ss });
  bench.enable();
  for (let page = 0; page < 6000; page++) {
    if (bench.dma(BigInt(page) << 12n, { pasid: 2 }) !== -0x79) t.fail(`${page}`);
  }
  bench.tables.map(ss, 4, 0n, OUT | R | W, R | W);
  t.is(bench.dma(0n, { pasid: 2 }), Number(OUT), 'the oldest has gone');
});
