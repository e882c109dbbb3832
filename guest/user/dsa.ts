/** A small user library for the accelerator: submission with retry, completion records, chunking. */
import {
  COMPLETION_BYTES,
  type Completion,
  DsaStatus,
  decodeCompletion,
  describeCompletion,
  statusName,
} from '../../devices/spec/dsa/completion.ts';
import { type DescriptorInit, encodeDescriptor } from '../../devices/spec/dsa/descriptor.ts';
import { DescriptorFlag, Opcode, opcodeName } from '../../devices/spec/dsa/opcodes.ts';
import { SUBMISSION_BYTES } from '../../devices/spec/dsa/tables.ts';
import { PAGE_SIZE } from '../../devices/spec/x86/paging.ts';
import { GuestError } from '../errno.ts';
import { Backoff, type Task } from '../task.ts';
import type { DeviceInfo, User } from './user.ts';

/** Descriptors a program keeps in flight. */
const IN_FLIGHT = 8;

/** How long to sleep between looks at a record that has no interrupt, and before a retry. */
const POLL_NS = { first: 500, max: 20_000 } as const;

/** Sleeps until a completion counts as lost: 12 s of the longest, or so many interrupts. */
const MAX_SLEEPS = 600_000;

/** How the device says that a user program may not ask for a completion interrupt. */
const REFUSED_INTERRUPT: ReadonlySet<number> = new Set([
  DsaStatus.INVALID_FLAGS,
  DsaStatus.INTERRUPT_HANDLE,
]);

/** A descriptor on its way. */
interface Pending {
  readonly slot: number;
  readonly init: DescriptorInit;
}

/** Pieces of at most `max` bytes. */
export function chunks(bytes: number, max: number): { at: number; size: number }[] {
  return Array.from({ length: Math.ceil(bytes / max) }, (_, i) => ({
    at: i * max,
    size: Math.min(max, bytes - i * max),
  }));
}

export class DsaClient {
  readonly #user: User;
  readonly #device: DeviceInfo;
  /** The page of completion records, one 32-byte record per slot. */
  readonly #records: number;
  readonly #depth: number;
  #nextSlot = 0;
  #portalOffset = 0;
  #interrupts = true;

  constructor(user: User, device: DeviceInfo) {
    this.#user = user;
    this.#device = device;
    this.#records = user.mmap(PAGE_SIZE, 'completion records');
    this.#depth = Math.min(IN_FLIGHT, device.queueSize);
  }

  /**
   * Shows that the device answers, and finds out whether it grants completion interrupts to user
   * programs (status 0x11 or 0x19 if not). GuestError EIO.
   */
  *hello(): Task {
    const pending = yield* this.#submit({ opcode: Opcode.NOOP });
    // A refused interrupt is not raised: until the answer is known, its record is polled.
    const record = yield* this.#wait(pending, false);
    if (record.status === DsaStatus.SUCCESS) return;
    if (!REFUSED_INTERRUPT.has(record.status)) this.#fail(pending.init, record);
    this.#interrupts = false;
    yield* this.#run({ opcode: Opcode.NOOP });
  }

