/** What the threads of a fuzzing episode do: all of it comes from the episode's seed. */
import type { Random } from '../../host/machine/random.ts';
import { IOMMUFD_IOCTLS } from '../../host/uapi/iommufd.ts';
import * as test from '../../host/uapi/iommufd-test.ts';
import type { Struct } from '../../host/uapi/struct.ts';
import { VFIO_CONTAINER_IOCTLS, VFIO_DEVICE_IOCTLS } from '../../host/uapi/vfio.ts';
import { fd, field, MEMORY_PAGES, one, PAGE, seldom, sensible } from './fields.ts';
import type { Wanted } from './setup.ts';
import { setup } from './setup.ts';

/** Threads of an episode: two of each process. */
export const THREADS = 4;

export type Action = { readonly thread: number; readonly delay: number } & (
  | {
      readonly do: 'ioctl';
      readonly fd: number;
      readonly name: string;
      readonly request: number;
      readonly struct: Struct | null;
      readonly bytes: Uint8Array<ArrayBuffer>;
      /** Bytes of the argument where a 64-bit value counts from the start of memory. */
      readonly pointers: readonly number[];
      readonly payload: Uint8Array<ArrayBuffer>;
      /** Where the argument is, a byte of memory; -1: at no address at all. */
      readonly at: number;
    }
  | { readonly do: 'open'; readonly path: string }
  | { readonly do: 'close' | 'dup' | 'poll'; readonly fd: number }
  | { readonly do: 'read' | 'write'; readonly fd: number; readonly count: number }
  | {
      readonly do: 'pread' | 'pwrite';
      readonly fd: number;
      readonly count: number;
      readonly offset: number;
    }
  | { readonly do: 'mmap'; readonly fd: number; readonly bytes: number; readonly offset: number }
  | { readonly do: 'munmap'; readonly page: number; readonly pages: number }
  | { readonly do: 'kill' }
  | { readonly do: 'fail'; readonly n: number }
);

/** What an ioctl may be called with. */
interface Target {
  readonly name: string;
  readonly request: number;
  readonly struct: Struct | null;
  readonly minSize: number;
  /** The test operation, for IOMMU_TEST_CMD. */
  readonly op?: number;
}

const IOMMUFD: readonly Target[] = IOMMUFD_IOCTLS.map(({ name, cmd, struct, minSize }) => ({
  name,
  request: cmd,
  struct,
  minSize,
}));
const vfio = (list: typeof VFIO_DEVICE_IOCTLS): Target[] =>
  list.map(({ name, cmd, struct, minSize }) => ({ name, request: cmd, struct, minSize }));
const DEVICE = vfio(VFIO_DEVICE_IOCTLS);
const CONTAINER = vfio(VFIO_CONTAINER_IOCTLS);

/** The operations of the test command by number, which are constants of the header. */
const OPERATIONS = new Map<number, string>(
  Object.entries(test).flatMap(([name, value]) =>
    name.startsWith('IOMMU_TEST_OP_') ? [[value as number, name] as const] : [],
  ),
);
/** Operations whose variant has another name than they have themselves. */
const VARIANTS: Readonly<Record<string, Struct>> = {
  MOCK_DOMAIN: test.iommu_test_mock_domain_flags,
  MOCK_DOMAIN_FLAGS: test.iommu_test_mock_domain_flags,
  MOCK_DOMAIN_REPLACE: test.iommu_test_mock_domain_replace,
  MD_CHECK_MAP: test.iommu_test_check_map,
  MD_CHECK_REFS: test.iommu_test_check_refs,
  MD_CHECK_IOTLB: test.iommu_test_check_iotlb,
  SET_TEMP_MEMORY_LIMIT: test.iommu_test_memory_limit,
  DEV_CHECK_CACHE: test.iommu_test_check_dev_cache,
  PASID_CHECK_HWPT: test.iommu_test_pasid_check,
};
const TEST: readonly Target[] = [...OPERATIONS].map(([op, name]) => {
  const short = name.replace('IOMMU_TEST_OP_', '');
  const variants = test as unknown as Record<string, Struct | undefined>;
  const struct = VARIANTS[short] ?? variants[`iommu_test_${short.toLowerCase()}`];
  return {
    name,
    request: test.IOMMU_TEST_CMD,
    struct: struct ?? test.iommu_test_cmd,
    minSize: test.iommu_test_cmd.minSize,
    op,
  };
});

