/** A file with an access object behind it, and what it has pinned (struct selftest_access). */
import { Mutex } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { Caller, FileOps } from '../file.ts';
import type { IommufdAccess } from '../iommufd/access.ts';
import { createAccess, destroyAccess, unpinPages } from '../iommufd/access.ts';
import { IOVA_MAX } from '../iommufd/interval-set.ts';
import type { IommufdCtx } from '../iommufd/object.ts';

/** One pin, as the test knows it. */
interface Item {
  readonly id: number;
  readonly iova: bigint;
  readonly length: bigint;
}

export class AccessFile implements FileOps {
  readonly name = '[iommufd_test_staccess]';
  readonly access: IommufdAccess;
  /** Held while the items change, and from before a pin until it is among them. */
  readonly mutex = new Mutex();
  #items: Item[] = [];
  #nextId = 0;

  /** @throws Errno ENOMEM, ENOSPC */
  constructor(ctx: IommufdCtx, needsPinPages: boolean) {
    const unmap = (iova: bigint, length: bigint): Task => this.#unpinRange(iova, length);
    this.access = createAccess(ctx, { needsPinPages, unmap });
  }

  /** Remembers a pin; its id counts from 0. The caller holds the mutex. */
  add(iova: bigint, length: bigint): number {
    const id = this.#nextId++;
    this.#items.push({ id, iova, length });
    return id;
  }

  /** Forgets the pin that was added last. The caller holds the mutex and unpins. */
  forget(id: number): void {
    this.#items = this.#items.filter((item) => item.id !== id);
  }

  /** @throws Errno ENOENT */
  *unpin(id: number): Task {
    yield* this.mutex.lock();
    try {
      const item = this.#items.find((one) => one.id === id);
      if (item === undefined) throw new Errno('ENOENT', `the access has no pages ${id}`);
      this.forget(id);
      yield* unpinPages(this.access, item.iova, item.length);
    } finally {
      this.mutex.unlock();
    }
  }

  *release(): Task {
    yield* this.#unpinRange(0n, IOVA_MAX);
    yield* destroyAccess(this.access);
  }

  *#unpinRange(iova: bigint, length: bigint): Task {
    const last = iova + length - 1n;
    yield* this.mutex.lock();
    try {
      for (const item of [...this.#items]) {
        if (item.iova > last || item.iova + item.length - 1n < iova) continue;
        this.forget(item.id);
        yield* unpinPages(this.access, item.iova, item.length);
      }
    } finally {
      this.mutex.unlock();
    }
  }
}

/** The file behind a descriptor. @throws Errno EBADFD: not open, or not an access */
export function accessFileOf(caller: Caller, fd: number): AccessFile {
  const ops = caller.files.peek(fd)?.ops;
  if (ops instanceof AccessFile) return ops;
  throw new Errno('EBADFD', `file descriptor ${fd} is ${ops?.name ?? 'not open'}, not an access`);
}
