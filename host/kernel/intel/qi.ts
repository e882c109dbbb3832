import type { PhysicalMemory } from '../../../devices/memory.ts';
import {
  DESCRIPTOR_BYTES,
  decodeDescriptor,
  describeDescriptor,
  waitDesc,
} from '../../../devices/spec/vtd/invalidation.ts';
import {
  FSTS,
  GCMD,
  IQ_OFFSET_MASK,
  IQA,
  IQERCD,
  REG,
} from '../../../devices/spec/vtd/registers.ts';
import { host } from '../../../trace/catalogue/host.ts';
import type { Tracer } from '../../../trace/tracer.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import { INTEL_NS } from './costs.ts';
import type { Platform } from './platform.ts';
import { allocTable, allocTables } from './platform.ts';
import type { Registers } from './registers.ts';

/** Two pages of 256-bit descriptors (drivers/iommu/intel/dmar.c: QI_LENGTH). */
const QUEUE_PAGES = 2;
const QUEUE_SIZE_LOG2 = 1;
const LENGTH = 256;

/** Status words, as Linux numbers them. */
const IN_USE = 1;
const DONE = 2;

/** Times a submission is repeated after the unit gave up on a device-TLB invalidation. */
const MAX_ATTEMPTS = 4;

/** One invalidation descriptor: four 64-bit words. */
export type DescriptorWords = BigUint64Array<ArrayBuffer>;

interface Submission {
  /** Places in the queue, counted since it was set up. */
  readonly first: number;
  readonly wait: number;
  state: 'open' | 'aborted' | 'invalid';
}

export interface SubmitOptions {
  /** The wait also orders behind page requests the unit has received (PD). */
  readonly drainPageRequests?: boolean;
}

/**
 * The unit's invalidation queue (drivers/iommu/intel/dmar.c: qi_submit_sync). Threads may submit at
 * once: putting descriptors in the ring never yields, and each thread polls the status word of its
 * own wait descriptor.
 */
export class InvalidationQueue {
  readonly base: number;
  readonly #status: number;
  readonly #registers: Registers;
  readonly #ram: PhysicalMemory;
  readonly #trace: Tracer;
  readonly #open = new Set<Submission>();
  /** Descriptors written, and descriptors the unit has fetched, since the queue was set up. */
  #tail = 0;
  #head = 0;

  /** Errno ENOMEM. */
  constructor(platform: Platform, registers: Registers) {
    this.#registers = registers;
    this.#ram = platform.machine.ram;
    this.#trace = platform.trace;
    this.base = allocTables(platform, QUEUE_PAGES, 'intel:qi-ring');
    this.#status = allocTable(platform, 'intel:qi-status');
  }

  /** Hands the ring to the unit: tail 0, base, then the enable command. */
  *enable(): Task {
    this.#registers.write64(REG.IQT, 0n);
    const iqa = IQA.encode({ BASE: this.base, DW: 1, QS: QUEUE_SIZE_LOG2 });
    this.#registers.write64(REG.IQA, iqa[0]!);
    yield* this.#registers.command(GCMD.QIE);
  }

