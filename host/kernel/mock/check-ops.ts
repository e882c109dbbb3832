/** Operations that look behind the uAPI: into IOASes, mock page tables and the pins of pages. */
import type { Task } from '../../syscall.ts';
import type {
  iommu_test_add_reserved,
  iommu_test_check_iotlb,
  iommu_test_check_map,
  iommu_test_check_refs,
  iommu_test_dirty,
  iommu_test_memory_limit,
} from '../../uapi/iommufd-test.ts';
import { MOCK_NESTED_DOMAIN_IOTLB_ID_MAX } from '../../uapi/iommufd-test.ts';
import { Errno } from '../errno.ts';
import { HwptNested, HwptPaging } from '../iommufd/hw-pagetable.ts';
import { IOVA_MAX } from '../iommufd/interval-set.ts';
import { Ioas } from '../iommufd/ioas.ts';
import { hex, PAGE_SIZE } from '../iommufd/pages.ts';
import type { Kernel } from '../kernel.ts';
import type { Mm } from '../mm.ts';
import type { Cmd } from './command.ts';
import { MockNestedDomain, MockPagingDomain } from './domain.ts';

const PAGE = BigInt(PAGE_SIZE);
/** A pointer and a 32-bit count: what one page of a batch takes. */
const MEMORY_LIMIT_MIN = 12;
/** Pages looked at together. */
const PAGES_AT_ONCE = 1024;
/** 16 MiB of bitmap. */
const DIRTY_BITS_MAX = 16n * 1024n * 1024n * 8n;

/** ADD_RESERVED. @throws Errno EINVAL: length 0; EOVERFLOW; ENOENT; EADDRINUSE */
export function* addReserved(ucmd: Cmd<typeof iommu_test_add_reserved>): Task {
  const { id, start, length } = ucmd.args;
  if (length === 0n) throw new Errno('EINVAL', 'length 0');
  const last = lastOf(start, length);
  using ioas = ucmd.ctx.lookup(id, Ioas);
  // Nobody owns it, so nobody takes it back.
  ioas.object.iopt.space.reserve({}, [{ start, last }]);
}

/**
 * MD_CHECK_MAP: whether the mock domain has the very pages of the caller's memory.
 *
 * @throws Errno EINVAL: misaligned, or another page or none is there; ENOENT; EFAULT
 */
export function* mdCheckMap(ucmd: Cmd<typeof iommu_test_check_map>): Task {
  const { id, iova, length, uptr } = ucmd.args;
  using hold = ucmd.ctx.lookup(id, HwptPaging);
  const domain = pagingOf(hold.object);
  const unit = BigInt(domain.unit);
  if (iova % unit !== 0n || length % unit !== 0n || uptr % unit !== 0n) {
    throw new Errno('EINVAL', `iova, length or uptr is not a multiple of ${domain.unit}`);
  }
  if (uptr + length > IOVA_MAX) throw new Errno('EINVAL', 'uptr + length wraps');
  const { mm } = ucmd.process;
  for (let done = 0n; done < length; ) {
    const at = uptr + done;
    const end = lesser(uptr + length, (at / PAGE + BigInt(PAGES_AT_ONCE)) * PAGE);
    const pfns = framesAt(mm, at, Number((end - 1n) / PAGE - at / PAGE) + 1);
    for (let address = at; address < end; address += unit) {
      const pfn = pfns[Number(address / PAGE - at / PAGE)]!;
      const expected = pfn * PAGE_SIZE + Number(address % PAGE);
      const mapped = domain.table.lookup(iova + (address - uptr));
      if (mapped === expected) continue;
      const what = mapped < 0 ? 'nothing' : `0x${hex(mapped)}`;
      throw new Errno(
        'EINVAL',
        `${what} is at 0x${hex(iova + address - uptr)}, not 0x${hex(expected)}`,
      );
    }
    done = end - uptr;
  }
}

/** MD_CHECK_REFS. @throws Errno EINVAL: not whole pages; EIO: another number of pins; EFAULT */
export function* mdCheckRefs(ucmd: Cmd<typeof iommu_test_check_refs>): Task {
  const { length, uptr, refs } = ucmd.args;
  if (length % PAGE !== 0n || uptr % PAGE !== 0n || uptr + length > IOVA_MAX) {
    throw new Errno('EINVAL', `uptr 0x${hex(uptr)}, length 0x${hex(length)}`);
  }
  const pages = Number(length / PAGE);
  for (let done = 0; done < pages; done += PAGES_AT_ONCE) {
    const count = Math.min(PAGES_AT_ONCE, pages - done);
    const at = uptr + BigInt(done) * PAGE;
    const pins = pinsOf(ucmd.ctx.kernel, ucmd.process.mm, at, count);
    const wrong = pins.findIndex((each) => each >= 0 && each !== refs);
    if (wrong < 0) continue;
    const page = hex(at + BigInt(wrong) * PAGE);
    throw new Errno('EIO', `page 0x${page} has ${pins[wrong]!} pins, not ${refs}`);
  }
}

