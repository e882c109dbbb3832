/** Permissions of all levels and stages, every combination, by every kind of access. */
import { AT } from '../../../devices/pci/fabric.ts';
import { type Bench, SID, vpn } from './bench.ts';
import { rule } from './rule.ts';
import { first, LEAF, LINK, nested, OUT, or, PASID, SS_VA, second, VA } from './stages.ts';
import { A, D, P, R, RW, US, W } from './tables.ts';

const ACCESSES = ['read', 'write', 'atomic', 'zero-length read'] as const;
type Access = (typeof ACCESSES)[number];

const writes = (access: Access): boolean => access === 'write' || access === 'atomic';
const reads = (access: Access): boolean => access !== 'write';

/** An untranslated request with PASID, of fresh tables: 0 or the fault. */
function ask(bench: Bench, va: bigint, access: Access, priv: boolean): number {
  bench.w32(0x18, 0xc000_0000);
  const request = { sid: SID, pasid: PASID, priv, exec: false, noWrite: false, access };
  bench.unit.request({ ...request, type: AT.UNTRANSLATED, page: vpn(va) });
  bench.takeFault();
  return bench.unit.result.fault;
}

/** The permissions that a translation request gets. */
function granted(bench: Bench, va: bigint, priv: boolean): string {
  bench.w32(0x18, 0xc000_0000);
  return bench.ats(va, { pasid: PASID, priv }).slice(0, 2);
}

for (const flat of [true, false]) {
  const memory = flat ? 'flat' : 'scattered';

  rule(['FS-PERM-1', 'FS-PERM-2', 'ATS-1'], `R/W and U/S of four levels, ${memory} memory`, (t) => {
    for (const wpe of [false, true]) {
      const { bench, fsEntry } = first({ flat }, { sre: true, wpe });
      const { tables } = bench;
      const at = [1, 2, 3, 4].map(fsEntry);
      const sound = at.map((address) => tables.read(address) & ~(RW | US));
      for (let combination = 0; combination < 256; combination++) {
        const levels = at.map((_, i) => BigInt((combination >> (2 * i)) & 3) << 1n);
        at.forEach((address, i) => tables.write(address, sound[i]! | levels[i]!));
        const rw = levels.every((bits) => (bits & RW) !== 0n);
        const us = levels.every((bits) => (bits & US) !== 0n);
        for (const priv of [false, true]) {
          const writable = rw || (priv && !wpe);
          for (const access of ACCESSES) {
            const denied = writes(access) && !writable ? 0x85 : 0;
            const expected = !priv && !us ? 0x81 : denied;
            const found = ask(bench, VA, access, priv);
            if (found !== expected) t.fail(`${combination} ${access} ${priv}: ${found}`);
          }
          const expected = !priv && !us ? '--' : writable ? 'rw' : 'r-';
          t.is(granted(bench, VA, priv), expected);
        }
      }
    }
  });

  rule(['SS-PERM-1', 'ATS-1'], `R and W of four levels, ${memory} memory`, (t) => {
    const { bench, ssEntry } = second({ flat });
    const { tables } = bench;
    const at = [1, 2, 3, 4].map((level) => ssEntry(SS_VA, level));
    const sound = at.map((address) => tables.read(address) & ~(R | W));
    for (let combination = 0; combination < 256; combination++) {
      const levels = at.map((_, i) => BigInt((combination >> (2 * i)) & 3));
      at.forEach((address, i) => tables.write(address, sound[i]! | levels[i]!));
      const r = levels.every((bits) => (bits & R) !== 0n);
      const w = levels.every((bits) => (bits & W) !== 0n);
      for (const access of ACCESSES) {
        const denied = writes(access) && !w ? 0x85 : reads(access) && !r ? 0x86 : 0;
        const expected = r || w ? denied : 0x79;
        const found = ask(bench, SS_VA, access, false);
        if (found !== expected) t.fail(`${combination} ${access}: ${found}`);
      }
      t.is(granted(bench, SS_VA, false), `${r ? 'r' : '-'}${w ? 'w' : '-'}`);
    }
  });

  rule(['NEST-4', 'REQ-9', 'ATS-1'], `both stages of the final page, ${memory} memory`, (t) => {
    for (const ZLR of [0, 1]) {
      const { bench, fsEntry, ssEntry } = nested({ flat, cap: { ZLR } }, { sre: true });
      const { tables } = bench;
      for (const fsBits of [0n, RW, US, RW | US]) {
        tables.write(fsEntry(1), OUT | P | A | D | fsBits);
        for (const ssBits of [R, W, R | W]) {
          const leaf = ssEntry(OUT, 1);
          tables.write(leaf, (tables.read(leaf) & ~(R | W)) | ssBits);
          for (const priv of [false, true]) {
            const writable = ((fsBits & RW) !== 0n || priv) && (ssBits & W) !== 0n;
            const readable = (ssBits & R) !== 0n;
            const user = !priv && (fsBits & US) === 0n;
            for (const access of ACCESSES) {
              let expected = 0;
              if (reads(access) && !readable) expected = 0x86;
              if (access === 'zero-length read' && ZLR === 1 && writable) expected = 0;
              if (writes(access) && !writable) expected = 0x85;
              if (user) expected = 0x81;
              t.is(ask(bench, VA, access, priv), expected, `${fsBits} ${ssBits} ${access} ${priv}`);
            }
            const some = `${readable ? 'r' : '-'}${writable ? 'w' : '-'}`;
            t.is(granted(bench, VA, priv), user ? '--' : some);
          }
        }
      }
    }
  });
}

