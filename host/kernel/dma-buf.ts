/** Memory that one driver exports as a file and others import (drivers/dma-buf/dma-buf.c). */
import { Mutex } from '../machine/scheduler.ts';
import type { Task } from '../syscall.ts';
import { Errno } from './errno.ts';
import type { Caller, FileOps } from './file.ts';

/** The driver behind a dma-buf. */
export interface DmaBufExporter {
  /** Length in bytes, whole pages. */
  readonly bytes: number;
  /**
   * Physical address of the first byte; the memory is contiguous. Null: importers that need the
   * address itself get none from this exporter. Errno ENODEV: it is revoked.
   */
  physicalAddress(): number | null;
  /** The file and every importer have gone. */
  release(): void;
}

/** Who has imported a dma-buf (struct dma_buf_attachment). */
export interface DmaBufImporter {
  /** The exporter takes the memory away: when this returns, nobody reaches it any more. */
  invalidate(): Task;
}

/** An open dma-buf. */
export class DmaBuf implements FileOps {
  readonly name = '[dmabuf]';
  readonly exporter: DmaBufExporter;
  /** The reservation lock: held while it is imported and while it is revoked. */
  readonly mutex = new Mutex();
  readonly #importers = new Set<DmaBufImporter>();
  #holders = 1;

  constructor(exporter: DmaBufExporter) {
    this.exporter = exporter;
  }

  get bytes(): number {
    return this.exporter.bytes;
  }

  /** Keeps the memory until `detach`, also when the file is closed. */
  attach(importer: DmaBufImporter): void {
    this.#importers.add(importer);
    this.#holders++;
  }

  detach(importer: DmaBufImporter): void {
    if (this.#importers.delete(importer)) this.#drop();
  }

  /** Tells every importer that what it knows holds no more; the caller has the mutex. */
  *invalidateMappings(): Task {
    for (const importer of [...this.#importers]) yield* importer.invalidate();
  }

  *release(): Task {
    this.#drop();
  }

  #drop(): void {
    if (--this.#holders === 0) this.exporter.release();
  }
}

/** The dma-buf behind a descriptor. Errno EBADF: not open; EINVAL: no dma-buf. */
export function dmaBufOf(caller: Caller, fd: number): DmaBuf {
  const { ops } = caller.files.get(fd);
  if (ops instanceof DmaBuf) return ops;
  throw new Errno('EINVAL', `file descriptor ${fd} is ${ops.name}, not a dma-buf`);
}
