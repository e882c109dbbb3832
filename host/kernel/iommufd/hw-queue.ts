/** Queues of a vIOMMU in guest memory that hardware reads by itself (viommu.c). */
import type { Task } from '../../syscall.ts';
import type { iommu_hw_queue_alloc } from '../../uapi/iommufd.ts';
import { IOMMU_HW_QUEUE_TYPE_DEFAULT } from '../../uapi/iommufd.ts';
import { Errno } from '../errno.ts';
import type { HwQueue, Viommu } from '../iommu/ops.ts';
import { Undo } from '../undo.ts';
import { pinAreas, unpinAreas } from './access-pages.ts';
import { COST } from './cost.ts';
import { IOVA_MAX } from './interval-set.ts';
import type { IoPagetable, IoptAccess } from './io-pagetable.ts';
import { IommufdObject } from './object.ts';
import { hex, PAGE_SIZE } from './pages.ts';
import type { Ucmd } from './ucmd.ts';
import { onlyFlags } from './ucmd.ts';
import { IommufdViommu } from './viommu.ts';

const PAGE = BigInt(PAGE_SIZE);
const POINTER_BYTES = 8n;
/** What one allocation of the kernel can have. */
const ALLOCATION_MAX = 0x7fff_ffffn;

/** The HW_QUEUE object. */
export class IommufdHwQueue extends IommufdObject {
  readonly type = 'HW_QUEUE';
  readonly viommu: IommufdViommu;
  /** As the driver knows it. */
  readonly core: HwQueueCore;
  readonly #memory: QueueMemory;
  #started = false;

  /** Holds the vIOMMU, and takes the memory over. */
  constructor(viommu: IommufdViommu, queue: { type: number; iova: bigint; bytes: bigint }) {
    super(viommu.ctx);
    this.viommu = viommu;
    this.core = new HwQueueCore(this, queue);
    this.#memory = new QueueMemory(viommu.parent.ioas.iopt, queue.iova, queue.bytes);
    viommu.users++;
  }

  override get parentId(): number {
    return this.viommu.id;
  }

  describe(): string {
    return `of vIOMMU ${this.viommu.id}, ${this.core.bytes.toString()} bytes`;
  }

  /** Pins its memory and gives it to the driver. @throws Errno; `destroy` undoes what was done */
  *start(index: number): Task {
    const physicalAddress = yield* this.#memory.pin();
    this.viommu.core.ops!.hwQueueInit!(this.core, index, physicalAddress);
    this.#started = true;
  }

  *destroy(): Task {
    if (this.#started) this.viommu.core.ops?.hwQueueDestroy?.(this.core);
    yield* this.#memory.unpin();
    this.viommu.users--;
  }
}

class HwQueueCore implements HwQueue {
  readonly type: number;
  readonly baseIova: bigint;
  readonly bytes: bigint;
  priv: unknown = null;
  readonly object: IommufdHwQueue;

  constructor(object: IommufdHwQueue, queue: { type: number; iova: bigint; bytes: bigint }) {
    this.object = object;
    this.type = queue.type;
    this.baseIova = queue.iova;
    this.bytes = queue.bytes;
  }

  get viommu(): Viommu {
    return this.object.viommu.core;
  }

  depend(other: HwQueue): void {
    this.#sibling(other).users++;
  }

  undepend(other: HwQueue): void {
    this.#sibling(other).users--;
  }

  #sibling(other: HwQueue): IommufdHwQueue {
    if (other instanceof HwQueueCore && other.viommu === this.viommu) return other.object;
    throw new Errno('EINVAL', 'a hardware queue of another vIOMMU');
  }
}

/** The pinned pages of a queue: nobody unmaps their areas. */
class QueueMemory implements IoptAccess {
  readonly alignment = PAGE;
  readonly #iopt: IoPagetable;
  readonly #iova: bigint;
  readonly #last: bigint;
  #undo = new Undo();

  constructor(iopt: IoPagetable, iova: bigint, bytes: bigint) {
    this.#iopt = iopt;
    this.#iova = iova;
    this.#last = iova + bytes - 1n;
  }