rule('FS-PERM-2', 'SMEP, NXE and XD do not count', (t) => {
  const stage = first({}, { sre: true });
  const { bench, directory, fsEntry } = stage;
  or(stage, bench.tables.pasidAddress(directory, PASID) + 16n, 0x60n);
  or(stage, fsEntry(1), 1n << 63n);
  for (const access of ACCESSES) {
    for (const priv of [false, true]) t.is(ask(bench, VA, access, priv), 0);
  }
});

rule('REQ-8', 'an AtomicOp sets D, and needs both permissions also when cached', (t) => {
  const stage = second({}, { ssade: true });
  const { bench, ssEntry } = stage;
  const leaf = ssEntry(SS_VA, 1);
  t.is(ask(bench, SS_VA, 'atomic', false), 0);
  t.is(bench.tables.read(leaf) & 0x300n, 0x300n, 'A and D');
  bench.tables.write(leaf, OUT | W);
  bench.w32(0x18, 0xc000_0000);
  t.is(bench.dma(SS_VA, { pasid: PASID, write: true }), Number(OUT), 'cached as write-only');
  const request = { sid: SID, pasid: PASID, priv: false, exec: false, noWrite: false } as const;
  const page = vpn(SS_VA);
  t.false(bench.unit.request({ ...request, type: AT.UNTRANSLATED, page, access: 'atomic' }));
  t.like(bench.takeFault(), { code: 0x86, type: 3 });
});

/** Which of the entries of VA have which bits, as digits per level from the leaf up. */
function marks(bench: Bench, at: readonly bigint[], mask: bigint): string {
  return at.map((address) => ((bench.tables.read(address) & mask) === mask ? '1' : '0')).join('');
}

rule(
  ['FS-AD-1', 'FS-AD-2'],
  'accessed, extended and dirty bits, every start, every access',
  (t) => {
    for (const eafe of [false, true]) {
      const { bench, fsEntry } = first({}, { eafe });
      const { tables } = bench;
      const at = [1, 2, 3, 4].map(fsEntry);
      const base = at.map((address) => tables.read(address) & ~(A | D | 0x400n | RW));
      for (let start = 0; start < 32; start++) {
        for (const rw of [0n, RW]) {
          for (const access of [...ACCESSES, 'ats', 'ats-nw'] as const) {
            at.forEach((address, i) => {
              const a = ((start >> i) & 1) === 1 ? A | 0x400n : 0n;
              const d = i === 0 && start >= 16 ? D : 0n;
              tables.write(address, base[i]! | a | d | rw);
            });
            if (access === 'ats' || access === 'ats-nw') {
              bench.w32(0x18, 0xc000_0000);
              bench.ats(VA, { pasid: PASID, nw: access === 'ats-nw' });
            } else {
              ask(bench, VA, access, false);
            }
            const dirties = access === 'ats' || access === 'write' || access === 'atomic';
            t.is(marks(bench, at, A), '1111', `${start} ${access}`);
            if (eafe) t.is(marks(bench, at, 0x400n), '1111');
            const d = start >= 16 || (dirties && rw !== 0n);
            t.is(marks(bench, at, D), d ? '1000' : '0000', `${start} ${access} ${rw}`);
          }
        }
      }
    }
  },
);

rule(['SS-AD-1', 'ATS-3'], 'second-stage accessed and dirty bits, with and without SSADE', (t) => {
  for (const ssade of [false, true]) {
    const { bench, ssEntry } = second({}, { ssade });
    const { tables } = bench;
    const at = [1, 2, 3, 4].map((level) => ssEntry(SS_VA, level));
    for (const access of [...ACCESSES, 'ats', 'ats-nw'] as const) {
      for (const w of [0n, W]) {
        at.forEach((address, i) => {
          const old = tables.read(address) & ~0x302n;
          tables.write(address, old | (i === 0 ? w : W));
        });
        if (access === 'ats' || access === 'ats-nw') {
          bench.w32(0x18, 0xc000_0000);
          bench.ats(SS_VA, { pasid: PASID, nw: access === 'ats-nw' });
        } else {
          ask(bench, SS_VA, access, false);
        }
        const dirties = access === 'ats' || access === 'write' || access === 'atomic';
        t.is(marks(bench, at, 0x100n), ssade ? '1111' : '0000');
        t.is(marks(bench, at, 0x200n), ssade && dirties && w !== 0n ? '1000' : '0000');
      }
    }
  }
});

rule(
  ['CACHE-12', 'ATS-3'],
  'a translation cached clean is walked again for a write, which sets D',
  (t) => {
    const stage = first();
    const { bench, fsEntry } = stage;
    bench.tables.write(fsEntry(1), OUT | (LEAF & ~D));
    t.is(bench.dma(VA, { pasid: PASID }), Number(OUT));
    t.is(bench.tables.read(fsEntry(1)) & D, 0n);
    t.is(bench.dma(VA, { pasid: PASID, write: true }), Number(OUT));
    t.is(bench.tables.read(fsEntry(1)) & D, D);
    t.is(bench.tables.read(fsEntry(2)) & D, LINK & D);
  },
);
