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
