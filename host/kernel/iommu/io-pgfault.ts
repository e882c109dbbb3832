/** Page requests on their way from the driver to whoever attached (drivers/iommu/io-pgfault.c). */
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { FailPoints } from '../failpoint.ts';
import type { AttachHandle, Fault, FaultGroup, IommuDev, ResponseCode } from './ops.ts';
import { RESPONSE } from './ops.ts';

/**
 * Requests of unfinished groups kept per device. A function that sends more before a last one is
 * broken or hostile; its further requests are dropped, and it asks again after the response.
 */
const MAX_PARTIAL = 2048;
/** Groups of one device that wait for an answer; what is beyond finds no memory. */
const MAX_PENDING = 2 ** 16;

interface FaultParam {
  partial: Fault[];
  readonly pending: Set<FaultGroup>;
}

/** Collects page requests into groups, hands them over, and sees that each is answered once. */
export class IopfQueue {
  readonly #devices = new Map<IommuDev, FaultParam>();
  readonly #handleOf: (dev: IommuDev, fault: Fault) => AttachHandle | null;
  readonly #failpoints: Pick<FailPoints, 'point'>;

  /** @param handleOf who attached what the request came through; null for nobody */
  constructor(
    failpoints: Pick<FailPoints, 'point'>,
    handleOf: (dev: IommuDev, fault: Fault) => AttachHandle | null,
  ) {
    this.#failpoints = failpoints;
    this.#handleOf = handleOf;
  }

  /** Errno ENODEV: the driver cannot answer page requests. EBUSY: the device is in the queue. */
  addDevice(dev: IommuDev): void {
    if (dev.ops.pageResponse === undefined) {
      throw new Errno('ENODEV', `the driver of ${dev.name} answers no page requests`);
    }
    if (this.#devices.has(dev)) throw new Errno('EBUSY', `${dev.name} is in the fault queue`);
    this.#failpoints.point('iommu:iopf_device');
    this.#devices.set(dev, { partial: [], pending: new Set() });
  }

  /** The device takes no more page requests: what is open is answered INVALID. */
  *removeDevice(dev: IommuDev): Task {
    const param = this.#devices.get(dev);
    if (param === undefined) return;
    this.#devices.delete(dev);
    for (const group of [...param.pending]) {
      if (param.pending.delete(group)) yield* answer(group, RESPONSE.INVALID);
    }
  }

  /**
   * Takes one request. True when it was stored or delivered; false when nobody wants it (it is
   * answered INVALID) or its handler failed (FAILURE).
   */
  *report(dev: IommuDev, fault: Fault): Task<boolean> {
    const param = this.#devices.get(dev);
    const handle = this.#handleOf(dev, fault);
    const handler = handle?.domain.faultHandler;
    if (param === undefined || handle === null || handler === null || handler === undefined) {
      // Hardware expects no answer to a request that is not the last of its group.
      if (fault.last) yield* dev.ops.pageResponse!(dev, fault, RESPONSE.INVALID);
      return false;
    }
    if (!fault.last) {
      if (param.partial.length < MAX_PARTIAL) param.partial.push(fault);
      return true;
    }
    const faults = takeGroup(param, fault);
    if (!this.#hasMemory(param.pending.size)) {
      yield* dev.ops.pageResponse!(dev, fault, RESPONSE.INVALID);
      return false;
    }
    const group: FaultGroup = { dev, handle, faults };
    param.pending.add(group);
    let result: number;
    try {
      result = yield* handler(group);
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      result = -error.number;
    }
    if (result === 0) return true;
    yield* this.respond(group, RESPONSE.FAILURE);
    return false;
  }

  /** For a group; without it the group is answered at once (iopf_group_alloc). */
  #hasMemory(pending: number): boolean {
    if (pending >= MAX_PENDING) return false;
    try {
      this.#failpoints.point('iommu:iopf_group');
      return true;
    } catch (error) {
      if (error instanceof Errno) return false;
      throw error;
    }
  }

  /** Answers a group. Exactly once: false when it was answered before, by whomever. */
  *respond(group: FaultGroup, code: ResponseCode): Task<boolean> {
    if (this.#devices.get(group.dev)?.pending.delete(group) !== true) return false;
    yield* answer(group, code);
    return true;
  }

  /** Whether a group still waits for its answer. */
  isPending(group: FaultGroup): boolean {
    return this.#devices.get(group.dev)?.pending.has(group) === true;
  }

  /** After an overflow: last requests may be lost, so what was collected for them is dropped. */
  discardPartial(): void {
    for (const param of this.#devices.values()) param.partial = [];
  }
}

function* answer(group: FaultGroup, code: ResponseCode): Task {
  yield* group.dev.ops.pageResponse!(group.dev, group.faults.at(-1)!, code);
}

/** All stored requests of the group that `last` ends, in order of arrival, and `last`. */
function takeGroup(param: FaultParam, last: Fault): readonly Fault[] {
  if (param.partial.length === 0) return [last];
  const same = (fault: Fault): boolean =>
    fault.grpid === last.grpid &&
    fault.pasidValid === last.pasidValid &&
    fault.pasid === last.pasid;
  const faults = param.partial.filter(same);
  param.partial = param.partial.filter((fault) => !same(fault));
  return [...faults, last];
}
