/**
 * Dirty tracking by second-stage dirty bits (drivers/iommu/intel/iommu.c:
 * intel_iommu_set_dirty_tracking, intel_iommu_read_and_clear_dirty).
 */
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { DirtyOps, DirtyRecord } from '../iommu/ops.ts';
import type { CacheTags, PageRange } from './cache.ts';
import type { IntelDevice } from './device.ts';
import { setDirtyEnable } from './pasid.ts';
import type { SecondStageTable } from './second-stage.ts';

const PAGE_BYTES = 4096n;
/** Pages looked at between two flushes. */
const CHUNK_PAGES = 2 ** 18;

/** A PASID-table entry that leads to the second stage, itself or through a guest's first stage. */
export interface Attachment {
  readonly device: IntelDevice;
  readonly pasid: number;
  /** Domain id of the entry. */
  readonly did: number;
}

/** Whether a second stage tracks dirty pages, and who must know. */
export class DirtyTracking {
  readonly #table: SecondStageTable;
  readonly #tags: CacheTags;
  /** By device, then by domain id and PASID. */
  readonly #attachments = new Map<IntelDevice, Map<number, Attachment>>();
  #on = false;

  constructor(table: SecondStageTable, tags: CacheTags) {
    this.#table = table;
    this.#tags = tags;
  }

  /** What SSADE of an entry written now must be. */
  get on(): boolean {
    return this.#on;
  }

  /** An entry of that PASID and domain id is there from now on; there was none. */
  attached(attachment: Attachment): void {
    const { device, pasid, did } = attachment;
    const entries = this.#attachments.get(device) ?? new Map<number, Attachment>();
    this.#attachments.set(device, entries.set(keyOf(pasid, did), attachment));
  }

  detached(device: IntelDevice, pasid: number, did: number): void {
    const entries = this.#attachments.get(device);
    entries?.delete(keyOf(pasid, did));
    if (entries?.size === 0) this.#attachments.delete(device);
  }

  /** Changes SSADE of every entry there is; those written meanwhile have it right. Cannot fail. */
  *set(enable: boolean): Task {
    if (this.#on === enable) return;
    this.#on = enable;
    const entries = [...this.#attachments.values()].flatMap((ofDevice) => [...ofDevice.values()]);
    for (const { device, pasid, did } of entries) {
      yield* setDirtyEnable(device, pasid, did, enable);
    }
  }

  /** Errno EINVAL: somebody wants to know, and tracking is off. */
  *readAndClear(range: PageRange, clear: boolean, record: DirtyRecord | null): Task {
    if (!this.#on && record !== null) throw new Errno('EINVAL', 'dirty tracking is off');
    const end = range.start + range.pages;
    for (let start = range.start; start < end; start += CHUNK_PAGES) {
      const pages = Math.min(CHUNK_PAGES, end - start);
      const found = this.#table.takeDirty(start, pages, clear, (page, count) =>
        record?.(BigInt(page) * PAGE_BYTES, BigInt(count) * PAGE_BYTES),
      );
      // A cached translation that had the bit set would not set it again.
      if (clear && found) yield* this.#tags.flushRange({ start, pages }, true);
    }
  }
}

/** PASIDs have 20 bits. */
function keyOf(pasid: number, did: number): number {
  return did * 2 ** 20 + pasid;
}

/** The operations of a domain whose tracking is `of` it. */
export function dirtyOps(tracking: DirtyTracking): DirtyOps {
  return {
    setDirtyTracking: (_domain, enable) => tracking.set(enable),
    readAndClearDirty: (_domain, iova, bytes, clear, record) => {
      const start = Number(iova / PAGE_BYTES);
      const pages = Number((iova + bytes - 1n) / PAGE_BYTES) - start + 1;
      return tracking.readAndClear({ start, pages }, clear, record);
    },
  };
}