  /**
   * Submits descriptors and waits until the unit has carried them out. At most 254 at once.
   *
   * Errno EINVAL: the unit refused one of them. ETIMEDOUT: a device did not answer a device-TLB
   * invalidation.
   */
  *submit(descriptors: readonly DescriptorWords[], options: SubmitOptions = {}): Task {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const state = yield* this.#submitOnce(descriptors, options);
      if (state === 'done') return;
      if (state === 'invalid') {
        throw new Errno('EINVAL', `the unit refused ${descriptors.map(describe).join(', ')}`);
      }
    }
    const device = IQERCD.decode([this.#registers.read64(REG.IQERCD)]).ITESID;
    throw new Errno('ETIMEDOUT', `device ${device.toString(16)} answers no invalidation`);
  }

  /**
   * Puts one descriptor in the queue and does not wait for it, except for a free place: responses to
   * page requests, whose order against other work is that of the queue.
   */
  *post(descriptor: DescriptorWords): Task {
    yield* this.#reserve(1);
    this.#put(descriptor, true);
    this.#ring();
  }

  /** Descriptors the unit has not fetched yet. */
  get pending(): number {
    this.#refreshHead();
    return this.#tail - this.#head;
  }

  /**
   * Looks for queue errors and gets the queue going again. Called by whoever waits and by the fault
   * interrupt: an offending descriptor is overwritten with a wait (its submitter gets EINVAL);
   * after a device-TLB timeout everything that was under way is submitted anew.
   */
  recover(): void {
    const fsts = this.#registers.read32(REG.FSTS);
    if ((fsts & (FSTS.IQE | FSTS.ITE)) === 0) return;
    this.#refreshHead();
    if ((fsts & FSTS.IQE) !== 0) this.#replaceOffender();
    if ((fsts & FSTS.ITE) !== 0) {
      for (const one of this.#open) {
        if (one.first < this.#head && !this.#isDone(one)) one.state = 'aborted';
      }
      this.#registers.write32(REG.FSTS, FSTS.ITE);
    }
  }

  *#submitOnce(
    descriptors: readonly DescriptorWords[],
    options: SubmitOptions,
  ): Task<'done' | 'aborted' | 'invalid'> {
    yield* this.#reserve(descriptors.length + 1);
    const first = this.#tail;
    for (const descriptor of descriptors) this.#put(descriptor, true);
    const submission: Submission = { first, wait: this.#tail, state: 'open' };
    this.#ram.write32(this.#statusOf(submission.wait), IN_USE);
    this.#put(this.#waitFor(submission, options), false);
    this.#open.add(submission);
    this.#ring();
    try {
      let pause: number = INTEL_NS.POLL;
      while (!this.#isDone(submission) && submission.state === 'open') {
        yield pause;
        pause = Math.min(pause * 2, INTEL_NS.POLL_MAX);
        this.recover();
      }
      return submission.state === 'open' ? 'done' : submission.state;
    } finally {
      this.#open.delete(submission);
    }
  }

  #waitFor(submission: Submission, options: SubmitOptions): DescriptorWords {
    return waitDesc({
      statusWrite: true,
      drainPageRequests: options.drainPageRequests,
      statusData: DONE,
      statusAddress: this.#statusOf(submission.wait),
    });
  }

  /** Waits until `count` places are free; the one before the head always stays empty. */
  *#reserve(count: number): Task {
    let pause: number = INTEL_NS.POLL;
    while (LENGTH - 1 - (this.#tail - this.#head) < count) {
      this.#refreshHead();
      if (LENGTH - 1 - (this.#tail - this.#head) >= count) return;
      this.recover();
      yield pause;
      pause = Math.min(pause * 2, INTEL_NS.POLL_MAX);
    }
  }

  #put(descriptor: DescriptorWords, shown: boolean): void {
    const index = this.#tail++ % LENGTH;
    const slot = this.base + index * DESCRIPTOR_BYTES;
    for (let word = 0; word < 4; word++) this.#ram.write64(slot + 8 * word, descriptor[word]!);
    if (!this.#trace.on) return;
    if (!shown) {
      this.#trace.mark('host', slot);
      return;
    }
    const [qw0, qw1] = [descriptor[0]!, descriptor[1]!];
    using _span = this.#trace.span(host.qiSubmit, {
      descriptor: describe(descriptor),
      qw0,
      qw1,
      index,
    });
    this.#trace.mark('host', slot);
  }

  #ring(): void {
    this.#registers.write32(REG.IQT, (this.#tail % LENGTH) * DESCRIPTOR_BYTES);
  }

  #refreshHead(): void {
    const offset = Number(this.#registers.read64(REG.IQH)) & IQ_OFFSET_MASK;
    const index = offset / DESCRIPTOR_BYTES;
    this.#head += (index - (this.#head % LENGTH) + LENGTH) % LENGTH;
  }

  #statusOf(place: number): number {
    return this.#status + 4 * (place % LENGTH);
  }

  #isDone(submission: Submission): boolean {
    return this.#ram.read32(this.#statusOf(submission.wait)) === DONE;
  }

  /** The descriptor at the head broke a rule and the queue stands still (IQE). */
  #replaceOffender(): void {
    const place = this.#head;
    let harmless = waitDesc({ fence: true });
    for (const one of this.#open) {
      if (place < one.first || place > one.wait) continue;
      one.state = 'invalid';
      harmless = this.#waitFor(one, {});
    }
    const slot = this.base + (place % LENGTH) * DESCRIPTOR_BYTES;
    for (let word = 0; word < 4; word++) this.#ram.write64(slot + 8 * word, harmless[word]!);
    this.#registers.write32(REG.FSTS, FSTS.IQE);
  }
}

function describe(descriptor: DescriptorWords): string {
  return describeDescriptor(decodeDescriptor(descriptor));
}
