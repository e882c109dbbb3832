/** Operations on access objects; the command's `id` is the access's file descriptor. */
import type { Task } from '../../syscall.ts';
import type {
  iommu_test_access_pages,
  iommu_test_access_replace_ioas,
  iommu_test_access_rw,
  iommu_test_create_access,
  iommu_test_destroy_access_pages,
} from '../../uapi/iommufd-test.ts';
import {
  MOCK_ACCESS_RW_SLOW_PATH,
  MOCK_ACCESS_RW_WRITE,
  MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES,
  MOCK_FLAGS_ACCESS_SYZ,
  MOCK_FLAGS_ACCESS_WRITE,
} from '../../uapi/iommufd-test.ts';
import { O_CLOEXEC, O_RDWR } from '../../uapi/poll.ts';
import { Errno } from '../errno.ts';
import type { IommufdAccess } from '../iommufd/access.ts';
import { attachAccess, pinPages, readWrite, replaceAccess, unpinPages } from '../iommufd/access.ts';
import { hex, PAGE_SIZE } from '../iommufd/pages.ts';
import { onlyFlags } from '../iommufd/ucmd.ts';
import type { Mm } from '../mm.ts';
import { Undo } from '../undo.ts';
import { AccessFile, accessFileOf } from './access-file.ts';
import type { Cmd } from './command.ts';

const PAGE = BigInt(PAGE_SIZE);
const LENGTH_MAX = 16n << 20n;

/** CREATE_ACCESS. @throws Errno EOPNOTSUPP: flags; ENOENT: no such IOAS; EADDRINUSE; EMFILE */
export function* createAccessFile(ucmd: Cmd<typeof iommu_test_create_access>): Task {
  const { ctx, process, args } = ucmd;
  onlyFlags(args.flags, MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES);
  ctx.kernel.failpoints.point('mock:access_file');
  const file = new AccessFile(ctx, args.flags !== 0);
  let fd = -1;
  try {
    yield* attachAccess(file.access, args.id);
    ctx.kernel.failpoints.point('mock:access_fd');
    fd = process.files.install(file, O_RDWR | O_CLOEXEC);
    ucmd.respond({ out_access_fd: fd });
  } catch (error) {
    if (fd >= 0) yield* process.files.close(fd);
    else yield* file.release();
    throw error;
  }
}

/** ACCESS_REPLACE_IOAS. @throws Errno EBADFD, ENOENT, EADDRINUSE */
export function* accessReplaceIoas(ucmd: Cmd<typeof iommu_test_access_replace_ioas>): Task {
  const file = accessFileOf(ucmd.process, ucmd.args.id);
  yield* replaceAccess(file.access, ucmd.args.ioas_id);
}

/**
 * ACCESS_PAGES: pins, and compares the pages with those of the caller's memory.
 *
 * @throws Errno ENOMEM: more than 16 MiB; EOPNOTSUPP: flags, an access that does not pin; EBADFD;
 *   EBADE: other pages; what pinning says
 */
export function* accessPages(ucmd: Cmd<typeof iommu_test_access_pages>): Task {
  const { ctx, process, args } = ucmd;
  const { length, uptr, flags } = args;
  shortEnough(length);
  onlyFlags(flags, MOCK_FLAGS_ACCESS_WRITE | MOCK_FLAGS_ACCESS_SYZ);
  const file = accessFileOf(process, args.id);
  const { access } = file;
  if (!access.ops.needsPinPages) throw new Errno('EOPNOTSUPP', 'the access does not pin pages');
  const iova = placeOf(access, args.iova, flags);
  ctx.kernel.failpoints.point('mock:access_page_list');
  yield* file.mutex.lock();
  const undo = new Undo();
  try {
    const write = (flags & MOCK_FLAGS_ACCESS_WRITE) !== 0;
    const pfns = yield* pinPages(access, iova, length, write);
    undo.defer(() => unpinPages(access, iova, length));
    if (uptr !== 0n) checkSame(process.mm, uptr - (iova % PAGE), pfns);
    ctx.kernel.failpoints.point('mock:access_item');
    const id = file.add(iova, length);
    undo.defer(() => {
      file.forget(id);
    });
    ucmd.respond({ out_access_pages_id: id });
    undo.commit();
  } finally {
    yield* undo.unwind();
    file.mutex.unlock();
  }
}

/** DESTROY_ACCESS_PAGES. @throws Errno EBADFD, ENOENT */
export function* destroyAccessPages(ucmd: Cmd<typeof iommu_test_destroy_access_pages>): Task {
  yield* accessFileOf(ucmd.process, ucmd.args.id).unpin(ucmd.args.access_pages_id);
}

/**
 * ACCESS_RW.
 *
 * @throws Errno ENOMEM: more than 16 MiB; EOPNOTSUPP: flags; EBADFD; EFAULT: the caller's buffer;
 *   what copying says
 */
export function* accessRw(ucmd: Cmd<typeof iommu_test_access_rw>): Task {
  const { ctx, process, args } = ucmd;
  const { length, uptr, flags } = args;
  shortEnough(length);
  onlyFlags(flags, MOCK_ACCESS_RW_WRITE | MOCK_ACCESS_RW_SLOW_PATH | MOCK_FLAGS_ACCESS_SYZ);
  const { access } = accessFileOf(process, args.id);
  ctx.kernel.failpoints.point('mock:access_buffer');
  const write = (flags & MOCK_ACCESS_RW_WRITE) !== 0;
  const slow = (flags & MOCK_ACCESS_RW_SLOW_PATH) !== 0;
  const bytes = Number(length);
  const data = write ? process.mm.copyFrom(uptr, bytes) : new Uint8Array(bytes);
  const iova = placeOf(access, args.iova, flags);
  yield* readWrite(access, { iova, data, write, slow, mm: process.mm });
  if (!write) process.mm.copyTo(uptr, data);
}

function shortEnough(length: bigint): void {
  if (length > LENGTH_MAX) throw new Errno('ENOMEM', `length 0x${hex(length)} is above 16 MiB`);
}

/**
 * For fuzzers, which cannot know IOVAs: with the SYZ flag the low half of an IOVA counts areas, and
 * the high half is an offset in that area.
 */
function placeOf(access: IommufdAccess, iova: bigint, flags: number): bigint {
  if ((flags & MOCK_FLAGS_ACCESS_SYZ) === 0) return iova;
  const areas = access.ioas === null ? [] : [...access.ioas.iopt.areas];
  const area = areas[Number(iova & 0xffff_ffffn)];
  return area === undefined ? 0n : area.start + (iova >> 32n);
}

/** @throws Errno EBADE; EFAULT */
function checkSame(mm: Mm, address: bigint, pfns: readonly number[]): void {
  const own = mm.pin(address, pfns.length, false);
  mm.unpin(own);
  const at = pfns.findIndex((pfn, index) => pfn !== own[index]);
  if (at >= 0) throw new Errno('EBADE', `page ${at} is another one than that of the caller`);
}