  /** Copies with several MEMMOVEs in flight. GuestError EIO, EFAULT, ENOMEM. */
  *copy(source: number, destination: number, bytes: number): Task {
    const parts = chunks(bytes, this.#device.maxTransferBytes).map(({ at, size }) => ({
      opcode: Opcode.MEMMOVE,
      source: BigInt(source + at),
      destination: BigInt(destination + at),
      size,
    }));
    yield* this.#runAll(parts);
  }

  /** CRC-32C of a buffer; each piece continues from the value of the one before. */
  *crc(source: number, bytes: number): Task<number> {
    let crcSeed = 0;
    for (const { at, size } of chunks(bytes, this.#device.maxTransferBytes)) {
      const init = { opcode: Opcode.CRCGEN, source: BigInt(source + at), size, crcSeed };
      crcSeed = (yield* this.#run(init)).crc;
    }
    return crcSeed;
  }

  /** Whether two buffers are equal, as COMPARE sees them. */
  *equal(a: number, b: number, bytes: number): Task<boolean> {
    const parts = chunks(bytes, this.#device.maxTransferBytes).map(({ at, size }) => ({
      opcode: Opcode.COMPARE,
      source: BigInt(a + at),
      destination: BigInt(b + at),
      size,
    }));
    const records = yield* this.#runAll(parts);
    return records.every((record) => record.result === 0);
  }

  *#run(init: DescriptorInit): Task<Completion> {
    return (yield* this.#runAll([init]))[0]!;
  }

  /** Runs descriptors, as many in flight as the queue may take from us, and checks each status. */
  *#runAll(inits: readonly DescriptorInit[]): Task<Completion[]> {
    const records: Completion[] = [];
    const flying: Pending[] = [];
    for (const init of inits) {
      if (flying.length === this.#depth) records.push(yield* this.#finish(flying.shift()!));
      flying.push(yield* this.#submit(init));
    }
    for (const pending of flying) records.push(yield* this.#finish(pending));
    return records;
  }

  *#finish(pending: Pending): Task<Completion> {
    const record = yield* this.#wait(pending, this.#interrupts);
    if (record.status !== DsaStatus.SUCCESS) this.#fail(pending.init, record);
    return record;
  }

  /** Clears the record, then submits until the queue takes the descriptor. */
  *#submit(init: DescriptorInit): Task<Pending> {
    const slot = this.#nextSlot;
    this.#nextSlot = (slot + 1) % (PAGE_SIZE / COMPLETION_BYTES);
    const record = this.#records + slot * COMPLETION_BYTES;
    this.#user.store(record, new Uint8Array(COMPLETION_BYTES));
    const touchesData = init.opcode !== Opcode.NOOP && this.#device.blockOnFault;
    const flags =
      DescriptorFlag.COMPLETION_VALID |
      DescriptorFlag.REQUEST_COMPLETION |
      (touchesData ? DescriptorFlag.BLOCK_ON_FAULT : 0) |
      (this.#interrupts ? DescriptorFlag.REQUEST_INTERRUPT : 0);
    const interruptHandle = this.#interrupts ? this.#device.interruptHandle : 0;
    const bytes = encodeDescriptor({ ...init, flags, interruptHandle, completion: BigInt(record) });
    const backoff = new Backoff(POLL_NS.first, POLL_NS.max);
    for (let tries = 0; tries < MAX_SLEEPS; tries++) {
      if (this.#user.enqcmd(this.#nextPortal(), bytes)) return { slot, init };
      yield* this.#user.sleep(backoff.next());
    }
    throw new GuestError('EAGAIN', 'the work queue stays full');
  }

  /** Any 64 bytes of the portal page will do; using them in turn spreads the writes. */
  #nextPortal(): number {
    const at = this.#device.portal + this.#portalOffset;
    this.#portalOffset = (this.#portalOffset + SUBMISSION_BYTES) % PAGE_SIZE;
    return at;
  }

  *#wait(pending: Pending, interrupts: boolean): Task<Completion> {
    const bytes = new Uint8Array(COMPLETION_BYTES);
    const at = this.#records + pending.slot * COMPLETION_BYTES;
    const backoff = new Backoff(POLL_NS.first, POLL_NS.max);
    for (let sleeps = 0; sleeps < MAX_SLEEPS; sleeps++) {
      this.#user.load(at, bytes);
      const record = decodeCompletion(bytes);
      if (record.status !== DsaStatus.NOT_WRITTEN) return this.#seen(pending.init, record);
      if (interrupts) yield* this.#user.waitForCompletion();
      else yield* this.#user.sleep(backoff.next());
    }
    throw new GuestError('ETIMEDOUT', `${opcodeName(pending.init.opcode)}: no completion`);
  }

  #seen(init: DescriptorInit, record: Completion): Completion {
    const crc = init.opcode === Opcode.CRCGEN ? record.crc : 0;
    const operation = opcodeName(init.opcode);
    this.#user.completed(operation, statusName(record.status), init.size ?? 0, crc);
    return record;
  }

  /**
   * Ends the program with what went wrong. A page the device could not have is touched by the CPU
   * first: if the reason is memory or a bad address, that tells so.
   */
  #fail(init: DescriptorInit, record: Completion): never {
    if (record.faultAddress !== 0n && record.faultAddress < 2n ** 47n) {
      this.#user.load(Number(record.faultAddress), new Uint8Array(1));
    }
    const what = describeCompletion(record, init.opcode);
    throw new GuestError('EIO', `${opcodeName(init.opcode)}: ${what}`);
  }
}
