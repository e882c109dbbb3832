/** Values for the fields of ioctl arguments: mostly what makes sense, sometimes the edge, or noise. */
import type { Random } from '../../host/machine/random.ts';
import * as uapi from '../../host/uapi/iommufd.ts';
import { MOCK_APERTURE_START } from '../../host/uapi/iommufd-test.ts';

export const PAGE = 4096;
/** Pages of memory that each process has; behind them is a hole. */
export const MEMORY_PAGES = 64;
/** Byte of the memory where payloads are. */
export const PAYLOAD = 0x3000;

const U32 = 2 ** 32;
const U64 = 1n << 64n;

const SIZES = [0n, 1n, 2048n, 4096n, 4096n, 4096n, 8192n, 8192n, 16384n, 0x10000n, 1n << 20n];
const FAR = [1n << 31n, 1n << 40n, 1n << 47n, 1n << 63n, U64 - 4096n, U64 - 1n, U64 - 2n];
const TYPES = [
  0,
  1,
  2,
  uapi.IOMMU_HWPT_DATA_SELFTEST,
  uapi.IOMMU_HW_INFO_TYPE_SELFTEST,
  uapi.IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
  uapi.IOMMU_VEVENTQ_TYPE_SELFTEST,
];
const PASIDS = [0, 1, 2, 3, 64, 1024, 2 ** 20 - 1, 2 ** 20, 2 ** 31, U32 - 1];

export function one<T>(random: Random, list: readonly T[]): T {
  return list[random.below(list.length)]!;
}

/** True once in `n` times. */
export function seldom(random: Random, n: number): boolean {
  return random.below(n) === 0;
}

/** An object's id: those of the first objects there are. */
export function id(random: Random): number {
  return seldom(random, 25) ? random.next() : 1 + random.below(seldom(random, 2) ? 14 : 6);
}

export function fd(random: Random): number {
  return seldom(random, 25) ? random.below(U32) | 0 : random.below(seldom(random, 3) ? 12 : 7);
}

/** Where in memory something is, as a byte of it; `base` false: an address as it is. */
export function pointer(random: Random): { value: bigint; base: boolean } {
  if (seldom(random, 15)) return { value: one(random, [0n, ...FAR]), base: false };
  if (seldom(random, 12)) return { value: BigInt((MEMORY_PAGES - 1) * PAGE), base: true };
  if (seldom(random, 3)) return { value: BigInt(PAYLOAD), base: true };
  const page = BigInt(random.below(MEMORY_PAGES + 1) * PAGE);
  return { value: page + (seldom(random, 4) ? BigInt(random.below(PAGE)) : 0n), base: true };
}

export function iova(random: Random): bigint {
  if (seldom(random, 20)) return one(random, [0n, 1n, 0xfee0_0000n, ...FAR]);
  const page = BigInt(MOCK_APERTURE_START + (random.below(24) - 2) * PAGE);
  return page + (seldom(random, 12) ? one(random, [1n, 2048n, 512n]) : 0n);
}

export function length(random: Random): bigint {
  return seldom(random, 15) ? one(random, FAR) : one(random, SIZES);
}

const flags = (random: Random): number =>
  seldom(random, 20) ? random.next() : seldom(random, 2) ? 0 : random.below(16);

const POINTERS = /uptr|user_va|allowed_iovas|vaddr|^data$|token_uuid/;
const KINDS: readonly (readonly [RegExp, (random: Random) => number | bigint])[] = [
  [/^__reserved|^pad/, (random) => (seldom(random, 20) ? random.next() : 0)],
  [/^out_/, (random) => (seldom(random, 8) ? random.next() : 0)],
  [/pasid$/, (random) => one(random, PASIDS)],
  [/flags/, flags],
  [/fd$|^iommufd$/, fd],
  [/_id$|^id$|^hwpt_list$/, id],
  [/iova$|^start$|^addr$/, iova],
  [/^length$|^size64$|page_size/, length],
  [/type$|^option_id$/, (random) => one(random, TYPES)],
  [/^op$/, (random) => random.below(4)],
  [/_len$/, (random) => (seldom(random, 10) ? random.next() : one(random, [0, 4, 8, 12, 16, 24]))],
  [/_num$|num_iovas|^count$/, (random) => (seldom(random, 15) ? random.next() : random.below(5))],
  [/^val64$/, (random) => BigInt(random.below(3))],
  [/^refs$|_id$|iotlb|cache|index|perm|grpid|depth|limit/, (random) => random.below(20)],
];

