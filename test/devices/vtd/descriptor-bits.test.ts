/** Every bit of every invalidation descriptor by itself. */
import { Bench } from './bench.ts';
import { rule } from './rule.ts';

const IQE = 0x10;
const iqei = (bench: Bench): number => bench.r32(0xb0) & 0xf;

function ready(options: ConstructorParameters<typeof Bench>[0] = {}): Bench {
  const bench = new Bench(options);
  bench.setRoot();
  bench.enableQueue();
  return bench;
}

/** Bits hi:lo. */
function bits(...ranges: readonly (readonly [hi: number, lo: number])[]): bigint {
  return ranges.reduce(
    (mask, [hi, lo]) => mask | (((1n << BigInt(hi - lo + 1)) - 1n) << BigInt(lo)),
    0n,
  );
}

const PAGES = bits([6, 0], [63, 12]);

/** A sound descriptor of each type, and the bits that mean something in its first two words. */
const layouts: readonly (readonly [name: string, qw0: bigint, used0: bigint, used1: bigint])[] = [
  ['cc', 0x11n, bits([5, 4], [31, 16], [49, 32]), 0n],
  ['iotlb', 0x12n, bits([7, 4], [31, 16]), PAGES],
  ['dev_tlb', 3n, bits([15, 12], [20, 16], [47, 32], [63, 52]), bits([0, 0], [63, 12])],
  ['iec', 4n, bits([4, 4], [31, 27], [47, 32]), 0n],
  ['wait', 5n, bits([7, 4], [63, 32]), bits([63, 2])],
  ['p_iotlb', 0x26n, bits([5, 4], [31, 16], [51, 32]), PAGES],
  ['pc', 0x17n, bits([5, 4], [31, 16], [51, 32]), 0n],
  ['p_dev_tlb', 8n, bits([8, 4], [15, 12], [51, 16], [63, 52]), bits([0, 0], [11, 11], [63, 12])],
  ['pgrp', 9n, bits([4, 4], [15, 12], [51, 16]), bits([2, 2], [11, 3])],
];

for (const [name, qw0, used0, used1] of layouts) {
  rule('IQ-IQE-2', `${name}: every bit of four words by itself`, (t) => {
    for (const DIT of [0, 1]) {
      // PFSID means something with DIT only.
      const pfsid = DIT === 0 && (name === 'dev_tlb' || name === 'p_dev_tlb');
      const used = [pfsid ? used0 & ~bits([15, 12], [63, 52]) : used0, used1, 0n, 0n];
      for (let bit = 0; bit < 256; bit++) {
        const word = bit >> 6;
        const mask = 1n << BigInt(bit & 63);
        // Type bits make another descriptor of it, granularity bits perhaps a bad one.
        if (word === 0 && (mask & bits([3, 0], [11, 9])) !== 0n) continue;
        if (word === 0 && (mask & bits([5, 4])) !== 0n && (used[0]! & mask) !== 0n) continue;
        const bench = shared(DIT);
        const at = bench.put(qw0);
        bench.tables.write(at + 8n * BigInt(word), (word === 0 ? qw0 : 0n) | mask);
        bench.ring();
        bench.clock.run(1000);
        const failed = (bench.r32(0x34) & IQE) !== 0;
        const isReserved = (used[word]! & mask) === 0n;
        if (failed !== isReserved) t.fail(`bit ${bit}: ${failed}`);
        if (!failed) continue;
        t.is(iqei(bench), 4);
        // The offender becomes a wait without effect.
        for (const offset of [0n, 8n, 16n, 24n]) bench.tables.write(at + offset, 0n);
        bench.tables.write(at, 5n);
        bench.w32(0x34, IQE);
        bench.clock.run(1000);
      }
    }
  });
}

const EVERY_FUNCTION = new Set(Array.from({ length: 0x10000 }, (_, sid) => sid));
const benches = new Map<number, Bench>();

/** One bench for all: descriptors are taken one by one. */
function shared(DIT: number): Bench {
  const known = benches.get(DIT) ?? ready({ ecap: { DIT } });
  benches.set(DIT, known);
  known.functions = EVERY_FUNCTION;
  return known;
}
