import type { Tracer } from '../../trace/tracer.ts';
import type { Clock } from '../clock.ts';
import type { Fabric } from '../pci/fabric.ts';
import { DsaStatus } from '../spec/dsa/completion.ts';
import { CrcFlag, DrainFlag, DescriptorFlag as F, Opcode } from '../spec/dsa/opcodes.ts';
import { Batch } from './batch.ts';
import { ClientMemory } from './client-memory.ts';
import { completionRecord, leavesRecord } from './completion.ts';
import { traceComplete, traceData, traceStart } from './engine-trace.ts';
import type { SoftwareErrorInfo } from './errors.ts';
import type { DsaModel } from './model.ts';
import { DSA_NS } from './model.ts';
import type { PageRequests, PageWaiter } from './page-requests.ts';
import { PageWait, Wait } from './page-wait.ts';
import { Landing, Transfer } from './transfer.ts';
import { Reach, type Translator } from './translator.ts';
import { mayInterrupt, type Rules, validate } from './validate.ts';
import { offsetOf, pageOf, type Work } from './work.ts';

/** What an engine needs of the device around it. */
export interface EngineHost {
  readonly rid: number;
  readonly name: string;
  readonly clock: Clock;
  readonly trace: Tracer;
  readonly fabric: Fabric;
  readonly model: DsaModel;
  readonly translator: Translator;
  readonly pages: PageRequests;
  readonly rules: Rules;
  /** The next descriptor for an engine of `group`, if any. */
  takeWork(group: number): Work | null;
  /** A submitted descriptor is finished or was dropped. */
  workDone(work: Work): void;
  /** The engine holds no translation any more. */
  landed(engine: Engine): void;
  /** Whether all earlier descriptors of a drain's client in its queue are finished. */
  isDrained(drain: Work): boolean;
  softwareError(info: SoftwareErrorInfo): void;
  completionInterrupt(vector: number): void;
}

const Phase = {
  IDLE: 0,
  /** The next event goes on with `#step`. */
  RUN: 1,
  /** A slice is on its way; the next event lands it. */
  MOVE: 2,
  /** Waits for a page or for the right to ask for one. */
  BLOCKED: 3,
  /** A drain waits for earlier descriptors. */
  DRAIN: 4,
} as const;

/** What the current descriptor needs next. */
const Step = { LIST: 0, SEED: 1, DATA: 2, READBACK1: 3, READBACK2: 4, RECORD: 5 } as const;
type Step = (typeof Step)[keyof typeof Step];

const PAGE = 4096;
const SEED_BYTES = 4;

/**
 * An engine works on one submitted descriptor at a time, and on a batch's members one after the
 * other. It is a state machine on the clock: each event moves at most one slice of pages, so that
 * invalidations, answers and other engines come in between.
 */
export class Engine implements PageWaiter {
  readonly index: number;
  /** Group the engine serves, -1 for none. */
  group = -1;
  descriptors = 0;
  readonly #host: EngineHost;
  readonly #transfer: Transfer;
  readonly #list = new Uint8Array(PAGE);
  readonly #scratch = new Uint8Array(SEED_BYTES);
  readonly #memory: ClientMemory;
  readonly #onTick = (): void => this.#tick();
  #phase: number = Phase.IDLE;
  #step: Step = Step.DATA;
  #armed = false;
  #aborting = false;
  /** The submitted descriptor, and the one being executed: the same, or a member of the batch. */
  #top: Work | null = null;
  #work: Work | null = null;
  #batch: Batch | null = null;
  #dataSeen = false;
  /** Trace cause of a batch's members: that the batch was begun. */
  #batchCause = 0;
  readonly #wait: PageWait;

  constructor(index: number, host: EngineHost) {
    this.index = index;
    this.#host = host;
    const { rid, fabric, translator, model } = host;
    this.#wait = new PageWait(this, host);
    this.#memory = new ClientMemory(host);
    this.#transfer = new Transfer({ rid, fabric, translator, slicePages: model.slicePages });
  }

  /** The submitted descriptor it is busy with. */
  get work(): Work | null {
    return this.#top;
  }

