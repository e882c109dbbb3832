/** A dma-buf as the memory behind mappings (struct iopt_pages_dmabuf, drivers/iommu/iommufd/pages.c). */
import { Mutex } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import type { DmaBuf, DmaBufImporter } from '../dma-buf.ts';
import { Errno } from '../errno.ts';
import type { Exported, ExportedMapping, PageSource } from './page-source.ts';
import { hex, PAGE_SIZE } from './page-source.ts';

const PAGE = BigInt(PAGE_SIZE);
/** A batch counts its pages in 32 bits. */
const PAGES_MAX = 0xffff_ffffn;

/** What an exporter gave: there without pins, until the exporter takes it away for good. */
class ImportedPages implements Exported, DmaBufImporter {
  readonly mutex = new Mutex();
  readonly #mappings = new Set<ExportedMapping>();
  readonly #firstPfn: number;
  #revoked = false;

  constructor(firstPfn: number) {
    this.#firstPfn = firstPfn;
  }

  get revoked(): boolean {
    return this.#revoked;
  }

  frame(page: number): number {
    return this.#firstPfn + page;
  }

  track(mapping: ExportedMapping): void {
    this.#mappings.add(mapping);
  }

  untrack(mapping: ExportedMapping): void {
    this.#mappings.delete(mapping);
  }

  /** The areas stay, with nothing behind them; a mapping made anew works again. */
  *invalidate(): Task {
    yield* this.mutex.lock();
    try {
      if (this.#revoked) return;
      for (const mapping of this.#mappings) yield* mapping.unmap();
      this.#revoked = true;
    } finally {
      this.mutex.unlock();
    }
  }
}

/**
 * Imports `length` bytes of a dma-buf from `start` on. No CPU reaches them through the IOAS, and
 * nobody is charged for them.
 *
 * @throws Errno EINVAL: beyond its end, or 16 TiB and more; ENODEV: it is revoked; EOPNOTSUPP: its
 *   exporter tells no physical addresses
 */
export function* dmaBufSource(dmaBuf: DmaBuf, start: bigint, length: bigint): Task<PageSource> {
  if (BigInt(dmaBuf.bytes) < start + length || length / PAGE >= PAGES_MAX) {
    const what = `offset 0x${hex(start)}, length 0x${hex(length)}`;
    throw new Errno('EINVAL', `${what} of a dma-buf of 0x${hex(dmaBuf.bytes)} bytes`);
  }
  const base = start - (start % PAGE);
  yield* dmaBuf.mutex.lock();
  try {
    const address = dmaBuf.exporter.physicalAddress();
    if (address === null) {
      throw new Errno('EOPNOTSUPP', 'the exporter of the dma-buf tells no physical addresses');
    }
    const pages = new ImportedPages((address + Number(base)) / PAGE_SIZE);
    dmaBuf.attach(pages);
    return {
      kind: 'dmabuf',
      mm: null,
      base,
      firstByte: start % PAGE,
      exported: pages,
      pin: noCpuAccess,
      unpin: () => undefined,
      read: noCpuAccess,
      write: noCpuAccess,
      release: () => dmaBuf.detach(pages),
    };
  } finally {
    dmaBuf.mutex.unlock();
  }
}

function noCpuAccess(): never {
  throw new Errno('EINVAL', 'the memory of a dma-buf is for devices only');
}