const PATHS = [
  '/dev/iommu',
  '/dev/vfio/devices/vfio0',
  '/dev/vfio/devices/vfio1',
  '/dev/vfio/vfio',
];

/** The actions of an episode, in the order in which each thread does its own. */
export function actions(random: Random): Action[] {
  const count = 20 + random.below(140);
  const killAt = seldom(random, 3) ? random.below(count) : -1;
  const list: Action[] = seldom(random, 5) ? [] : setup(random).map(wanted);
  for (let n = 0; n < count; n++) {
    const thread = random.below(seldom(random, 4) ? THREADS : 2);
    const delay = seldom(random, 3) ? random.below(3000) : 0;
    list.push(n === killAt ? { thread, delay, do: 'kill' } : { thread, delay, ...action(random) });
  }
  return list;
}

/** A call of the beginning; the first thread makes it. */
function wanted({ name, fd, request, struct, op, values, pointers }: Wanted): Action {
  const whole = op === undefined ? struct.size : test.iommu_test_cmd.size;
  const bytes = new Uint8Array(whole);
  const view = new DataView(bytes.buffer);
  struct.write(view, 0, values);
  if (view.getUint32(0, true) === 0) view.setUint32(0, whole, true);
  if (op !== undefined) view.setUint32(4, op, true);
  const at = pointers.map((field) => struct.offsets[field]!);
  const payload = new Uint8Array(0);
  const call = { do: 'ioctl', fd, name, request, struct, bytes, pointers: at, payload, at: 0 };
  return { thread: 0, delay: 0, ...call } as Action;
}

type Doing = Action extends infer A
  ? A extends Action
    ? Omit<A, 'thread' | 'delay'>
    : never
  : never;

function action(random: Random): Doing {
  const kind = random.below(100);
  if (kind < 45) return ioctl(random, one(random, IOMMUFD), 0);
  if (kind < 65) return ioctl(random, one(random, TEST), 0);
  if (kind < 75) return ioctl(random, one(random, DEVICE), 2);
  if (kind < 79) return ioctl(random, one(random, CONTAINER), 0);
  if (kind < 82) return { do: 'open', path: one(random, PATHS) };
  if (kind < 86) return { do: one(random, ['close', 'dup', 'poll'] as const), fd: fd(random) };
  const [bytes, offset] = [random.below(3) * PAGE + random.below(64) * 8, random.below(4) * PAGE];
  if (kind < 90)
    return { do: one(random, ['read', 'write'] as const), fd: fd(random), count: bytes };
  if (kind < 93) {
    const where = seldom(random, 2) ? offset : random.below(10) * 2 ** 40 + random.below(300);
    const count = 1 << random.below(10);
    return { do: one(random, ['pread', 'pwrite'] as const), fd: fd(random), count, offset: where };
  }
  if (kind < 95) return { do: 'mmap', fd: fd(random), bytes: bytes + 1, offset };
  if (kind < 96)
    return { do: 'munmap', page: random.below(MEMORY_PAGES), pages: 1 + random.below(8) };
  return { do: 'fail', n: 1 + random.below(20) };
}

