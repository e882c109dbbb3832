import { sanitizer } from '../../../trace/catalogue/sanitizer.ts';
import type { Tracer } from '../../../trace/tracer.ts';
import { ridToString } from '../../spec/pci.ts';
import type { CacheEntry } from './cache-entry.ts';
import { ancestors, eventText, type Trail } from './history.ts';
import type { Change } from './tables.ts';

/** What can be wrong. */
export const KINDS = {
  'missing-invalidation': 'a table entry changed and what is cached of it was not invalidated',
  'no-device-tlb-invalidation': 'the IOTLB was invalidated and the device-TLB was not',
  'wrong-domain-id': 'the invalidation was sent for another domain',
  'wrong-pasid': 'the invalidation was sent for another PASID',
  'too-narrow': 'the invalidation covers less than what changed',
  'leaf-only': 'a table went, and paging-structure caches were told to keep it (IH)',
  'wrong-order': 'a cache was invalidated while it could still be filled from a stale one',
  'not-waited': 'the invalidation is under way, and its completion was not waited for',
  'freed-while-mapped': 'memory was given back that the tables still lead devices to',
  'dma-to-freed-memory': 'a device reached memory after it was given back',
  'stale-device-tlb': 'a device used a translation that it had confirmed to have dropped',
  'not-forwarded': 'the guest invalidated, and the host was not told',
  'attachment-out-of-date': 'the guest changed a PASID entry, and the host still has the old one',
  'pasid-use-after-detach': 'a PASID was used after its entry was taken away',
  'unmatched-response': 'a page group response answers no request',
  'second-response': 'a page request group was answered twice',
  'no-drain': 'a PASID was taken away without draining its page requests',
  'present-too-early': 'an entry was made present before the rest of it was written',
  'changed-in-place': 'a present entry was changed in a way that hardware may see half of',
} as const;
export type Kind = keyof typeof KINDS;

/** Something wrong, as a unit's watch found it. */
export interface Finding {
  readonly kind: Kind;
  readonly unit: string;
  readonly sid: number;
  /** -1: none. */
  readonly pasid: number;
  readonly address: number;
  /** The cached entry it is about, if it is about one. */
  readonly entry: CacheEntry | null;
  readonly change: Change | null;
  /** What relied on the invalidation, or broke the rule. */
  readonly acted: { readonly what: string; readonly trail: Trail | null };
  /** The software at fault. */
  readonly who: string;
  /** The descriptors, or the calls, that are missing. */
  readonly missing: string;
  /** What was done instead, if anything. */
  readonly instead?: string;
}

/** Reports of one kind, place and culprit are one; so many different ones are kept. */
const MOST_REPORTS = 256;
/** Events told of each part of a report. */
const CHAIN = 8;

/** Files findings as trace events, each different one once. */
export class Reports {
  readonly #seen = new Map<string, number>();
  #trace: Tracer | null = null;

  begin(trace: Tracer): void {
    this.#trace = trace;
  }

  /** How many different findings there are. */
  get count(): number {
    return this.#seen.size;
  }

  /** How often something was found, repetitions included. */
  get total(): number {
    return [...this.#seen.values()].reduce((sum, n) => sum + n, 0);
  }

  file(finding: Finding): void {
    const { kind, unit, who, entry, change, missing } = finding;
    const trace = this.#trace;
    const place = change?.trail?.def.name ?? finding.acted.what;
    const cache = change === null ? '' : (entry?.cache ?? '');
    const key = [kind, unit, who, cache, place, missing.split(' ')[0]].join('|');
    const seen = this.#seen.get(key) ?? 0;
    if (trace === null || (seen === 0 && this.#seen.size >= MOST_REPORTS)) return;
    this.#seen.set(key, seen + 1);
    if (seen > 0) return;
    const number = this.#seen.size;
    using _span = trace.span(sanitizer.report, {
      number,
      kind,
      meaning: KINDS[kind],
      unit,
      sid: ridToString(finding.sid),
      pasid: finding.pasid,
      address: finding.address,
      entry: entry?.describe() ?? '',
      change: change === null ? '' : changeText(change),
      acted: finding.acted.what,
      who,
      missing,
      instead: finding.instead ?? '',
    });
    if (entry !== null) tell(trace, number, 'filled', 'filled the entry', entry.filled);
    if (change !== null) tell(trace, number, 'changed', 'changed the table', change.trail);
    if (change?.used) tell(trace, number, 'used', change.used.what, change.used.trail);
    tell(trace, number, 'acted', finding.acted.what, finding.acted.trail);
  }
}

function changeText({ entry, before, after }: Change): string {
  return `${entry.toString()}: ${before} -> ${after}`;
}

function tell(trace: Tracer, report: number, role: string, what: string, trail: Trail | null) {
  const events = ancestors(trail, CHAIN);
  if (events.length === 0) {
    trace.emit(sanitizer.history, { report, role, what, depth: 0, of: 0, at: 0, told: '' });
  }
  events.forEach((event, depth) => {
    const { seq: of, ns: at } = event;
    trace.emit(sanitizer.history, { report, role, what, depth, of, at, told: eventText(event) });
  });
}
