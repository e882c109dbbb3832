/** Page requests become groups, groups get a handler and exactly one answer (iommu/io-pgfault.c). */
import { ridToString } from '../../devices/spec/pci.ts';
import { pageGroupRespDesc } from '../../devices/spec/vtd/invalidation.ts';
import { type PageRequest, RESPONSE, responseName } from '../../devices/spec/vtd/page-request.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import type { Core } from '../core.ts';
import { type Task, WaitQueue, waitOn } from '../task.ts';
import type { IommuDevice } from './unit.ts';

/** Requests that share a group index, the answered one last. */
export interface FaultGroup {
  readonly device: IommuDevice;
  readonly requests: readonly PageRequest[];
  readonly handler: FaultHandler;
  /** Trace cause of the request that completed the group. */
  readonly cause: number;
}

/** What serves the faults of a PASID; returns the response code. It does not block. */
export interface FaultHandler {
  serve(group: FaultGroup): number;
}

/** Requests of unfinished groups kept per device: what one device may have outstanding. */
const MAX_PARTIAL = 512;

export class IoPageFaults {
  readonly #core: Core;
  readonly #handlers = new Map<string, FaultHandler>();
  readonly #partial = new Map<IommuDevice, PageRequest[]>();
  readonly #work: FaultGroup[] = [];
  readonly #arrived = new WaitQueue();
  readonly #finished = new WaitQueue();
  /** Groups handed to the work queue and not yet answered. */
  #outstanding = 0;

  constructor(core: Core) {
    this.#core = core;
  }

  /** Starts the work queue's thread. */
  start(): void {
    this.#core.sched.spawn('iopf', this.#worker());
  }

  attach(device: IommuDevice, pasid: number, handler: FaultHandler): void {
    this.#handlers.set(key(device, pasid), handler);
  }

  detach(device: IommuDevice, pasid: number): void {
    this.#handlers.delete(key(device, pasid));
  }

  /** Takes one request of a known device. Only a group's last request is ever answered. */
  *report(device: IommuDevice, request: PageRequest): Task {
    if (!request.last) {
      const stored = this.#partial.get(device) ?? [];
      if (stored.length < MAX_PARTIAL) stored.push(request);
      this.#partial.set(device, stored);
      return;
    }
    const handler = this.#handlers.get(key(device, request.pasid));
    const requests = [...this.#takePartial(device, request), request];
    if (handler === undefined) {
      yield* this.respond(device, request, RESPONSE.INVALID);
      return;
    }
    this.#work.push({ device, requests, handler, cause: this.#core.trace.cause });
    this.#outstanding++;
    this.#arrived.wake();
  }

  /** Forgets the requests of unfinished groups: some were lost when the queue overflowed. */
  dropPartial(): void {
    this.#partial.clear();
  }

  /** Returns when everything handed to the work queue has been answered. */
  *flush(): Task {
    while (this.#outstanding > 0) yield* waitOn(this.#finished);
  }

  /** Sends the page group response that `request` is owed. */
  *respond(device: IommuDevice, request: PageRequest, code: number): Task {
    const { trace, vm } = this.#core;
    const { pasid, prgi } = request;
    const values = { vm, rid: ridToString(device.rid), pasid, prgi, code: responseName(code) };
    using _span = trace.span(guest.pageResponse, values);
    const answer = pageGroupRespDesc({
      rid: device.rid,
      pasid,
      pasidPresent: request.pasidPresent,
      prgi,
      code,
      last: true,
    });
    const twice = this.#core.bugs?.has('guest-answers-twice') === true;
    yield* device.unit.qi.submit(twice ? [answer, answer] : [answer]);
  }

  #takePartial(device: IommuDevice, last: PageRequest): PageRequest[] {
    const stored = this.#partial.get(device);
    if (stored === undefined || stored.length === 0) return [];
    const same = (r: PageRequest): boolean => r.prgi === last.prgi && r.pasid === last.pasid;
    this.#partial.set(
      device,
      stored.filter((r) => !same(r)),
    );
    return stored.filter(same);
  }

  *#worker(): Task {
    const { trace } = this.#core;
    while (true) {
      const group = this.#work.shift();
      if (group === undefined) {
        trace.cause = 0;
        yield* waitOn(this.#arrived);
        continue;
      }
      trace.cause = group.cause;
      const code = group.handler.serve(group);
      yield* this.respond(group.device, group.requests.at(-1)!, code);
      this.#outstanding--;
      this.#finished.wake();
    }
  }
}

function key(device: IommuDevice, pasid: number): string {
  return `${device.rid}:${pasid}`;
}
