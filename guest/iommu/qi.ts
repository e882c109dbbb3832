/** Queued invalidation (drivers/iommu/intel/dmar.c: qi_submit_sync). */
import {
  DESCRIPTOR_BYTES,
  decodeDescriptor,
  describeDescriptor,
  waitDesc,
} from '../../devices/spec/vtd/invalidation.ts';
import { FSTS, GCMD, IQ_OFFSET_MASK, IQA, REG } from '../../devices/spec/vtd/registers.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import type { Core } from '../core.ts';
import { GuestError } from '../errno.ts';
import { Backoff, sleep, type Task, WaitQueue, waitOn } from '../task.ts';
import type { UnitRegisters } from './registers.ts';

const QUEUE_PAGES = 2;
const QUEUE_LENGTH = 256;

/** Descriptors in one submission, at most; longer batches are the caller's to split. */
export const MAX_BATCH = 16;

/** State of a slot; DONE is also the status data the unit writes for a wait. */
const SLOT = { FREE: 0, IN_USE: 1, DONE: 2, ABORTED: 3 } as const;

/** How long the unit may take, and how often an aborted submission is repeated. */
const COMPLETION_NS = 10_000_000_000;
const MAX_RETRIES = 8;

type Words = BigUint64Array;

export class InvalidationQueue {
  readonly #core: Core;
  readonly #registers: UnitRegisters;
  readonly #queue: number;
  /** One 32-bit state per slot, in memory: the unit writes those of waits. */
  readonly #states: number;
  readonly #freed = new WaitQueue();
  /** Next slot to fill, and the oldest that is not free. */
  #head = 0;
  #tail = 0;
  #free = QUEUE_LENGTH;

  /** Throws GuestError ENOMEM. */
  constructor(core: Core, registers: UnitRegisters) {
    this.#core = core;
    this.#registers = registers;
    this.#queue = core.pages.allocRun(QUEUE_PAGES);
    this.#states = core.pages.alloc();
  }

