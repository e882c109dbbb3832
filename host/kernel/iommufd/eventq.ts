/**
 * Fault queues: page request groups on their way to a user program and back
 * (drivers/iommu/iommufd/eventq.c).
 */

import { host } from '../../../trace/catalogue/host.ts';
import { Mutex, WaitQueue } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import { ERRNO } from '../../uapi/errno.ts';
import {
  IOMMU_PGFAULT_FLAGS_LAST_PAGE,
  IOMMU_PGFAULT_FLAGS_PASID_VALID,
  IOMMUFD_PAGE_RESP_INVALID,
  IOMMUFD_PAGE_RESP_SUCCESS,
  iommu_fault_alloc,
  iommu_hwpt_page_response,
  iommu_hwpt_pgfault,
} from '../../uapi/iommufd.ts';
import { O_CLOEXEC, O_RDWR, POLLIN, POLLOUT, POLLRDNORM } from '../../uapi/poll.ts';
import { Errno } from '../errno.ts';
import type { Caller, FileOps, OpenFile } from '../file.ts';
import type { Fault, FaultGroup, ResponseCode } from '../iommu/ops.ts';
import { RESPONSE } from '../iommu/ops.ts';
import { COST } from './cost.ts';
import { IommufdHandle } from './handle.ts';
import type { IommufdCtx } from './object.ts';
import { IommufdObject } from './object.ts';
import type { Ucmd } from './ucmd.ts';
import { onlyFlags } from './ucmd.ts';

const RECORD_BYTES = iommu_hwpt_pgfault.size;
const RESPONSE_BYTES = iommu_hwpt_page_response.size;
const RESPONSE_NAMES: Readonly<Record<number, string>> = {
  [IOMMUFD_PAGE_RESP_SUCCESS]: 'SUCCESS',
  [IOMMUFD_PAGE_RESP_INVALID]: 'INVALID',
};

const pasidOf = (group: FaultGroup): number => group.faults[0]?.pasid ?? 0;
const grpidOf = (group: FaultGroup): number => group.faults[0]?.grpid ?? 0;

/** The FAULT object. */
export class FaultQueue extends IommufdObject {
  readonly type = 'FAULT';
  /** Serialises readers and writers of the fd. */
  readonly mutex = new Mutex();
  /** Woken when a group arrives. */
  readonly arrived = new WaitQueue();
  /** Not read yet, oldest first. */
  readonly deliver: FaultGroup[] = [];
  /** Read and not answered, by cookie. */
  readonly unanswered = new Map<number, FaultGroup>();

  constructor(ctx: IommufdCtx) {
    super(ctx);
    ctx.kernel.failpoints.point('iommufd:fault_queue');
  }

  describe(): string {
    return 'fault queue';
  }

  /** The domain's fault handler: queues the group for the user. Called in the fault thread. */
  *handle(group: FaultGroup, hwptId: number): Task<number> {
    yield COST.DELIVER;
    const { handle } = group;
    if (!(handle instanceof IommufdHandle)) return -ERRNO.EINVAL;
    this.deliver.push(group);
    if (handle.gone) {
      yield* this.autoResponse(handle);
      return 0;
    }
    const { trace } = this.ctx.kernel;
    if (trace.on) {
      trace.emit(host.faultQueued, {
        device: group.dev.name,
        pasid: pasidOf(group),
        hwpt: hwptId,
        grpid: grpidOf(group),
        records: group.faults.length,
      });
    }
    this.arrived.wake();
    return 0;
  }

  /** Answers INVALID to every group of an attachment that has gone, read or not, exactly once. */
  *autoResponse(handle: IommufdHandle): Task {
    yield* this.#answerAll((group) => group.handle === handle);
  }

  *destroy(): Task {
    yield* this.#answerAll(() => true);
  }

  *#answerAll(chosen: (group: FaultGroup) => boolean): Task {
    const groups = this.deliver.filter(chosen);
    const kept = this.deliver.filter((group) => !chosen(group));
    this.deliver.splice(0, this.deliver.length, ...kept);
    for (const [cookie, group] of [...this.unanswered]) {
      if (!chosen(group)) continue;
      this.unanswered.delete(cookie);
      groups.push(group);
    }
    const { trace, iommu } = this.ctx.kernel;
    for (const group of groups) {
      if (!iommu.iopf.isPending(group)) continue;
      const [device, pasid, grpid] = [group.dev.name, pasidOf(group), grpidOf(group)];
      using _span = trace.span(host.autoResponse, { device, pasid, grpid });
      yield* iommu.pageGroupResponse(group, RESPONSE.INVALID);
    }
  }
}

/** The file of a fault queue: "[iommufd-pgfault]". */
export class FaultFile implements FileOps {
  readonly name = '[iommufd-pgfault]';
  readonly #fault: FaultQueue;

  /** Holds the object and the context until the file is released. */
  constructor(fault: FaultQueue) {
    this.#fault = fault;
    fault.users++;
    fault.ctx.reference();
  }

