/** The mock IOMMU's virtual one: a page to map, device caches, two hardware queues. */
import type { Task } from '../../syscall.ts';
import {
  IOMMU_HW_QUEUE_TYPE_SELFTEST,
  IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST,
  IOMMU_VIOMMU_TYPE_SELFTEST,
} from '../../uapi/iommufd.ts';
import {
  IOMMU_TEST_HW_QUEUE_MAX,
  IOMMU_TEST_INVALIDATE_FLAG_ALL,
  iommu_viommu_invalidate_selftest,
  iommu_viommu_selftest,
  MOCK_DEV_CACHE_ID_MAX,
} from '../../uapi/iommufd-test.ts';
import { Errno } from '../errno.ts';
import type { HwQueue, IommuDev, UserArray, UserData, Viommu, ViommuOps } from '../iommu/ops.ts';
import type { Kernel } from '../kernel.ts';
import type { MockDevice } from './device.ts';
import type { MockNestedDomain } from './domain.ts';

const PAGE_BYTES = 4096;
const MMAP_PAGES = 2;

/** What it needs of the driver. */
interface MockDriver {
  allocNested(flags: number, data: UserData, viommu: Viommu): MockNestedDomain;
  /** Null for a device of another driver. */
  deviceOf(dev: IommuDev): MockDevice | null;
}

/** Its state: the page the user maps, if the payload asked for one, and its queues. */
class MockViommu {
  readonly #driver: MockDriver;
  readonly #kernel: Kernel;
  readonly #queues: (HwQueue | undefined)[] = [];
  #page: { readonly pfn: number; readonly offset: number } | null = null;

  constructor(kernel: Kernel, driver: MockDriver) {
    this.#kernel = kernel;
    this.#driver = driver;
  }

  /** Offers `value` in a page that the user may map. @returns its file offset */
  offerPage(viommu: Viommu, value: number): number {
    const { pages, machine } = this.#kernel;
    this.#kernel.failpoints.point('mock:viommu_page');
    const pfn = pages.allocRun(MMAP_PAGES);
    try {
      machine.ram.write32(pfn * PAGE_BYTES, value | 0);
      const offset = viommu.allocMmap(pfn * PAGE_BYTES, MMAP_PAGES * PAGE_BYTES);
      this.#page = { pfn, offset };
      return offset;
    } catch (error) {
      pages.freeRun(pfn, MMAP_PAGES);
      throw error;
    }
  }

  destroy(viommu: Viommu): void {
    if (this.#page === null) return;
    viommu.destroyMmap(this.#page.offset);
    this.#kernel.pages.freeRun(this.#page.pfn, MMAP_PAGES);
    this.#page = null;
  }

  /** All entries are copied before the first is carried out. */
  invalidate(viommu: Viommu, array: UserArray): void {
    if (array.type !== IOMMU_VIOMMU_INVALIDATE_DATA_SELFTEST) {
      throw new Errno('EINVAL', `invalidation type 0x${array.type.toString(16)}`);
    }
    this.#kernel.failpoints.point('mock:viommu_invalidate');
    const entries = [];
    for (let index = 0; index < array.entryCount; index++) {
      const bytes = array.looseEntry!(index, iommu_viommu_invalidate_selftest.size);
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      entries.push(iommu_viommu_invalidate_selftest.read(view));
    }
    for (const { flags, vdev_id, cache_id } of entries) {
      if ((flags & ~IOMMU_TEST_INVALIDATE_FLAG_ALL) !== 0) {
        throw new Errno('EOPNOTSUPP', `entry ${array.done}: flags 0x${flags.toString(16)}`);
      }
      if (cache_id > MOCK_DEV_CACHE_ID_MAX) {
        throw new Errno('EINVAL', `entry ${array.done}: cache id ${cache_id}`);
      }
      const dev = viommu.findVdevice(BigInt(vdev_id))?.dev;
      const device = dev === undefined ? null : this.#driver.deviceOf(dev);
      if (device === null) throw new Errno('EINVAL', `entry ${array.done}: no device ${vdev_id}`);
      if (flags !== 0) device.cache.fill(0);
      else device.cache[cache_id] = 0;
      array.done++;
    }
  }

  /** @throws Errno EINVAL: index; EEXIST: in use; EIO: out of order; EFAULT: not that memory */
  initQueue(queue: HwQueue, index: number, physicalAddress: number): void {
    if (index >= IOMMU_TEST_HW_QUEUE_MAX) throw new Errno('EINVAL', `queue index ${index}`);
    if (this.#queues[index] !== undefined) throw new Errno('EEXIST', `queue ${index} exists`);
    const first = this.#queues[0];
    if (index > 0 && first === undefined) throw new Errno('EIO', 'queue 1 comes after queue 0');
    const { parent } = queue.viommu;
    const translated = parent.ops.iovaToPhys!(parent, queue.baseIova);
    if (translated !== physicalAddress) {
      throw new Errno('EFAULT', `the queue is at 0x${translated.toString(16)} in the parent`);
    }
    if (index > 0) queue.depend(first!);
    queue.priv = index;
    this.#queues[index] = queue;
  }

  destroyQueue(queue: HwQueue): void {
    const index = this.#queues.indexOf(queue);
    if (index > 0) queue.undepend(this.#queues[0]!);
    if (index >= 0) this.#queues[index] = undefined;
  }
}

/**
 * Makes `viommu` a mock one; a payload is answered with what it said and where to map the page.
 *
 * @throws Errno EINVAL: the payload's type or length; EFAULT; ENOMEM
 */
export function initViommu(
  kernel: Kernel,
  driver: MockDriver,
  viommu: Viommu,
  data: UserData | null,
): void {
  const state = new MockViommu(kernel, driver);
  if (data !== null) {
    const { in_data } = readPayload(data);
    const out_mmap_offset = BigInt(state.offerPage(viommu, in_data));
    try {
      const out = { in_data, out_data: in_data, out_mmap_offset };
      const out_mmap_length = BigInt(MMAP_PAGES * PAGE_BYTES);
      const bytes = iommu_viommu_selftest.encode({ ...out, out_mmap_length });
      data.respond!(bytes, iommu_viommu_selftest.minSize);
    } catch (error) {
      state.destroy(viommu);
      throw error;
    }
  }
  viommu.priv = state;
  viommu.ops = opsOf(state, driver);
}

function opsOf(state: MockViommu, driver: MockDriver): ViommuOps {
  return {
    destroy: (viommu) => {
      state.destroy(viommu);
    },
    allocDomainNested: (viommu, flags, data) => driver.allocNested(flags, data, viommu),
    *cacheInvalidate(viommu, array): Task {
      state.invalidate(viommu, array);
    },
    hasHwQueue: (_viommu, type) => type === IOMMU_HW_QUEUE_TYPE_SELFTEST,
    hwQueueInit: (queue, index, physicalAddress) => {
      state.initQueue(queue, index, physicalAddress);
    },
    hwQueueDestroy: (queue) => {
      state.destroyQueue(queue);
    },
  };
}

function readPayload(data: UserData): { in_data: number } {
  if (data.type !== IOMMU_VIOMMU_TYPE_SELFTEST) {
    throw new Errno('EINVAL', `data of type 0x${data.type.toString(16)}`);
  }
  const { bytes } = data;
  const { size, minSize } = iommu_viommu_selftest;
  if (bytes.length < minSize || bytes.length > size) {
    throw new Errno('EINVAL', `data_len ${bytes.length} is not within ${minSize}..${size}`);
  }
  const whole = new Uint8Array(size);
  whole.set(bytes);
  return iommu_viommu_selftest.read(new DataView(whole.buffer));
}
