/** Where a mapping goes that names no IOVA. */
import test from 'ava';
import type { Interval } from '../../../../host/kernel/iommufd/interval-set.ts';
import { IntervalSet, IOVA_MAX } from '../../../../host/kernel/iommufd/interval-set.ts';
import { allocateIova } from '../../../../host/kernel/iommufd/iova.ts';

function setOf(...ranges: readonly (readonly [bigint, bigint])[]): IntervalSet<Interval> {
  const set = new IntervalSet<Interval>();
  set.replace(ranges.map(([start, last]) => ({ start, last })));
  return set;
}

const place = (
  length: bigint,
  allowed: IntervalSet<Interval>,
  { address = 0x1000n, alignment = 1n, reserved = setOf(), areas = setOf() } = {},
): bigint => allocateIova({ length, address, alignment }, allowed, reserved, areas);

test('the first and the last page are never given, allowed or not', (t) => {
  t.is(place(0x1000n, setOf()), 0x1000n);
  t.is(place(0x1000n, setOf([0n, 0xffffn])), 0x1000n);
  t.is(place(1n, setOf([0n, 0xffffn])), 0x1000n);
  const message = /ENOSPC/;
  t.throws(() => place(0x1000n, setOf([0n, 0xfffn])), { message });
  t.throws(() => place(0x1000n, setOf([IOVA_MAX - 0xfffn, IOVA_MAX])), { message });
});

test('neighbouring allowed ranges are one', (t) => {
  const halves = setOf([0x1000n, 0x1fffn], [0x2000n, 0x2fffn]);
  t.is(place(0x2000n, halves), 0x1000n);
  t.throws(() => place(0x2000n, setOf([0x1000n, 0x1fffn], [0x3000n, 0x3fffn])), {
    message: /ENOSPC/,
  });
});

test('around what is reserved or mapped, aligned like the address', (t) => {
  const reserved = setOf([0x1000n, 0x1fffn]);
  const areas = setOf([0x2000n, 0x2fffn], [0x5000n, 0x5fffn]);
  t.is(place(0x2000n, setOf(), { reserved, areas }), 0x3000n);
  t.is(place(0x3000n, setOf(), { reserved, areas }), 0x6000n);
  t.is(place(0x800n, setOf(), { address: 0x1800n, reserved, areas }), 0x3800n);
  t.is(place(0x4000n, setOf(), { address: 0x4000n, reserved, areas }), 0x8000n);
  t.throws(() => place(0x800n, setOf(), { address: 0x1800n, alignment: 0x1000n }), {
    message: /EINVAL/,
  });
});
