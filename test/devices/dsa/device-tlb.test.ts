import test from 'ava';
import { DeviceTlb, tlbContext } from '../../../devices/dsa/device-tlb.ts';
import { NO_PASID } from '../../../devices/pci/fabric.ts';

const shapes = [
  { sets: 4, ways: 2 },
  { sets: 2, ways: 2 },
  { sets: 1, ways: 2 },
] as const;
const user = tlbContext(5, false);

test('contexts: PASID and privilege make different ones, none is free', (t) => {
  const all = [NO_PASID, 0, 1, 0xf_ffff].flatMap((pasid) => [
    tlbContext(pasid, false),
    tlbContext(pasid, true),
  ]);
  t.is(new Set(all).size, all.length);
  t.true(all.every((context) => context > 0));
});

test('page numbers are exact up to 52 bits, and so are frames', (t) => {
  const tlb = new DeviceTlb(shapes);
  const top = 2 ** 52 - 1;
  tlb.fill(user, top, 2 ** 40 - 1, 12, true, false);
  t.true(tlb.lookup(user, top, false));
  t.is(tlb.frame, 2 ** 40 - 1);
  t.false(tlb.lookup(user, top, true), 'read only');
  t.false(tlb.lookup(user, top - 2 ** 32, false));
  t.false(tlb.lookup(tlbContext(5, true), top, false));
});

test('large translations are kept as the largest page that fits, 4 KiB for odd sizes', (t) => {
  const tlb = new DeviceTlb(shapes);
  tlb.fill(user, 0x12345, 0x800 + 0x145, 21, true, true);
  t.true(tlb.lookup(user, 0x12200, true));
  t.deepEqual([tlb.frame, tlb.first, tlb.end], [0x800, 0x12200, 0x12400]);
  tlb.fill(user, 0x4_0001, 0x9_0001, 30, true, true);
  t.true(tlb.lookup(user, 0x7_ffff, true));
  t.is(tlb.frame, 0xc_ffff);
  tlb.fill(user, 0x99, 0x77, 16, true, true);
  t.true(tlb.lookup(user, 0x99, true));
  t.false(tlb.lookup(user, 0x98, true));
});

test('a full set replaces, one place after the other', (t) => {
  const tlb = new DeviceTlb(shapes);
  for (let i = 0; i < 4; i++) tlb.fill(user, 4 * i, i, 12, true, true);
  const present = [0, 4, 8, 12].filter((vpn) => tlb.lookup(user, vpn, false));
  t.deepEqual(present, [8, 12]);
  tlb.fill(user, 12, 55, 12, true, true);
  t.true(tlb.lookup(user, 8, false), 'the same page takes its own place');
  t.true(tlb.lookup(user, 12, false));
  t.is(tlb.frame, 55);
});

test('nothing is kept of an answer without permissions', (t) => {
  const tlb = new DeviceTlb(shapes);
  tlb.fill(user, 1, 1, 12, false, false);
  t.is(tlb.invalidate(5, false, 0, 64), 0);
});

test('invalidation by page, range, PASID and globally', (t) => {
  const filled = (): DeviceTlb => {
    const tlb = new DeviceTlb([{ sets: 4, ways: 4 }, shapes[1], shapes[2]]);
    tlb.fill(user, 0x201, 1, 12, true, true);
    tlb.fill(user, 0x202, 2, 12, true, true);
    tlb.fill(user, 0x400, 0x400, 21, true, true);
    tlb.fill(tlbContext(5, true), 0x203, 3, 12, true, true);
    tlb.fill(tlbContext(6, false), 0x201, 4, 12, true, true);
    tlb.fill(tlbContext(NO_PASID, false), 0x201, 5, 12, true, true);
    return tlb;
  };
  t.is(filled().invalidate(5, false, 0x201, 12), 1);
  t.is(filled().invalidate(5, false, 0x202, 13), 2, 'both privileges');
  t.is(filled().invalidate(5, false, 0x5ff, 12), 1, 'a page inside a large one');
  t.is(filled().invalidate(5, false, 0x200, 21), 3);
  t.is(filled().invalidate(5, false, 0, 63), 4);
  t.is(filled().invalidate(5, false, 0, 64), 4);
  t.is(filled().invalidate(7, false, 0, 64), 0);
  t.is(filled().invalidate(NO_PASID, false, 0, 64), 1);
  t.is(filled().invalidate(0, true, 0x201, 12), 2, 'every PASID, not those without');
  const tlb = filled();
  tlb.clear();
  t.false(tlb.lookup(user, 0x201, false));
});
