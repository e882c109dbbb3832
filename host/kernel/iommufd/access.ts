/**
 * Access objects: kernel users of an IOAS that have no domain, such as emulated devices. They pin
 * pages or copy bytes, and let go when an area is unmapped (struct iommufd_access,
 * drivers/iommu/iommufd/device.c).
 */
import { Mutex } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { CopyRequest } from './access-pages.ts';
import { copyPages, pinAreas, unpinAreas } from './access-pages.ts';
import { IOVA_MAX } from './interval-set.ts';
import type { IoptAccess } from './io-pagetable.ts';
import { Ioas } from './ioas.ts';
import type { IommufdCtx } from './object.ts';
import { IommufdObject } from './object.ts';
import { hex, PAGE_SIZE } from './pages.ts';

/** What the kernel user says of itself (struct iommufd_access_ops). */
export interface AccessOps {
  /** It will pin pages, so areas must be page aligned. */
  readonly needsPinPages: boolean;
  /** Must unpin all it has of the range before it returns. */
  unmap(iova: bigint, length: bigint): Task;
}

/** The ACCESS object. */
export class IommufdAccess extends IommufdObject implements IoptAccess {
  readonly type = 'ACCESS';
  readonly ops: AccessOps;
  readonly alignment: bigint;
  /** Held around changes of the IOAS, and while pages are pinned and copied. */
  readonly mutex = new Mutex();
  /** What it may pin in; null while detached and while it moves. */
  ioas: Ioas | null = null;
  /** What its pins are in: behind `ioas` only while it moves. */
  ioasUnpin: Ioas | null = null;

  constructor(ctx: IommufdCtx, ops: AccessOps) {
    super(ctx);
    this.ops = ops;
    this.alignment = ops.needsPinPages ? BigInt(PAGE_SIZE) : 1n;
  }

  describe(): string {
    return this.ops.needsPinPages ? 'access that pins pages' : 'access';
  }

  unmap(iova: bigint, length: bigint): Task {
    return this.ops.unmap(iova, length);
  }

  *destroy(): Task {
    yield* this.mutex.lock();
    try {
      if (this.ioas !== null) yield* changeIoas(this, null);
    } finally {
      this.mutex.unlock();
    }
    yield* this.ctx.unreference();
  }
}

/** iommufd_access_create. Its maker holds it, and the context. @throws Errno ENOMEM, ENOSPC */
export function createAccess(ctx: IommufdCtx, ops: AccessOps): IommufdAccess {
  const access = new IommufdAccess(ctx, ops);
  ctx.reserve(access);
  access.users++;
  ctx.reference();
  ctx.publish(access);
  return access;
}

/** iommufd_access_destroy: detaches it, too. */
export function* destroyAccess(access: IommufdAccess): Task {
  yield* access.ctx.destroyOwned(access);
}

/** @throws Errno EINVAL: attached already; ENOENT; EADDRINUSE: an area is not page aligned */
export function* attachAccess(access: IommufdAccess, ioasId: number): Task {
  yield* access.mutex.lock();
  try {
    if (access.ioas !== null) {
      throw new Errno('EINVAL', `access ${access.id} has IOAS ${access.ioas.id}`);
    }
    yield* changeIoasId(access, ioasId);
  } finally {
    access.mutex.unlock();
  }
}

/** Moves it to another IOAS; what it has pinned is given up. @throws Errno ENOENT, EADDRINUSE */
export function* replaceAccess(access: IommufdAccess, ioasId: number): Task {
  yield* access.mutex.lock();
  try {
    if (access.ioas === null) throw new Errno('ENOENT', `access ${access.id} has no IOAS`);
    yield* changeIoasId(access, ioasId);
  } finally {
    access.mutex.unlock();
  }
}

/** Nothing happens if it has no IOAS. */
export function* detachAccess(access: IommufdAccess): Task {
  yield* access.mutex.lock();
  try {
    if (access.ioas !== null) yield* changeIoas(access, null);
  } finally {
    access.mutex.unlock();
  }
}

/**
 * Pins what is mapped at [iova, iova + length): all or nothing (iommufd_access_pin_pages).
 *
 * @returns the frame of each page
 * @throws Errno EINVAL: length 0, bounds inside a page, being unmapped, an access that does not pin;
 *   EOVERFLOW; ENOENT: not attached, or not all mapped; EPERM: the protection; EFAULT; ENOMEM
 */
export function* pinPages(
  access: IommufdAccess,
  iova: bigint,
  length: bigint,
  write: boolean,
): Task<number[]> {
  if (!access.ops.needsPinPages) throw new Errno('EINVAL', `access ${access.id} does not pin`);
  const last = lastOf(iova, length);
  yield* access.mutex.lock();
  try {
    return pinAreas(ioasOf(access).iopt, iova, last, write);
  } finally {
    access.mutex.unlock();
  }
}

/** Undoes one `pinPages` of the same range. */
export function* unpinPages(access: IommufdAccess, iova: bigint, length: bigint): Task {
  const last = lastOf(iova, length);
  yield* access.mutex.lock();
  try {
    if (access.ioasUnpin === null) throw new Error(`access ${access.id} unpins without an IOAS`);
    unpinAreas(access.ioasUnpin.iopt, iova, last);
  } finally {
    access.mutex.unlock();
  }
}

/**
 * Copies bytes out of what is mapped, or into it (iommufd_access_rw).
 *
 * @throws Errno EINVAL: length 0; EOVERFLOW; ENOENT: not attached, or not all mapped; EPERM: the
 *   protection; EFAULT. Bytes before the one that failed are copied.
 */
export function* readWrite(access: IommufdAccess, request: CopyRequest): Task {
  const last = lastOf(request.iova, BigInt(request.data.length));
  yield* access.mutex.lock();
  try {
    copyPages(access.ctx.kernel, ioasOf(access).iopt, last, request);
  } finally {
    access.mutex.unlock();
  }
}

function* changeIoasId(access: IommufdAccess, id: number): Task {
  using hold = access.ctx.lookup(id, Ioas);
  yield* changeIoas(access, hold.object);
}

/** iommufd_access_change_ioas; the caller holds the mutex, which is open while pins are given up. */
function* changeIoas(access: IommufdAccess, next: Ioas | null): Task {
  const { ioas: current } = access;
  if (current !== access.ioasUnpin) {
    throw new Errno('EBUSY', `access ${access.id} is moving to another IOAS`);
  }
  if (current === next) return;
  // No new pins from here on; those there are belong to ioasUnpin.
  access.ioas = null;
  if (next !== null) {
    try {
      yield* next.iopt.addAccess(access);
    } catch (error) {
      access.ioas = current;
      throw error;
    }
    next.users++;
  }
  if (current !== null) {
    access.mutex.unlock();
    yield* access.ops.unmap(0n, IOVA_MAX);
    yield* access.mutex.lock();
    yield* current.iopt.removeAccess(access);
    current.users--;
  }
  access.ioas = next;
  access.ioasUnpin = next;
}

function ioasOf(access: IommufdAccess): Ioas {
  if (access.ioas === null) throw new Errno('ENOENT', `access ${access.id} has no IOAS`);
  return access.ioas;
}

function lastOf(iova: bigint, length: bigint): bigint {
  if (length === 0n) throw new Errno('EINVAL', 'length 0');
  const last = iova + length - 1n;
  if (last > IOVA_MAX) {
    throw new Errno('EOVERFLOW', `iova 0x${hex(iova)} + length 0x${hex(length)} wraps`);
  }
  return last;
}
