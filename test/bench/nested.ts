import { PGTT } from '../../devices/spec/vtd/pasid.ts';
import { FS, SS } from '../../devices/spec/x86/paging.ts';
import type { Tracer } from '../../trace/tracer.ts';
import { SID, TestMemory, Bench as UnitBench } from '../devices/vtd/bench.ts';

const FS_LINK = FS.P | FS.RW | FS.US | FS.A;
const FS_LEAF = FS_LINK | FS.D;
const SS_LINK = SS.R | SS.W;

/** PASID of the mapped address space. */
export const PASID = 5;

/** First virtual page. */
const FIRST_VA = 0x7f00_0000_0000n;

/**
 * A unit with `pages` pages of one PASID mapped 4 levels on 4 levels in 4 KiB leaves, the frames in
 * an order that no prefetcher guesses. Guest physical addresses are host physical ones.
 */
export function nestedUnit(pages: number, trace?: Tracer): { unit: UnitBench; vpns: Float64Array } {
  const bytes = (pages + (pages >> 6) + 4096) * 4096;
  const bench = new UnitBench({
    memory: new TestMemory(bytes, true),
    ...(trace === undefined ? {} : { trace }),
  });
  const { tables, root } = bench;
  const directory = tables.context(root, SID);
  const fs = tables.page();
  const ss = tables.page();
  const frames: bigint[] = Array.from({ length: pages }, () => tables.page());
  shuffle(frames);
  const vpns = new Float64Array(pages);
  frames.forEach((frame, i) => {
    const va = FIRST_VA + BigInt(i) * 4096n;
    tables.map(fs, 4, va, frame | FS_LEAF, FS_LINK);
    vpns[i] = Number(va >> 12n);
  });
  for (let gpa = 0n; gpa < BigInt(bytes); gpa += 4096n) {
    tables.map(ss, 4, gpa, gpa | SS_LINK, SS_LINK);
  }
  tables.pasid(directory, PASID, { pgtt: PGTT.NESTED, fs, ss, did: 2 });
  bench.enable();
  shuffle(vpns);
  return { unit: bench, vpns };
}

/** Fisher and Yates, with a linear congruential generator: the same order in every run. */
function shuffle(items: { length: number; [index: number]: unknown }): void {
  let state = 1;
  for (let i = items.length - 1; i > 0; i--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const j = state % (i + 1);
    const item = items[i];
    items[i] = items[j];
    items[j] = item;
  }
}
