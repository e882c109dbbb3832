/** Event queues of vIOMMUs: what the physical IOMMU has to tell a guest (eventq.c, driver.c). */

import { host } from '../../../trace/catalogue/host.ts';
import { Mutex, WaitQueue } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import type { iommu_veventq_alloc } from '../../uapi/iommufd.ts';
import {
  IOMMU_VEVENTQ_FLAG_LOST_EVENTS,
  IOMMU_VEVENTQ_TYPE_DEFAULT,
  iommufd_vevent_header,
} from '../../uapi/iommufd.ts';
import { O_CLOEXEC, O_RDWR, POLLIN, POLLRDNORM } from '../../uapi/poll.ts';
import { Errno } from '../errno.ts';
import type { Caller, FileOps, OpenFile } from '../file.ts';
import { COST } from './cost.ts';
import { IommufdObject } from './object.ts';
import type { Ucmd } from './ucmd.ts';
import { onlyFlags, reservedZero } from './ucmd.ts';
import type { EventSink } from './viommu.ts';
import { IommufdViommu } from './viommu.ts';

const HEADER_BYTES = iommufd_vevent_header.size;
const SEQUENCE_MAX = 0x7fff_ffff;
/** Above what any hardware has. */
const DEPTH_MAX = 1 << 19;

/** An event on its way; without payload it tells that events were lost. */
interface Vevent {
  readonly sequence: number;
  readonly payload: Uint8Array | null;
}

/** The VEVENTQ object. */
export class IommufdVeventq extends IommufdObject implements EventSink {
  readonly type = 'VEVENTQ';
  readonly viommu: IommufdViommu;
  readonly eventType: number;
  readonly depth: number;
  /** Serialises readers of the fd. */
  readonly mutex = new Mutex();
  readonly arrived = new WaitQueue();
  /** Not read yet, oldest first. */
  readonly deliver: Vevent[] = [];
  #sequence = 0;
  /** Events in `deliver` that have a payload; only they count against the depth. */
  #events = 0;

  /** Holds the vIOMMU. */
  constructor(viommu: IommufdViommu, eventType: number, depth: number) {
    super(viommu.ctx);
    this.viommu = viommu;
    this.eventType = eventType;
    this.depth = depth;
    viommu.users++;
    viommu.queues.push(this);
  }

  override get parentId(): number {
    return this.viommu.id;
  }

  describe(): string {
    return `of vIOMMU ${this.viommu.id}, depth ${this.depth}`;
  }

