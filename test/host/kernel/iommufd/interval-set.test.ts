import test from 'ava';
import fc from 'fast-check';
import type { Interval } from '../../../../host/kernel/iommufd/interval-set.ts';
import { holes, IntervalSet } from '../../../../host/kernel/iommufd/interval-set.ts';

const interval = fc
  .tuple(fc.bigInt(0n, 60n), fc.bigInt(0n, 20n))
  .map(([start, more]): Interval => ({ start, last: start + more }));
const meets = (a: Interval, b: Interval): boolean => a.start <= b.last && b.start <= a.last;

test('overlap search finds what a scan finds, through inserts and removes', (t) => {
  fc.assert(
    fc.property(fc.array(interval), fc.array(fc.nat(30)), interval, (items, gone, asked) => {
      const set = new IntervalSet<Interval>();
      let kept = [...items];
      for (const item of items) set.insert(item);
      for (const index of gone) {
        const item = items[index];
        t.is(
          set.remove(item ?? { start: 0n, last: 0n }),
          item !== undefined && kept.includes(item),
        );
        kept = kept.filter((one) => one !== item);
      }
      t.is(set.size, kept.length);
      const hits = kept.filter((item) => meets(item, asked));
      const found = set.allIn(asked.start, asked.last);
      t.is(found.length, hits.length);
      t.true(hits.every((item) => found.includes(item)));
      t.true(found.every((item, n) => n === 0 || found[n - 1]!.start <= item.start));
      const first = set.firstIn(asked.start, asked.last);
      t.is(first?.start, found[0]?.start);
    }),
  );
});

test('holes are exactly the uncovered values', (t) => {
  fc.assert(
    fc.property(fc.array(interval), fc.array(interval), interval, (one, two, within) => {
      const sets = [one, two].map((items) => {
        const set = new IntervalSet<Interval>();
        set.replace(items);
        return set;
      });
      const free = new Set<bigint>();
      for (let at = within.start; at <= within.last; at++) {
        if (![...one, ...two].some((item) => meets(item, { start: at, last: at }))) free.add(at);
      }
      const listed: bigint[] = [];
      for (const { start, last } of holes(within, ...sets)) {
        for (let at = start; at <= last; at++) listed.push(at);
      }
      t.deepEqual(listed, [...free]);
    }),
  );
});

test('room is found where a scan finds it', (t) => {
  const disjoint = fc.array(fc.tuple(fc.nat(8), fc.nat(6)), { maxLength: 40 }).map((steps) => {
    let at = 0n;
    return steps.map(([hole, length]): Interval => {
      const start = at + BigInt(hole);
      at = start + BigInt(length) + 1n;
      return { start, last: at - 1n };
    });
  });
  const cases = [disjoint, fc.array(fc.nat(60)), fc.bigInt(0n, 300n), fc.bigInt(1n, 10n)] as const;
  fc.assert(
    fc.property(...cases, (items, gone, from, length) => {
      const set = new IntervalSet<Interval>();
      for (const item of items) set.insert(item);
      for (const index of gone) if (index < items.length) set.remove(items[index]!);
      const kept = [...set];
      let expected = from;
      while (kept.some((item) => meets(item, { start: expected, last: expected + length - 1n }))) {
        expected++;
      }
      t.is(set.roomFrom(from, length), expected);
    }),
    { numRuns: 500 },
  );
});

test('intervals that come in order make no chain', (t) => {
  const set = new IntervalSet<Interval>();
  const count = 1 << 16;
  for (let n = 0n; n < count; n++) set.insert({ start: n * 4n, last: n * 4n + 1n });
  let compared = 0;
  const watched = { start: 4n * 40_000n + 2n, last: 4n * 40_000n + 2n };
  const probe = {
    get start(): bigint {
      compared++;
      return watched.start;
    },
    last: watched.last,
  };
  set.insert(probe);
  t.true(compared < 100, `${compared} looks at the start`);
  t.is(set.roomFrom(0n, 3n), BigInt(count) * 4n - 2n);
  t.true(set.remove(probe));
  t.is(set.size, count);
});
