import { device } from '../../trace/catalogue/device.ts';
import type { Tracer } from '../../trace/tracer.ts';
import { decodeDescriptor, describeDescriptor, hasReservedBits } from '../spec/dsa/descriptor.ts';
import { decodePortal, SUBMISSION_BYTES, WqState } from '../spec/dsa/tables.ts';
import { type SoftwareErrorInfo, SWERR_DROPPED } from './errors.ts';
import type { DsaState } from './state.ts';
import { clientOf, Work } from './work.ts';
import type { WorkQueue } from './work-queue.ts';

export interface PortalParts {
  readonly name: string;
  readonly trace: Tracer;
  readonly state: DsaState;
  readonly nextSequence: () => number;
  /** A queue of `group` has something new. */
  readonly accepted: (group: number) => void;
  readonly softwareError: (info: SoftwareErrorInfo) => void;
  readonly reportDropped: boolean;
}

/**
 * BAR2: where descriptors come in. A posted write (MOVDIR64B) goes to a dedicated queue and is
 * dropped where it does not fit; a deferrable one (ENQCMD) goes to a shared queue and is answered
 * with retry.
 */
export class Portals {
  readonly #parts: PortalParts;

  constructor(parts: PortalParts) {
    this.#parts = parts;
  }

  /** MOVDIR64B. */
  post(offset: number, bytes: Uint8Array): void {
    if (bytes.length < SUBMISSION_BYTES || offset % SUBMISSION_BYTES !== 0) return;
    const { wq, ims } = decodePortal(offset);
    const queue = this.#parts.state.queues[wq];
    if (queue === undefined) return;
    const takes = this.#isOpen(queue) && queue.config.dedicated !== 0;
    if (takes && queue.occupancy < queue.config.size) this.#accept(queue, bytes, ims);
    else if (this.#parts.reportDropped) this.#parts.softwareError({ error: SWERR_DROPPED, wq });
  }

  /** ENQCMD: true when accepted. */
  enqueue(offset: number, bytes: Uint8Array): boolean {
    if (bytes.length < SUBMISSION_BYTES || offset % SUBMISSION_BYTES !== 0) return false;
    const { wq, limited, ims } = decodePortal(offset);
    const queue = this.#parts.state.queues[wq];
    if (queue === undefined) return false;
    const why = this.#refusal(queue, limited);
    if (why === '') {
      this.#accept(queue, bytes, ims);
      return true;
    }
    if (this.#parts.trace.on) {
      const { name, trace } = this.#parts;
      trace.emit(device.retry, { device: name, wq, pasid: pasidOf(queue, bytes), why });
    }
    return false;
  }

  #isOpen(queue: WorkQueue): boolean {
    return this.#parts.state.enabled && queue.state === WqState.ENABLED;
  }

  #refusal(queue: WorkQueue, limited: boolean): string {
    if (!this.#isOpen(queue)) return 'the work queue is not enabled';
    const { dedicated, threshold, size } = queue.config;
    if (dedicated !== 0) return 'the work queue is dedicated';
    if (queue.occupancy >= size) return `full: ${size} descriptors`;
    if (limited && queue.occupancy >= threshold) return `at its threshold of ${threshold}`;
    return '';
  }

  #accept(queue: WorkQueue, bytes: Uint8Array, ims: boolean): void {
    const { trace, name } = this.#parts;
    const descriptor = decodeDescriptor(bytes);
    const client = clientOf(queue.index, queue.config, descriptor, ims);
    let { cause } = trace;
    if (trace.on) {
      cause = trace.emit(device.accept, {
        device: name,
        wq: queue.index,
        pasid: client.pasid,
        descriptor: describeDescriptor(descriptor),
        occupancy: queue.occupancy + 1,
      });
    }
    const order = { sequence: this.#parts.nextSequence(), batchIndex: -1, cause };
    queue.push(new Work(client, descriptor, hasReservedBits(bytes), order));
    this.#parts.accepted(queue.group);
  }
}

function pasidOf(queue: WorkQueue, bytes: Uint8Array): number {
  const { config } = queue;
  return clientOf(queue.index, config, decodeDescriptor(bytes), false).pasid;
}