  /**
   * Whole groups, oldest first, as many as fit; 0 when there is none. Never blocks.
   *
   * @throws Errno ESPIPE: `count` is not a multiple of 40; EINVAL: no room for the first group;
   *   EFAULT
   */
  *read(process: Caller, _file: OpenFile, buffer: number, count: number): Task<number> {
    if (count % RECORD_BYTES !== 0) {
      throw new Errno('ESPIPE', `count ${count} is not a multiple of ${RECORD_BYTES}`);
    }
    const { mutex, deliver, unanswered, ctx } = this.#fault;
    yield* mutex.lock();
    try {
      let done = 0;
      for (let group = deliver[0]; group !== undefined; group = deliver[0]) {
        const bytes = group.faults.length * RECORD_BYTES;
        if (bytes > count - done) {
          if (done > 0) break;
          throw new Errno('EINVAL', `count ${count}, and the first group has ${bytes}`);
        }
        const cookie = lowestFree(unanswered);
        try {
          ctx.kernel.failpoints.point('iommufd:fault_cookie');
          process.mm.copyTo(BigInt(buffer + done), records(group, cookie));
        } catch (error) {
          if (done > 0) break;
          throw error;
        }
        deliver.shift();
        unanswered.set(cookie, group);
        done += bytes;
      }
      return done;
    } finally {
      mutex.unlock();
    }
  }

  /**
   * Answers groups, one record each.
   *
   * @returns bytes taken, if any record was good
   * @throws Errno ESPIPE: `count` is not a multiple of 8; EINVAL: code or cookie; EFAULT
   */
  *write(process: Caller, _file: OpenFile, buffer: number, count: number): Task<number> {
    if (count % RESPONSE_BYTES !== 0) {
      throw new Errno('ESPIPE', `count ${count} is not a multiple of ${RESPONSE_BYTES}`);
    }
    const { mutex } = this.#fault;
    yield* mutex.lock();
    try {
      for (let done = 0; done < count; done += RESPONSE_BYTES) {
        try {
          yield* this.#answer(process.mm.copyFrom(BigInt(buffer + done), RESPONSE_BYTES));
        } catch (error) {
          if (done > 0) return done;
          throw error;
        }
      }
      return count;
    } finally {
      mutex.unlock();
    }
  }

  poll(): { events: number; queue: WaitQueue } {
    const { deliver, arrived } = this.#fault;
    const readable = deliver.length > 0 ? POLLIN | POLLRDNORM : 0;
    return { events: POLLOUT | readable, queue: arrived };
  }

  *release(): Task {
    this.#fault.users--;
    yield* this.#fault.ctx.unreference();
  }

  *#answer(record: Uint8Array): Task {
    const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
    const { cookie, code } = iommu_hwpt_page_response.read(view);
    const name = RESPONSE_NAMES[code];
    if (name === undefined) throw new Errno('EINVAL', `response code ${code} is neither 0 nor 1`);
    const { unanswered, ctx } = this.#fault;
    const group = unanswered.get(cookie);
    if (group === undefined) throw new Errno('EINVAL', `no group waits under cookie ${cookie}`);
    unanswered.delete(cookie);
    const { trace, iommu } = ctx.kernel;
    const device = group.dev.name;
    const [pasid, grpid] = [pasidOf(group), grpidOf(group)];
    using _span = trace.span(host.faultResponse, { device, pasid, grpid, cookie, code: name });
    yield* iommu.pageGroupResponse(group, code as ResponseCode);
  }
}

/** IOMMU_FAULT_QUEUE_ALLOC (iommufd_fault_alloc). */
export function* faultQueueAlloc(ucmd: Ucmd<typeof iommu_fault_alloc.fields>): Task {
  const { ctx, process } = ucmd;
  onlyFlags(ucmd.args.flags, 0);
  const fault = new FaultQueue(ctx);
  ctx.reserve(fault);
  const file = new FaultFile(fault);
  let fd = -1;
  try {
    ctx.kernel.failpoints.point('iommufd:fault_file');
    ctx.kernel.failpoints.point('iommufd:fault_fd');
    fd = process.files.install(file, O_RDWR | O_CLOEXEC);
    ucmd.respond({ out_fault_id: fault.id, out_fault_fd: fd });
  } catch (error) {
    yield* fd >= 0 ? process.files.close(fd) : file.release();
    yield* ctx.abort(fault);
    throw error;
  }
  ctx.publish(fault);
}

/** The lowest cookie from 1 that no group has. */
function lowestFree(taken: ReadonlyMap<number, unknown>): number {
  let cookie = 1;
  while (taken.has(cookie)) cookie++;
  return cookie;
}

function records(group: FaultGroup, cookie: number): Uint8Array {
  const bytes = new Uint8Array(group.faults.length * RECORD_BYTES);
  const view = new DataView(bytes.buffer);
  const devId = group.handle instanceof IommufdHandle ? group.handle.idev.id : 0;
  group.faults.forEach((fault, index) => {
    iommu_hwpt_pgfault.write(view, index * RECORD_BYTES, {
      flags: flagsOf(fault),
      dev_id: devId,
      pasid: fault.pasid,
      grpid: fault.grpid,
      perm: fault.perm,
      addr: fault.address,
      cookie,
    });
  });
  return bytes;
}

function flagsOf(fault: Fault): number {
  const pasid = fault.pasidValid ? IOMMU_PGFAULT_FLAGS_PASID_VALID : 0;
  return pasid | (fault.last ? IOMMU_PGFAULT_FLAGS_LAST_PAGE : 0);
}
