import type { DsaCapabilityOptions } from '../spec/dsa/capabilities.ts';

/** Sets and ways of one part of the device-TLB; `sets` is a power of two. */
export interface TlbShape {
  readonly sets: number;
  readonly ways: number;
}

/**
 * What the specification leaves to the implementation, or what could not be confirmed: sizes and
 * named policies of the modelled accelerator.
 */
export interface DsaModel {
  readonly capabilities: DsaCapabilityOptions;
  /** Device-TLB parts for pages of 4 KiB, 2 MiB and 1 GiB. */
  readonly tlb: readonly [TlbShape, TlbShape, TlbShape];
  /** PRI: most outstanding page requests, 1 to 512. */
  readonly maxPageRequests: number;
  /** Page requests in flight for one descriptor: the page it needs and the ones after it. */
  readonly pageRequestWindow: number;
  /** Answers "success" in a row that may leave a page without translation; then status 0x22. */
  readonly pageRequestRetries: number;
  /** Pages of data an engine moves before others get their turn, 1 to 32. */
  readonly slicePages: number;
  /** A fault on the completion record asks for the page even with block on fault off. */
  readonly recordFaultsRequestPages: boolean;
  /** The same for a batch's descriptor list; otherwise it ends the batch with status 0x06. */
  readonly listFaultsRequestPages: boolean;
  /** A submission that is dropped (queue full, off or of the other mode) is a software error. */
  readonly reportDroppedSubmissions: boolean;
}

export const DEFAULT_MODEL: DsaModel = {
  capabilities: {},
  tlb: [
    { sets: 64, ways: 8 },
    { sets: 16, ways: 4 },
    { sets: 4, ways: 4 },
  ],
  maxPageRequests: 32,
  pageRequestWindow: 4,
  pageRequestRetries: 64,
  slicePages: 16,
  recordFaultsRequestPages: true,
  listFaultsRequestPages: false,
  reportDroppedSubmissions: true,
};

/** What things take in the accelerator, in nanoseconds of virtual time. Plausible, not measured. */
export const DSA_NS = {
  /** From a submission to the engine that takes it. */
  DISPATCH: 100,
  /** Each translation request. */
  ATS: 500,
  /** Each segment of data within a page. */
  SEGMENT: 200,
  /** Fetching descriptors of a batch. */
  FETCH: 200,
  /** After the answer to a page request. */
  RESUME: 100,
  COMMAND: 1000,
  /** Between an invalidation's arrival and its completion when nothing is in flight. */
  INVALIDATE: 200,
} as const;