function ioctl(random: Random, target: Target, likelyFd: number): Doing {
  const { struct } = target;
  const number = seldom(random, 60) ? 0x3b00 | random.below(256) : target.request;
  const { bytes, pointers } = argument(random, target);
  const bad = seldom(random, 30);
  return {
    do: 'ioctl',
    fd: seldom(random, 20) ? fd(random) : likelyFd,
    name: target.name,
    request: number,
    struct,
    bytes,
    pointers,
    payload: Uint8Array.from({ length: 64 }, (_, n) =>
      seldom(random, 2)
        ? 0
        : n % 4 === 0
          ? random.below(8)
          : random.below(seldom(random, 6) ? 256 : 1),
    ),
    at: bad ? (seldom(random, 2) ? -1 : MEMORY_PAGES * PAGE - 8) : 0,
  };
}

/** An argument of mostly the right size, and which of its fields are addresses. */
function argument(
  random: Random,
  { name: call, struct, op, minSize }: Target,
): { bytes: Uint8Array<ArrayBuffer>; pointers: number[] } {
  const whole = op === undefined ? (struct?.size ?? 8) : test.iommu_test_cmd.size;
  const bytes = new Uint8Array(whole + 32);
  const view = new DataView(bytes.buffer);
  const pointers: number[] = [];
  const clean = !seldom(random, 3);
  const make = clean ? sensible : field;
  for (const [name, type] of Object.entries(struct?.fields ?? {})) {
    if (typeof type !== 'string') continue;
    const wide = type === 'u64' || type === 's64';
    const { value, base } = make(random, name, wide, call);
    struct!.write(view, 0, { [name]: value });
    if (base) pointers.push(struct!.offsets[name]!);
  }
  const sizes = [0, 1, minSize - 1, minSize, whole + 1, whole + 8, 4096, 4097, random.next()];
  const size = seldom(random, clean ? 60 : 8) ? one(random, sizes) : whole;
  view.setUint32(0, size, true);
  if (op !== undefined) view.setUint32(4, seldom(random, 60) ? random.next() : op, true);
  if (seldom(random, clean ? 60 : 6)) bytes[random.below(bytes.length)] = random.below(256);
  if (!seldom(random, 20)) bytes.fill(0, whole);
  return { bytes, pointers };
}

/** An action as a line of a program. */
export function describe(action: Action): string {
  const who = `thread ${action.thread}`;
  switch (action.do) {
    case 'ioctl': {
      const { struct, bytes, pointers } = action;
      const view = new DataView(bytes.buffer);
      const size = view.getUint32(0, true);
      const values = struct === null ? {} : struct.read(view);
      const shown = Object.entries(values).flatMap(([name, value]) => {
        if (name === 'size' || name === 'argsz' || typeof value === 'object') return [];
        if (Number(value) === 0) return [];
        const memory = pointers.includes(struct!.offsets[name]!) ? 'memory+' : '';
        return [`${name}: ${memory}0x${value.toString(16)}`];
      });
      const where =
        action.at < 0 ? ' at a bad address' : action.at > 0 ? ' at the end of memory' : '';
      const request = `0x${action.request.toString(16)}`;
      return `${who}: ioctl(${action.fd}, ${action.name} ${request}, {size: ${size}, ${shown.join(', ')}}${where})`;
    }
    case 'open':
      return `${who}: open(${action.path})`;
    case 'close':
    case 'dup':
    case 'poll':
      return `${who}: ${action.do}(${action.fd})`;
    case 'read':
    case 'write':
      return `${who}: ${action.do}(${action.fd}, ${action.count} bytes)`;
    case 'pread':
    case 'pwrite':
      return `${who}: ${action.do}(${action.fd}, ${action.count} bytes, at 0x${action.offset.toString(16)})`;
    case 'mmap':
      return `${who}: mmap(${action.fd}, ${action.bytes} bytes, at ${action.offset})`;
    case 'munmap':
      return `${who}: munmap(page ${action.page}, ${action.pages} pages)`;
    case 'kill':
      return `${who}: kill(its process)`;
    case 'fail':
      return `${who}: failure point ${action.n} from here on fails`;
  }
}