  /** Bytes of data since power-on. */
  get bytes(): number {
    return this.#transfer.bytes;
  }

  /** Whether data under a translation made for `pasid` (or with `global` any PASID) is in flight. */
  holds(pasid: number, global: boolean): boolean {
    if (this.#phase !== Phase.MOVE || this.#top === null) return false;
    const owner = this.#top.client.pasid;
    return global ? owner >= 0 : owner === pasid;
  }

  /** Something may have been queued for its group. */
  kick(): void {
    if (this.#phase === Phase.IDLE && this.group >= 0) this.#arm(DSA_NS.DISPATCH);
  }

  /** Descriptors were finished elsewhere: a waiting drain looks again. */
  recheck(): void {
    if (this.#phase === Phase.DRAIN && this.#host.isDrained(this.#top!)) this.#proceed(0);
  }

  /** Gives its descriptor up, at once or when the slice in flight has landed. */
  abort(): void {
    if (this.#phase === Phase.IDLE) return;
    if (this.#phase === Phase.MOVE) this.#aborting = true;
    else this.#drop();
  }

  /** Function level reset: everything is forgotten at once. */
  reset(): void {
    const wasMoving = this.#phase === Phase.MOVE;
    this.#forget();
    this.group = -1;
    if (wasMoving) this.#host.landed(this);
  }

  pageAnswered(prgi: number, code: number): void {
    const isAwaited = this.#wait.answer(prgi, code);
    if (isAwaited && this.#phase === Phase.BLOCKED) this.#proceed(DSA_NS.RESUME);
  }

  slotFree(): void {
    if (this.#phase === Phase.BLOCKED && this.#wait.isForSlot) this.#proceed(DSA_NS.RESUME);
  }

  #arm(ns: number): void {
    if (this.#armed) return;
    this.#armed = true;
    this.#host.clock.after(ns, this.#onTick);
  }

  #proceed(ns: number): void {
    this.#phase = Phase.RUN;
    this.#arm(ns);
  }

  #tick(): void {
    this.#armed = false;
    switch (this.#phase) {
      case Phase.IDLE:
        this.#next();
        break;
      case Phase.RUN:
        this.#go();
        break;
      case Phase.MOVE:
        this.#land();
        break;
    }
  }

  #forget(): void {
    this.#wait.forget();
    this.#phase = Phase.IDLE;
    this.#aborting = false;
    this.#top = null;
    this.#work = null;
    this.#batch = null;
  }

  #drop(): void {
    const top = this.#top!;
    this.#forget();
    this.#host.workDone(top);
    this.kick();
  }

  // Taking a descriptor.

  #next(): void {
    if (this.group < 0) return;
    const work = this.#host.takeWork(this.group);
    if (work === null) return;
    this.#host.trace.cause = work.cause;
    this.#top = work;
    this.#batch = null;
    this.#begin(work);
  }

  #begin(work: Work): void {
    const { host } = this.#parts;
    this.#work = work;
    this.#dataSeen = false;
    this.#wait.begin();
    if (host.trace.on) {
      if (work.batchIndex >= 0) host.trace.cause = this.#batchCause;
      host.trace.cause = traceStart(host, work, this.index);
      if (work.batchIndex < 0) this.#batchCause = host.trace.cause;
    }
    work.status = validate(work, host.rules);
    this.#phase = Phase.RUN;
    this.#step = work.status === 0 ? this.#firstStep(work) : Step.RECORD;
    if (this.#phase === Phase.RUN) this.#go();
  }

  get #parts(): { host: EngineHost; work: Work } {
    return { host: this.#host, work: this.#work! };
  }

  #firstStep(work: Work): Step {
    switch (work.descriptor.opcode) {
      case Opcode.NOOP:
        work.status = DsaStatus.SUCCESS;
        return Step.RECORD;
      case Opcode.DRAIN:
        if (!this.#host.isDrained(work)) this.#phase = Phase.DRAIN;
        return Step.READBACK1;
      case Opcode.BATCH:
        this.#batch = new Batch(work, this.#list);
        return Step.LIST;
      default:
        if (work.isCrc && work.has(CrcFlag.READ_SEED)) return Step.SEED;
        this.#transfer.begin(work, work.descriptor.crcSeed);
        return Step.DATA;
    }
  }

  // Executing it.

  #go(): void {
    switch (this.#step) {
      case Step.LIST:
        this.#fetchMember();
        break;
      case Step.SEED:
        this.#fetchSeed();
        break;
      case Step.DATA:
        this.#startSlice();
        break;
      case Step.READBACK1:
        this.#readBack(DrainFlag.READBACK1_VALID, Step.READBACK2);
        break;
      case Step.READBACK2:
        this.#readBack(DrainFlag.READBACK2_VALID, Step.RECORD);
        break;
      case Step.RECORD:
        this.#record();
        break;
    }
  }

  #startSlice(): void {
    const transfer = this.#transfer;
    const before = this.#host.translator.requests;
    transfer.plan();
    if (transfer.segments === 0) {
      this.#dataFault();
      return;
    }
    const { host, work } = this.#parts;
    if (!this.#dataSeen) {
      this.#dataSeen = true;
      if (host.trace.on) traceData(host, work);
    }
    const requests = host.translator.requests - before;
    this.#phase = Phase.MOVE;
    this.#arm(DSA_NS.SEGMENT * transfer.segments + DSA_NS.ATS * requests);
  }

