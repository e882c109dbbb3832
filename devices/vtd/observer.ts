import type { ValidDescriptor } from '../spec/vtd/invalidation.ts';
import type { PageRequest } from '../spec/vtd/page-request.ts';
import type { PasidConfig } from './entries.ts';
import type { Outcome } from './outcome.ts';
import type { WalkedEntry } from './walk-log.ts';

/** A memory request whose translation was not cached, as it was answered. Pages are numbers. */
export interface Walked {
  readonly sid: number;
  /** -1: without PASID. */
  readonly pasid: number;
  readonly priv: boolean;
  readonly page: number;
  readonly how: PasidConfig;
  readonly outcome: Outcome;
  /** The structures and table entries read on the way, in order. */
  readonly entries: readonly WalkedEntry[];
}

/**
 * Somebody who watches a unit from within, such as the sanitizer. A unit without one makes no call
 * and loses no time: every call is off the path of a cached translation.
 */
export interface VtdObserver {
  /** A walk succeeded and its translation entered the IOTLB. */
  walked(walk: Walked): void;
  /** The unit begins to carry out the descriptor that it fetched from a byte address. */
  descriptor(descriptor: ValidDescriptor, address: number): void;
  /** An ATS invalidate request with a tag is about to go to a function, for the last descriptor. */
  issued(sid: number, itag: number): void;
  /** A wait is complete, and its status is about to be written. */
  waited(drainPageRequests: boolean): void;
  /** A page request entered the queue: software owes its group an answer if it is the last. */
  pageQueued(request: PageRequest): void;
  /** Set-root-table-pointer, or translation on or off, just took effect. */
  remapped(change: 'root' | 'on' | 'off'): void;
}
