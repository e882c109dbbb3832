import { vtd } from '../../trace/catalogue/vtd.ts';
import type { Tracer } from '../../trace/tracer.ts';
import { ridToString } from '../spec/pci.ts';
import {
  encodePageRequest,
  isStopMarker,
  PAGE_REQUEST_BYTES,
  type PageRequest,
  RESPONSE,
} from '../spec/vtd/page-request.ts';
import { PQ_OFFSET_MASK, PQA, PRS, pageRequestQueueBytes, REG } from '../spec/vtd/registers.ts';
import type { UnitConfig } from './config.ts';
import type { EventSource } from './event-source.ts';
import type { RegisterFile } from './registers.ts';
import type { VtdWorld } from './world.ts';

interface QueueParts {
  readonly config: UnitConfig;
  readonly registers: RegisterFile;
  readonly world: VtdWorld;
  readonly trace: Tracer;
  readonly event: EventSource;
}

/** The page-request queue and the answers the unit gives on its own (VT-d spec 7.3 to 7.5). */
export class PageRequestQueue {
  readonly #parts: QueueParts;

  constructor(parts: QueueParts) {
    const { config, registers, event } = parts;
    this.#parts = parts;
    if (config.ecap.PRS === 0) return;
    registers.writable64(REG.PQA, 0xffff_ffff_ffff_f007n);
    registers.writable(REG.PQH, PQ_OFFSET_MASK);
    registers.writable(REG.PQT, PQ_OFFSET_MASK);
    registers.onWrite(REG.PRS, (value) => event.clear(value & (PRS.PPR | PRS.PRO)));
  }

  /** Whether a request can be queued: no overflow is pending and there is room. */
  get hasRoom(): boolean {
    const { registers } = this.#parts;
    if ((registers.get(REG.PRS) & PRS.PRO) !== 0) return false;
    const { bytes, tail, head } = this.#ring();
    return (tail + PAGE_REQUEST_BYTES) % bytes !== head;
  }

  /** The request failed its checks: it is answered if it needs an answer. */
  refuse(request: PageRequest, reason: string): void {
    using _span = this.#note(request, `invalid request: ${reason}`);
    this.#answer(request, RESPONSE.INVALID);
  }

  /** No room: the request is lost, and a success makes the device ask for its translation again. */
  overflow(request: PageRequest): void {
    const { registers, event } = this.#parts;
    const answered = request.last && !isStopMarker(request);
    using _span = this.#note(request, answered ? 'overflow: answered success' : 'overflow: lost');
    if ((registers.get(REG.PRS) & PRS.PRO) === 0) event.raise(PRS.PRO);
    this.#answer(request, RESPONSE.SUCCESS);
  }

  /** Writes the request into the ring and raises the event; call only when `hasRoom`. */
  enqueue(request: PageRequest): void {
    const { config, registers, world, trace, event } = this.#parts;
    const { base, bytes, tail } = this.#ring();
    const slot = base + tail;
    if (slot + PAGE_REQUEST_BYTES > 2 ** config.haw || !world.memory.contains(slot, 32)) {
      this.refuse(request, 'the queue is not in memory');
      return;
    }
    using _span = this.#note(request, 'queued');
    const words = encodePageRequest(request);
    for (const [i, word] of words.entries()) world.memory.write64(slot + 8 * i, word);
    trace.mark(config.name, slot);
    world.observer?.pageQueued(request);
    registers.set(REG.PQT, (tail + PAGE_REQUEST_BYTES) % bytes);
    event.raise(PRS.PPR);
  }

  #ring(): { base: number; bytes: number; head: number; tail: number } {
    const { registers } = this.#parts;
    const pqa = PQA.decode([registers.get64(REG.PQA)]);
    const bytes = pageRequestQueueBytes(pqa.PQS);
    const head = registers.get(REG.PQH) % bytes;
    return { base: pqa.BASE, bytes, head, tail: registers.get(REG.PQT) % bytes };
  }

  /** Only the last request of a group is answered, and a stop marker never. */
  #answer(request: PageRequest, code: number): void {
    if (!request.last || isStopMarker(request)) return;
    const { config, trace, world } = this.#parts;
    const { rid, prgi } = request;
    const pasid = request.pasidPresent ? request.pasid : -1;
    using _span = trace.on
      ? trace.span(vtd.pageResponse, {
          unit: config.name,
          sid: ridToString(rid),
          pasid,
          prgi,
          code,
        })
      : null;
    world.pageGroupResponse(rid, pasid, prgi, code);
  }

  #note(request: PageRequest, outcome: string): Disposable | null {
    const { config, trace } = this.#parts;
    if (!trace.on) return null;
    return trace.span(vtd.pageRequest, {
      unit: config.name,
      sid: ridToString(request.rid),
      pasid: request.pasidPresent ? request.pasid : -1,
      address: request.address,
      prgi: request.prgi,
      perm: permissionText(request.read, request.write) + (request.priv ? 'p' : ''),
      last: request.last ? 1 : 0,
      outcome,
    });
  }
}

/** `rw`, `r-`, `-w` or `--`. */
export function permissionText(read: boolean, write: boolean): string {
  return (read ? 'r' : '-') + (write ? 'w' : '-');
}