  report(payload: Uint8Array): void {
    let failure: { readonly error: unknown } | null = null;
    let kept: Uint8Array | null = null;
    if (this.#events < this.depth) {
      try {
        this.ctx.kernel.failpoints.point('iommufd:vevent');
        this.ctx.kernel.memory.take(1, 'events of a vIOMMU');
        kept = payload.slice();
        this.#events++;
      } catch (error) {
        failure = { error };
      }
    }
    // There is one notice of lost events, and it is the last: the newest event takes its place.
    if (this.deliver.at(-1)?.payload === null) this.deliver.pop();
    this.deliver.push({ sequence: this.#sequence, payload: kept });
    const { trace } = this.ctx.kernel;
    if (trace.on) {
      const { id } = this;
      const lost = kept === null ? 1 : 0;
      trace.emit(host.vevent, { queue: id, sequence: this.#sequence, lost });
    }
    this.#sequence = this.#sequence === SEQUENCE_MAX ? 0 : this.#sequence + 1;
    this.arrived.wake();
    if (failure !== null) throw failure.error;
  }

  /** The head has been read. */
  taken(): void {
    const event = this.deliver.shift();
    if (event === undefined || event.payload === null) return;
    this.#events--;
    this.ctx.kernel.memory.give(1);
  }

  *destroy(): Task {
    const { queues } = this.viommu;
    queues.splice(queues.indexOf(this), 1);
    this.deliver.length = 0;
    this.ctx.kernel.memory.give(this.#events);
    this.#events = 0;
    this.viommu.users--;
  }
}

/** The file of an event queue: "[iommufd-viommu-event]". */
export class VeventqFile implements FileOps {
  readonly name = '[iommufd-viommu-event]';
  readonly #queue: IommufdVeventq;

  /** Holds the object and the context until the file is released. */
  constructor(queue: IommufdVeventq) {
    this.#queue = queue;
    queue.users++;
    queue.ctx.reference();
  }

  /**
   * Whole events, oldest first, as many as fit; 0 when there is none. Never blocks.
   *
   * @throws Errno EINVAL: no room for a header, or for the first event; EFAULT; ENOMEM
   */
  *read(process: Caller, _file: OpenFile, buffer: number, count: number): Task<number> {
    if (count < HEADER_BYTES) {
      throw new Errno('EINVAL', `count ${count} is below ${HEADER_BYTES}, a header`);
    }
    const { mutex, deliver } = this.#queue;
    yield* mutex.lock();
    try {
      let done = 0;
      for (let event = deliver[0]; event !== undefined; event = deliver[0]) {
        const bytes = record(event);
        if (bytes.length > count - done) {
          if (done > 0 || event.payload === null) break;
          throw new Errno('EINVAL', `count ${count}, and the first event has ${bytes.length}`);
        }
        try {
          process.mm.copyTo(BigInt(buffer + done), bytes);
        } catch (error) {
          if (done > 0) break;
          throw error;
        }
        this.#queue.taken();
        done += bytes.length;
      }
      return done;
    } finally {
      mutex.unlock();
    }
  }

  poll(): { events: number; queue: WaitQueue } {
    const { deliver, arrived } = this.#queue;
    return { events: deliver.length > 0 ? POLLIN | POLLRDNORM : 0, queue: arrived };
  }

  *release(): Task {
    this.#queue.users--;
    yield* this.#queue.ctx.unreference();
  }
}

/**
 * IOMMU_VEVENTQ_ALLOC.
 *
 * @throws Errno EOPNOTSUPP: flags, reserved, the default type; EINVAL: depth; ENOENT; EEXIST: the
 *   vIOMMU has one of that type; ENOMEM; EMFILE; EFAULT
 */
export function* veventqAlloc(ucmd: Ucmd<typeof iommu_veventq_alloc.fields>): Task {
  const { ctx, process, args } = ucmd;
  onlyFlags(args.flags, 0);
  reservedZero(args.__reserved);
  if (args.type === IOMMU_VEVENTQ_TYPE_DEFAULT) {
    throw new Errno('EOPNOTSUPP', 'a vEVENTQ of the default type');
  }
  if (args.veventq_depth === 0 || args.veventq_depth > DEPTH_MAX) {
    throw new Errno('EINVAL', `depth ${args.veventq_depth} is not within 1..${DEPTH_MAX}`);
  }
  using hold = ctx.lookup(args.viommu_id, IommufdViommu);
  const viommu = hold.object;
  yield COST.IOCTL;
  if (viommu.queues.some(({ eventType }) => eventType === args.type)) {
    const what = `vEVENTQ of type 0x${args.type.toString(16)}`;
    throw new Errno('EEXIST', `vIOMMU ${viommu.id} has a ${what}`);
  }
  ctx.kernel.failpoints.point('iommufd:veventq');
  const queue = new IommufdVeventq(viommu, args.type, args.veventq_depth);
  let fd = -1;
  let reserved = false;
  try {
    ctx.reserve(queue);
    reserved = true;
    ctx.kernel.failpoints.point('iommufd:veventq_file');
    ctx.kernel.failpoints.point('iommufd:veventq_fd');
    fd = installed(process, new VeventqFile(queue));
    ucmd.respond({ out_veventq_id: queue.id, out_veventq_fd: fd });
  } catch (error) {
    if (fd >= 0) yield* process.files.close(fd);
    if (reserved) ctx.abandon(queue);
    yield* queue.destroy();
    throw error;
  }
  ctx.publish(queue);
}

function installed(process: Caller, file: VeventqFile): number {
  return process.files.install(file, O_RDWR | O_CLOEXEC);
}

function record({ sequence, payload }: Vevent): Uint8Array {
  if (payload === null) {
    return iommufd_vevent_header.encode({ flags: IOMMU_VEVENTQ_FLAG_LOST_EVENTS, sequence });
  }
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  bytes.set(iommufd_vevent_header.encode({ sequence }));
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}
