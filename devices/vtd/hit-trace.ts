import { vtd } from '../../trace/catalogue/vtd.ts';
import { pageHigh, pageLow, pasidAndPerm } from '../../trace/hot.ts';
import { PERM } from '../../trace/perm.ts';
import type { HotSource, Tracer } from '../../trace/tracer.ts';
import { TLB } from './iotlb.ts';

/** The IOTLB's permissions are PERM.R and PERM.W, shifted: one shift and no branch. */
const SHIFT = Math.log2(TLB.R / PERM.R);
const PERM_MASK = PERM.R | PERM.W;

/** Tells of IOTLB hits, where somebody asks for them: out of line, so that the hit path stays small. */
export class HitTrace {
  readonly #trace: Tracer;
  readonly #source: HotSource;

  constructor(trace: Tracer, unit: string) {
    this.#trace = trace;
    this.#source = trace.source(vtd.iotlbHit, unit);
  }

  /** Page `lo` and `hi` (52 bits) was found with these flags. */
  note(sid: number, pasid: number, flags: number, lo: number, hi: number): void {
    this.#trace.emitHot(
      this.#source,
      sid,
      pasidAndPerm(pasid, (flags >>> SHIFT) & PERM_MASK),
      pageLow(lo),
      pageHigh(lo, hi),
    );
  }
}