/** Objects and files as the usual beginning of an episode makes them (setup.ts). */
const LIKELY: Readonly<Record<string, readonly number[]>> = {
  ioas_id: [1, 1, 5],
  src_ioas_id: [1, 1, 5],
  dst_ioas_id: [1, 5],
  dev_id: [3, 3, 10],
  pt_id: [1, 4, 5, 7, 8, 9],
  hwpt_id: [4, 7, 8, 9],
  viommu_id: [12],
  fault_id: [6],
  object_id: [0, 1, 5],
  fd: [1],
  iommufd: [0],
  pasid: [1, 2, 3],
  data_len: [4, 8, 16, 24],
  entry_len: [8, 12, 24],
  flags: [0, 1],
  size64: [4096, 8192],
};

/** What the `id` of a test operation stands for. */
function testId(op: string): readonly number[] {
  if (/ACCESS/.test(op)) return op.endsWith('CREATE_ACCESS') ? [1, 5] : [5, 5, 6];
  if (/PASID|REPLACE/.test(op)) return [2];
  if (/RESERVED|MOCK_DOMAIN/.test(op)) return [1, 5, 7, 8];
  if (/DEV_CHECK/.test(op)) return [3];
  return [4, 7, 8, 9];
}

const FLAGS: Readonly<Record<string, readonly number[]>> = {
  IOMMU_IOAS_MAP: [7, 7, 6, 5, 3],
  IOMMU_IOAS_MAP_FILE: [7, 7, 6, 5],
  IOMMU_IOAS_COPY: [7, 6, 5],
  IOMMU_HWPT_ALLOC: [0, 1, 2, 4, 8, 9, 10, 12],
  IOMMU_HWPT_SET_DIRTY_TRACKING: [0, 1],
  IOMMU_HWPT_GET_DIRTY_BITMAP: [0, 1],
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: [0, 1],
  VFIO_DEVICE_DETACH_IOMMUFD_PT: [0, 1],
  VFIO_IOMMU_MAP_DMA: [1, 2, 3],
  VFIO_IOMMU_UNMAP_DMA: [0, 2],
  VFIO_DEVICE_SET_IRQS: [0x21, 0x22, 0x24, 9, 17],
  VFIO_DEVICE_FEATURE: [0x1_0000, 0x2_000a, 0x4_0000],
  IOMMU_TEST_OP_ACCESS_PAGES: [0, 1],
  IOMMU_TEST_OP_ACCESS_RW: [0, 1, 4, 5],
  IOMMU_TEST_OP_CREATE_ACCESS: [0, 1],
};

/** Values that have a meaning where they are: nothing in such a call is wrong by itself. */
const SENSE: Readonly<Record<string, (random: Random) => bigint>> = {
  iova: place,
  src_iova: place,
  dst_iova: place,
  nesting_parent_iova: place,
  addr: place,
  start: (random) => BigInt(random.below(4) * PAGE),
  length: (random) => BigInt((1 + random.below(4)) * PAGE),
  size64: (random) => BigInt((1 + random.below(4)) * PAGE),
  page_size: () => BigInt(PAGE),
};

function place(random: Random): bigint {
  return BigInt(MOCK_APERTURE_START + random.below(20) * PAGE);
}

/** A sensible value for a field. */
export function sensible(
  random: Random,
  name: string,
  wide: boolean,
  call: string,
): { value: number | bigint; base: boolean } {
  if (wide && POINTERS.test(name)) {
    const page = 16 + random.below(16);
    return { value: BigInt(seldom(random, 2) ? PAYLOAD : page * PAGE), base: true };
  }
  if (/^__reserved|^pad|^out_/.test(name)) return { value: wide ? 0n : 0, base: false };
  const sense = SENSE[name];
  if (wide && sense !== undefined) return { value: sense(random), base: false };
  if (name === 'flags') return { value: one(random, FLAGS[call] ?? [0]), base: false };
  return field(random, name, wide, call);
}

/** A value for a field, and whether it counts from the start of memory. */
export function field(
  random: Random,
  name: string,
  wide: boolean,
  call: string,
): { value: number | bigint; base: boolean } {
  const likely = name === 'id' && call.startsWith('IOMMU_TEST') ? testId(call) : LIKELY[name];
  if (likely !== undefined && !seldom(random, 4)) {
    const value = one(random, likely);
    return { value: wide ? BigInt(value) : value, base: false };
  }
  if (wide && POINTERS.test(name)) return pointer(random);
  if (seldom(random, 40)) return { value: noise(random, wide), base: false };
  for (const [pattern, make] of KINDS) {
    if (!pattern.test(name)) continue;
    const value = make(random);
    return { value: wide ? BigInt(value) : Number(value), base: false };
  }
  return { value: wide ? BigInt(random.below(16)) : random.below(16), base: false };
}

function noise(random: Random, wide: boolean): number | bigint {
  if (!wide) return one(random, [0, 1, 0x7fff_ffff, 0x8000_0000, U32 - 1, random.next()]);
  const value = (BigInt(random.next()) << 32n) | BigInt(random.next());
  return one(random, [0n, U64 - 1n, 1n << 63n, value]);
}