/** MD_CHECK_IOTLB. @throws Errno ENOENT; EINVAL: IOTLB id, or another value */
export function* mdCheckIotlb(ucmd: Cmd<typeof iommu_test_check_iotlb>): Task {
  const { id, iotlb_id, iotlb } = ucmd.args;
  using hold = ucmd.ctx.lookup(id, HwptNested);
  const { domain } = hold.object;
  if (!(domain instanceof MockNestedDomain)) throw notMock(id);
  const value = iotlb_id > MOCK_NESTED_DOMAIN_IOTLB_ID_MAX ? undefined : domain.iotlb[iotlb_id];
  if (value !== iotlb) throw new Errno('EINVAL', `IOTLB ${iotlb_id} is ${value ?? 'none'}`);
}

/** SET_TEMP_MEMORY_LIMIT, of the whole kernel. @throws Errno EINVAL: below 12 bytes */
export function* setTempMemoryLimit(ucmd: Cmd<typeof iommu_test_memory_limit>): Task {
  const { limit } = ucmd.args;
  if (limit < MEMORY_LIMIT_MIN) throw new Errno('EINVAL', `${limit} bytes hold no batch`);
  ucmd.ctx.global.tempMemoryLimit = limit;
}

/**
 * DIRTY: a device writes, at each bit of the caller's bitmap that is set.
 *
 * @throws Errno EINVAL: a zero or misaligned argument, tracking is off; EOVERFLOW: more than 2^27
 *   bits; ENOENT; EFAULT
 */
export function* dirty(ucmd: Cmd<typeof iommu_test_dirty>): Task {
  const { id, iova, length, page_size: pageSize, uptr } = ucmd.args;
  const unaligned = (value: bigint): boolean => value % pageSize !== 0n;
  if (pageSize === 0n || length === 0n || uptr === 0n || unaligned(iova) || unaligned(length)) {
    const range = `0x${hex(iova)}, length 0x${hex(length)}`;
    throw new Errno('EINVAL', `${range}, page size 0x${hex(pageSize)}, bitmap 0x${hex(uptr)}`);
  }
  const bits = length / pageSize;
  if (bits > DIRTY_BITS_MAX) throw new Errno('EOVERFLOW', `a bitmap of ${bits.toString()} bits`);
  using hold = ucmd.ctx.lookup(id, HwptPaging);
  const domain = pagingOf(hold.object);
  if (!domain.tracking) throw new Errno('EINVAL', `HWPT ${id} does not track dirty pages`);
  ucmd.ctx.kernel.failpoints.point('mock:dirty_bitmap');
  const bitmap = ucmd.process.mm.copyFrom(uptr, Math.ceil(Number(bits) / 8));
  let count = 0n;
  for (let bit = 0; bit < Number(bits); bit++) {
    if ((bitmap[bit >>> 3]! & (1 << (bit & 7))) === 0) continue;
    if (domain.table.setDirty(iova + BigInt(bit) * pageSize)) count++;
  }
  ucmd.respond({ out_nr_dirty: count });
}

function pagingOf(hwpt: HwptPaging): MockPagingDomain {
  const { domain } = hwpt;
  if (!(domain instanceof MockPagingDomain)) throw notMock(hwpt.id);
  return domain;
}

function notMock(id: number): Errno {
  return new Errno('EINVAL', `HWPT ${id} is not of the mock driver`);
}

/** get_user_pages: the frames at this moment. */
function framesAt(mm: Mm, address: bigint, pages: number): Float64Array {
  const pfns = mm.pin(address, pages, false);
  mm.unpin(pfns);
  return pfns;
}

function pinsOf(kernel: Kernel, mm: Mm, address: bigint, pages: number): Int32Array {
  if (mm.pinsOf !== undefined) return mm.pinsOf(address, pages);
  return Int32Array.from(framesAt(mm, address, pages), (pfn) => kernel.pages.pinsOf(pfn));
}

function lesser(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}

function lastOf(start: bigint, length: bigint): bigint {
  const last = start + length - 1n;
  if (last > IOVA_MAX) {
    throw new Errno('EOVERFLOW', `start 0x${hex(start)} + length 0x${hex(length)} wraps`);
  }
  return last;
}
