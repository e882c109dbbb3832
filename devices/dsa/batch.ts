import { DsaStatus } from '../spec/dsa/completion.ts';
import { DESCRIPTOR_BYTES, decodeDescriptor, hasReservedBits } from '../spec/dsa/descriptor.ts';
import { DescriptorFlag as F } from '../spec/dsa/opcodes.ts';
import { offsetOf, pageOf, Work } from './work.ts';

const PAGE = 4096;

/**
 * A batch under way: which member is next, the part of the list that was read, and what the members
 * came to. Members run one after the other, so a fence only has to look at the outcome so far.
 */
export class Batch {
  readonly work: Work;
  /** Index of the next member. */
  next = 0;
  /** Some member so far did not end with success, or could not write its record. */
  failed = false;
  readonly #buffer: Uint8Array;
  readonly #page: number;
  readonly #offset: number;
  /** Members [#first, #end) are in the buffer. */
  #first = 0;
  #end = 0;

  /** @param buffer 4096 bytes for the list, which the engine reuses */
  constructor(work: Work, buffer: Uint8Array) {
    this.work = work;
    this.#buffer = buffer;
    this.#page = pageOf(work.descriptor.source);
    this.#offset = offsetOf(work.descriptor.source);
  }

  get count(): number {
    return this.work.descriptor.size;
  }

  /** Whether the next member has been read. */
  get isFetched(): boolean {
    return this.next < this.#end;
  }

  /** Where the next member lies. */
  get listPage(): number {
    return this.#page + ((this.#offset + this.next * DESCRIPTOR_BYTES) >>> 12);
  }

  get listOffset(): number {
    return (this.#offset + this.next * DESCRIPTOR_BYTES) & (PAGE - 1);
  }

  /** Bytes of the list from the next member to the end of its page. */
  get listBytes(): number {
    return Math.min(PAGE - this.listOffset, (this.count - this.next) * DESCRIPTOR_BYTES);
  }

  /** `listBytes` bytes from the next member on are in the buffer. */
  fetched(): void {
    this.#first = this.next;
    this.#end = this.next + this.listBytes / DESCRIPTOR_BYTES;
  }

  /**
   * Takes the next member, with the batch's identity; null ends the batch early, because a fence
   * comes after a failure.
   */
  take(): Work | null {
    const at = (this.next - this.#first) * DESCRIPTOR_BYTES;
    const descriptor = decodeDescriptor(this.#buffer, at);
    if ((descriptor.flags & F.FENCE) !== 0 && this.failed) return null;
    const { client, sequence, cause } = this.work;
    const order = { sequence, cause, batchIndex: this.next };
    this.next++;
    return new Work(client, descriptor, hasReservedBits(this.#buffer, at), order);
  }

  /** Sets the batch's own status once no member is left or it was abandoned at `next`. */
  conclude(): void {
    this.work.completed = this.next;
    this.work.result = this.failed ? 1 : 0;
    this.work.status = this.failed ? DsaStatus.BATCH_MEMBER_ERROR : DsaStatus.SUCCESS;
  }

  /** The list could not be read from `next` on. */
  listFault(onPage: number, offset: number): void {
    this.work.completed = this.next;
    this.work.result = this.failed ? 1 : 0;
    this.work.failAt(DsaStatus.BATCH_LIST_FAULT, onPage, offset, false);
  }
}