  /** Its areas are locked, so nothing of it is ever unmapped. */
  *unmap(): Task {
    // Told of areas that others have pinned.
  }

  /**
   * @returns the physical address of the first byte
   * @throws Errno ENOENT: not all mapped; EFAULT: not contiguous; EADDRINUSE: an area of the IOAS is
   *   not page aligned; as any pin
   */
  *pin(): Task<number> {
    const undo = new Undo();
    const first = this.#iova - (this.#iova % PAGE);
    checkPageList((this.#last - first) / PAGE + 1n);
    try {
      yield* this.#iopt.addAccess(this);
      undo.defer(() => this.#iopt.removeAccess(this));
      this.#iopt.failpoints.point('iommufd:hw_queue_pages');
      const pfns = pinAreas(this.#iopt, first, this.#last, false);
      undo.defer(() => unpinAreas(this.#iopt, first, this.#last));
      const gap = pfns.findIndex((pfn, page) => pfn !== pfns[0]! + page);
      if (gap >= 0) {
        throw new Errno('EFAULT', `page ${gap} of the queue is not physically next to the others`);
      }
      const areas = this.#iopt.areas.allIn(first, this.#last);
      for (const area of areas) area.locks++;
      undo.defer(() => {
        for (const area of areas) area.locks--;
      });
      this.#undo = undo.move();
      return pfns[0]! * PAGE_SIZE + Number(this.#iova % PAGE);
    } finally {
      yield* undo.unwind();
    }
  }

  *unpin(): Task {
    yield* this.#undo.unwind();
  }
}

/** The list of a queue's pages is one allocation. @throws Errno ERANGE, ENOMEM: it is too long */
function checkPageList(pages: bigint): void {
  if (pages * PAGE > IOVA_MAX) throw new Errno('ERANGE', 'the queue ends in the last page of all');
  if (pages * POINTER_BYTES > ALLOCATION_MAX) {
    throw new Errno('ENOMEM', `a list of ${pages.toString()} pages`);
  }
}

/**
 * IOMMU_HW_QUEUE_ALLOC.
 *
 * @throws Errno EOPNOTSUPP: flags, the default type, a driver without queues of the type; EINVAL:
 *   length 0; EOVERFLOW; ENOENT: viommu_id, memory that is not mapped; EFAULT: memory that is not
 *   contiguous; ERANGE, ENOMEM: too long; what the driver says
 */
export function* hwQueueAlloc(ucmd: Ucmd<typeof iommu_hw_queue_alloc.fields>): Task {
  const { ctx, args } = ucmd;
  onlyFlags(args.flags, 0);
  if (args.type === IOMMU_HW_QUEUE_TYPE_DEFAULT) {
    throw new Errno('EOPNOTSUPP', 'a hardware queue of the default type');
  }
  const { nesting_parent_iova: iova, length: bytes } = args;
  if (bytes === 0n) throw new Errno('EINVAL', 'length 0');
  if (iova + bytes - 1n > IOVA_MAX) {
    throw new Errno('EOVERFLOW', `iova 0x${hex(iova)} + length 0x${hex(bytes)} wraps`);
  }
  using hold = ctx.lookup(args.viommu_id, IommufdViommu);
  const viommu = hold.object;
  const { ops } = viommu.core;
  if (ops?.hwQueueInit === undefined || ops.hasHwQueue?.(viommu.core, args.type) !== true) {
    const what = `hardware queue of type 0x${hex(args.type)}`;
    throw new Errno('EOPNOTSUPP', `vIOMMU ${viommu.id} has no ${what}`);
  }
  yield COST.IOCTL;
  ctx.kernel.failpoints.point('iommufd:hw_queue');
  const queue = new IommufdHwQueue(viommu, { type: args.type, iova, bytes });
  let reserved = false;
  try {
    ctx.reserve(queue);
    reserved = true;
    yield* queue.start(args.index);
    ucmd.respond({ out_hw_queue_id: queue.id });
  } catch (error) {
    if (reserved) ctx.abandon(queue);
    yield* queue.destroy();
    throw error;
  }
  ctx.publish(queue);
}