  /** Tells the unit where the queue is: 256-bit descriptors, two pages. */
  *enable(): Task {
    yield* this.#registers.write32(REG.IQT, 0);
    const [iqa] = IQA.encode({ BASE: this.#queue, DW: 1, QS: 1 });
    yield* this.#registers.write64(REG.IQA, iqa!);
    yield* this.#registers.enable(GCMD.QIE);
  }

  /**
   * Puts descriptors (1 to MAX_BATCH) and a wait in the queue, and returns when the wait completed.
   * `drain` also makes the wait go behind page requests the unit has received.
   * Throws GuestError EINVAL when the unit refuses a descriptor, ETIMEDOUT when a device or the
   * unit does not answer.
   */
  *submit(descriptors: readonly Words[], drain = false): Task {
    for (let attempt = 0; attempt < MAX_RETRIES; attempt++) {
      if (yield* this.#submitOnce(descriptors, drain)) return;
    }
    throw new GuestError('ETIMEDOUT', 'a device does not complete its device-TLB invalidation');
  }

  *#submitOnce(descriptors: readonly Words[], drain: boolean): Task<boolean> {
    const count = descriptors.length;
    while (this.#free < count + 2) yield* waitOn(this.#freed);
    const first = this.#head;
    const last = (first + count) % QUEUE_LENGTH;
    descriptors.forEach((words, i) => {
      this.#put((first + i) % QUEUE_LENGTH, words, true);
    });
    const statusAddress = this.#stateAddress(last);
    const status = { statusWrite: true, statusData: SLOT.DONE, statusAddress };
    this.#put(last, waitDesc({ ...status, drainPageRequests: drain }), drain);
    this.#head = (last + 1) % QUEUE_LENGTH;
    this.#free -= count + 1;
    yield* this.#registers.write32(REG.IQT, this.#head * DESCRIPTOR_BYTES);
    try {
      return (yield* this.#await(last, first)) === SLOT.DONE;
    } finally {
      for (let i = 0; i < count; i++) this.#setState((first + i) % QUEUE_LENGTH, SLOT.DONE);
      this.#setState(last, SLOT.DONE);
      this.#reclaim();
    }
  }

  #put(slot: number, words: Words, report: boolean): void {
    const { cpu, trace, vm } = this.#core;
    const address = this.#queue + slot * DESCRIPTOR_BYTES;
    for (let i = 0; i < 4; i++) cpu.write64(address + 8 * i, words[i]!);
    this.#setState(slot, SLOT.IN_USE);
    if (!trace.on) return;
    if (!report) {
      trace.mark(vm, address);
      return;
    }
    const descriptor = describeDescriptor(decodeDescriptor(words));
    const values = { vm, descriptor, qw0: words[0]!, qw1: words[1]!, index: slot };
    using _span = trace.span(guest.qiSubmit, values);
    trace.mark(vm, address);
  }

  /** Polls the wait's state word, and looks for queue errors while it is not written. */
  *#await(slot: number, first: number): Task<number> {
    const { cpu } = this.#core;
    const address = this.#stateAddress(slot);
    const deadline = cpu.tsc + COMPLETION_NS;
    const backoff = new Backoff(200, 10_000);
    while (true) {
      const state = cpu.read32(address);
      if (state !== SLOT.IN_USE) return state;
      yield* this.#checkFault(first, slot);
      if (cpu.read32(address) !== SLOT.IN_USE) continue;
      if (cpu.tsc > deadline) throw new GuestError('ETIMEDOUT', 'invalidation wait not completed');
      yield* sleep(backoff.next());
    }
  }

  *#checkFault(first: number, last: number): Task {
    const status = yield* this.#registers.read32(REG.FSTS);
    if ((status & FSTS.IQE) !== 0) yield* this.#queueError(first, last);
    if ((status & FSTS.ITE) !== 0) yield* this.#timeoutError();
    if ((status & FSTS.ICE) !== 0) yield* this.#registers.write32(REG.FSTS, FSTS.ICE);
  }

  /** The queue stops on the offender: if it is ours, a wait takes its place and EINVAL results. */
  *#queueError(first: number, last: number): Task {
    const { cpu } = this.#core;
    const head = Number((yield* this.#registers.read64(REG.IQH)) & BigInt(IQ_OFFSET_MASK));
    const slot = Math.floor(head / DESCRIPTOR_BYTES) % QUEUE_LENGTH;
    const ours = (slot - first + QUEUE_LENGTH) % QUEUE_LENGTH;
    if (ours > (last - first + QUEUE_LENGTH) % QUEUE_LENGTH) return;
    const at = this.#queue + slot * DESCRIPTOR_BYTES;
    const qw0 = cpu.read64(at);
    cpu.copy(at, this.#queue + last * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES);
    yield* this.#registers.write32(REG.FSTS, FSTS.IQE);
    throw new GuestError('EINVAL', `the unit refuses descriptor 0x${qw0.toString(16)}`);
  }

  /** Waits between the unit's head and our tail were aborted: mark them so, then resume. */
  *#timeoutError(): Task {
    const { cpu } = this.#core;
    const head = Number((yield* this.#registers.read64(REG.IQH)) & BigInt(IQ_OFFSET_MASK));
    let slot = Math.floor(head / DESCRIPTOR_BYTES) % QUEUE_LENGTH;
    for (let i = 0; i < QUEUE_LENGTH; i++) {
      slot = (slot + QUEUE_LENGTH - 1) % QUEUE_LENGTH;
      if (slot === this.#head) break;
      if (cpu.read32(this.#stateAddress(slot)) === SLOT.IN_USE) this.#setState(slot, SLOT.ABORTED);
    }
    yield* this.#registers.write32(REG.FSTS, FSTS.ITE);
  }

  #stateAddress(slot: number): number {
    return this.#states + 4 * slot;
  }

  #setState(slot: number, state: number): void {
    this.#core.cpu.write32(this.#stateAddress(slot), state);
  }

  /** Frees finished slots from the oldest on. */
  #reclaim(): void {
    while (this.#free < QUEUE_LENGTH) {
      const state = this.#core.cpu.read32(this.#stateAddress(this.#tail));
      if (state !== SLOT.DONE && state !== SLOT.ABORTED) break;
      this.#setState(this.#tail, SLOT.FREE);
      this.#tail = (this.#tail + 1) % QUEUE_LENGTH;
      this.#free++;
    }
    this.#freed.wake();
  }
}