  #land(): void {
    const { host } = this.#parts;
    if (this.#aborting) {
      this.#phase = Phase.RUN;
      host.landed(this);
      this.#drop();
      return;
    }
    const landing = this.#transfer.land();
    this.#phase = Phase.RUN;
    this.#wait.progress();
    host.landed(this);
    if (landing === Landing.MORE) this.#startSlice();
    else if (landing === Landing.FAULT) this.#dataFault();
    else this.#toRecord();
  }

  #dataFault(): void {
    const { work } = this.#parts;
    const transfer = this.#transfer;
    const { fault, faultPage, faultOffset, faultOnWrite } = transfer;
    if (fault === Reach.ABSENT && work.blocksOnFault) {
      if (this.#block(work, faultPage, faultOnWrite)) {
        this.#wait.askAhead(work, faultOnWrite, (ahead) => transfer.pageAhead(ahead));
        return;
      }
    }
    transfer.report(work);
    const status = this.#wait.statusOf(fault, faultPage);
    work.failAt(status, faultPage, faultOffset, faultOnWrite);
    this.#wait.forget();
    this.#toRecord();
  }

  #fetchSeed(): void {
    const { work } = this.#parts;
    const address = work.descriptor.crcSeedAddress;
    const reach = this.#fetch(work, address, SEED_BYTES, this.#scratch, work.blocksOnFault);
    if (reach === null) return;
    if (reach !== Reach.OK) {
      const status = this.#wait.statusOf(reach, pageOf(address));
      work.failAt(status, pageOf(address), offsetOf(address), false);
      this.#toRecord();
      return;
    }
    const [a, b, c, d] = this.#scratch;
    this.#transfer.begin(work, ((a! | (b! << 8) | (c! << 16)) >>> 0) + d! * 2 ** 24);
    this.#step = Step.DATA;
    this.#startSlice();
  }

  #readBack(valid: number, next: Step): void {
    const { work } = this.#parts;
    const { source, destination } = work.descriptor;
    const address = valid === DrainFlag.READBACK1_VALID ? source : destination;
    if (work.has(valid)) {
      const reach = this.#fetch(work, address, 1, this.#scratch, false);
      if (reach !== null && reach !== Reach.OK) {
        work.failAt(DsaStatus.READBACK_FAULT, pageOf(address), offsetOf(address), false);
        this.#toRecord();
        return;
      }
    }
    this.#step = next;
    if (next === Step.RECORD) {
      work.status = DsaStatus.SUCCESS;
      this.#toRecord();
    } else {
      this.#go();
    }
  }

  /** As `ClientMemory.read`; null: the engine is blocked and will come back to the same step. */
  #fetch(
    work: Work,
    address: bigint,
    length: number,
    into: Uint8Array,
    blocks: boolean,
  ): Reach | null {
    const reach = this.#memory.read(work.client, address, length, into);
    const waits = reach === Reach.ABSENT && blocks && this.#block(work, pageOf(address), false);
    return waits ? null : reach;
  }

  /** Waits for a page: true, or false when page requests are off or do not help. */
  #block(work: Work, vpn: number, write: boolean): boolean {
    if (!this.#wait.isPossible(work)) return false;
    const wait = this.#wait.ask(work, vpn, write);
    if (wait === Wait.NO) return false;
    this.#phase = Phase.BLOCKED;
    if (wait === Wait.ANSWERED) this.#proceed(DSA_NS.RESUME);
    return true;
  }

  // Batches.

  #fetchMember(): void {
    const batch = this.#batch!;
    const { work, listPage, listOffset } = batch;
    if (batch.next === batch.count) {
      this.#conclude(batch);
      return;
    }
    if (!batch.isFetched) {
      const address = (BigInt(listPage) << 12n) | BigInt(listOffset);
      const blocks = this.#host.model.listFaultsRequestPages;
      const reach = this.#fetch(work, address, batch.listBytes, this.#list, blocks);
      if (reach === null) return;
      if (reach !== Reach.OK) {
        batch.listFault(listPage, listOffset);
        this.#endBatch(batch);
        return;
      }
      batch.fetched();
      this.#proceed(DSA_NS.FETCH);
      return;
    }
    const member = batch.take();
    if (member === null) this.#conclude(batch);
    else this.#begin(member);
  }

  #conclude(batch: Batch): void {
    batch.conclude();
    this.#endBatch(batch);
  }

  #endBatch(batch: Batch): void {
    this.#work = batch.work;
    this.#batch = null;
    this.#toRecord();
  }

  // Completing.

  #toRecord(): void {
    this.#step = Step.RECORD;
    this.#record();
  }

  #record(): void {
    const { host, work } = this.#parts;
    const { status, faultAddress, faultOnWrite } = work;
    if (status === DsaStatus.COMPLETION_ALIGNMENT) {
      host.softwareError({ error: status, work, faultAddress: work.descriptor.completion });
      this.#finish(work, false);
    } else if (leavesRecord(work)) {
      const reach = this.#writeRecord(work);
      if (reach === null) return;
      if (reach !== Reach.OK) this.#recordFault(work);
      this.#finish(work, reach === Reach.OK);
    } else {
      const error = status !== DsaStatus.SUCCESS;
      if (error) host.softwareError({ error: status, work, faultAddress, faultOnWrite });
      this.#finish(work, !error);
    }
  }

  /** Null: blocked. */
  #writeRecord(work: Work): Reach | null {
    const { completion } = work.descriptor;
    const reach = this.#memory.writeRecord(work.client, completion, completionRecord(work));
    const asks = this.#host.model.recordFaultsRequestPages && reach === Reach.ABSENT;
    return asks && this.#block(work, pageOf(completion), true) ? null : reach;
  }

  #recordFault(work: Work): void {
    const { completion } = work.descriptor;
    if (this.#batch !== null) this.#batch.failed = true;
    this.#host.softwareError({
      error: DsaStatus.COMPLETION_FAULT,
      work,
      faultAddress: completion,
      faultOnWrite: true,
    });
  }

  #interrupt(work: Work): void {
    if (!work.has(F.REQUEST_INTERRUPT)) return;
    // What was refused as a flag or as a handle must not fire.
    if ((work.invalidFlags & F.REQUEST_INTERRUPT) !== 0) return;
    if (mayInterrupt(work, this.#host.rules)) {
      this.#host.completionInterrupt(work.descriptor.interruptHandle);
    }
  }

  #finish(work: Work, interrupts: boolean): void {
    const { host } = this.#parts;
    this.descriptors++;
    if (host.trace.on) host.trace.cause = traceComplete(host, work);
    if (interrupts) this.#interrupt(work);
    const batch = this.#batch;
    if (batch !== null) {
      if (work.status !== DsaStatus.SUCCESS) batch.failed = true;
      this.#work = batch.work;
      this.#step = Step.LIST;
      this.#proceed(DSA_NS.DISPATCH);
      return;
    }
    this.#forget();
    host.workDone(work);
    this.kick();
  }
}
