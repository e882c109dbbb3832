import type { Fabric } from '../pci/fabric.ts';
import { AT, CPL } from '../pci/fabric.ts';
import { DsaStatus } from '../spec/dsa/completion.ts';
import { type CrcOptions, crcBegin, crcEnd, crcUpdate } from '../spec/dsa/crc.ts';
import { CrcFlag, DescriptorFlag as F, Opcode } from '../spec/dsa/opcodes.ts';
import { Reach, Run, type Translator } from './translator.ts';
import { offsetOf, pageOf, type Work } from './work.ts';

const PAGE = 4096;
/** A page of data whose two sides are not equally aligned takes two segments. */
const MAX_SEGMENTS = 64;
/** Fill and compare patterns repeat after 8 bytes, and software resumes at their start. */
const PATTERN_BYTES = 8;

/** How a slice ended. */
export const Landing = { MORE: 0, DONE: 1, FAULT: 2 } as const;
export type Landing = (typeof Landing)[keyof typeof Landing];

/** Addresses of one operand, as pages from its first one. */
class Operand {
  used = false;
  writes = false;
  page = 0;
  offset = 0;
  readonly run = new Run();
  /** Per segment of the slice: what goes on the bus. */
  readonly pages = new Float64Array(MAX_SEGMENTS);
  readonly offsets = new Int32Array(MAX_SEGMENTS);
  readonly translated = new Uint8Array(MAX_SEGMENTS);

  set(used: boolean, writes: boolean, address: bigint): void {
    this.used = used;
    this.writes = writes;
    this.page = used ? pageOf(address) : 0;
    this.offset = used ? offsetOf(address) : 0;
  }
}

/**
 * The data movement of one descriptor, a slice at a time. `plan` translates up to a slice's worth of
 * pages and holds the translations; `land` moves the data through them later, as one transfer that
 * takes time. An invalidation between the two must wait for `land`.
 */
export class Transfer {
  /** Segments in the slice that was planned. */
  segments = 0;
  /** What stopped the last plan or landing: Reach.OK, or why and at which page. */
  fault: Reach = Reach.OK;
  faultPage = 0;
  faultOffset = 0;
  faultOnWrite = false;
  /** Bytes moved or looked at since power-on. */
  bytes = 0;
  readonly #rid: number;
  readonly #fabric: Fabric;
  readonly #translator: Translator;
  readonly #slicePages: number;
  readonly #a = new Operand();
  readonly #b = new Operand();
  readonly #lengths = new Int32Array(MAX_SEGMENTS);
  readonly #buffer = new Uint8Array(PAGE);
  readonly #other = new Uint8Array(PAGE);
  readonly #pattern = new Uint8Array(PAGE + PATTERN_BYTES);
  #work: Work | null = null;
  #opcode = 0;
  #size = 0;
  #done = 0;
  #planned = 0;
  #backward = false;
  #crc = 0;
  #crcOptions: CrcOptions = {};
  #faultOperand: Operand = this.#a;

  constructor(parts: {
    rid: number;
    fabric: Fabric;
    translator: Translator;
    slicePages: number;
  }) {
    this.#rid = parts.rid;
    this.#fabric = parts.fabric;
    this.#translator = parts.translator;
    this.#slicePages = Math.max(1, Math.min(parts.slicePages, MAX_SEGMENTS / 2));
  }

  /** Starts on a validated descriptor. `crcSeed` counts for the CRC operations. */
  begin(work: Work, crcSeed: number): void {
    const { opcode, source, destination, size } = work.descriptor;
    this.#work = work;
    this.#opcode = opcode;
    this.#size = size;
    this.#done = 0;
    this.#planned = 0;
    this.segments = 0;
    const moves = opcode === Opcode.MEMMOVE || opcode === Opcode.COPY_CRC;
    const writes = moves || opcode === Opcode.FILL;
    this.#a.set(opcode !== Opcode.FILL, false, source);
    this.#b.set(writes || opcode === Opcode.COMPARE, writes, destination);
    const overlaps = source < destination && destination < source + BigInt(size);
    this.#backward = opcode === Opcode.MEMMOVE && overlaps;
    if (opcode === Opcode.FILL) this.#fillPattern(source);
    if (opcode === Opcode.COMPARE_PATTERN) this.#fillPattern(destination);
    if (work.isCrc) {
      this.#crcOptions = {
        bypassInversion: work.has(CrcFlag.BYPASS_INVERSION),
        bypassReflection: work.has(CrcFlag.BYPASS_REFLECTION),
      };
      this.#crc = crcBegin(crcSeed, this.#crcOptions);
    }
  }

  #fillPattern(pattern: bigint): void {
    for (let i = 0; i < PATTERN_BYTES; i++) {
      this.#pattern[i] = Number((pattern >> BigInt(8 * i)) & 0xffn);
    }
    for (let filled = PATTERN_BYTES; filled < this.#pattern.length; filled *= 2) {
      this.#pattern.copyWithin(filled, 0, filled);
    }
  }

  /** Translates the next slice. Stops early at a page that cannot be reached: see `fault`. */
  plan(): void {
    const a = this.#a;
    const b = this.#b;
    this.fault = Reach.OK;
    this.segments = 0;
    a.run.forget();
    b.run.forget();
    this.#planned = this.#done;
    const limit = Math.min(this.#size, this.#done + this.#slicePages * PAGE);
    while (this.#planned < limit && this.segments < MAX_SEGMENTS) {
      const length = this.#segmentLength();
      const start = this.#backward ? this.#size - this.#planned - length : this.#planned;
      if (a.used && !this.#reach(a, start)) return;
      if (b.used && !this.#reach(b, start)) return;
      this.#lengths[this.segments++] = length;
      this.#planned += length;
    }
  }

  /** Bytes from the planned position on that stay inside one page of each operand. */
  #segmentLength(): number {
    const a = this.#a;
    const b = this.#b;
    let length = this.#size - this.#planned;
    if (this.#backward) {
      const end = length;
      length = Math.min(length, ((a.offset + end - 1) & (PAGE - 1)) + 1);
      return Math.min(length, ((b.offset + end - 1) & (PAGE - 1)) + 1);
    }
    if (a.used) length = Math.min(length, PAGE - ((a.offset + this.#planned) & (PAGE - 1)));
    if (b.used) length = Math.min(length, PAGE - ((b.offset + this.#planned) & (PAGE - 1)));
    return length;
  }

  #reach(operand: Operand, position: number): boolean {
    const at = operand.offset + position;
    const vpn = operand.page + (at >>> 12);
    const translator = this.#translator;
    const reach = translator.resolve(this.#work!.client, vpn, operand.writes, operand.run);
    const segment = this.segments;
    if (reach !== Reach.OK) {
      this.#faultAt(reach, operand, position);
      return false;
    }
    operand.pages[segment] = translator.page;
    operand.offsets[segment] = at & (PAGE - 1);
    operand.translated[segment] = translator.type === AT.TRANSLATED ? 1 : 0;
    return true;
  }

  #faultAt(reach: Reach, operand: Operand, position: number): void {
    const at = operand.offset + position;
    this.fault = reach;
    this.faultPage = operand.page + (at >>> 12);
    this.faultOffset = at & (PAGE - 1);
    this.faultOnWrite = operand.writes;
    this.#faultOperand = operand;
  }

  /**
   * The page `ahead` pages after the one that faulted, in the direction of the work and inside the
   * same operand; -1 when there is none.
   */
  pageAhead(ahead: number): number {
    const operand = this.#faultOperand;
    const vpn = this.faultPage + (this.#backward ? -ahead : ahead);
    const last = operand.page + ((operand.offset + this.#size - 1) >>> 12);
    return vpn >= operand.page && vpn <= last ? vpn : -1;
  }

  /** Moves the slice that was planned. */
  land(): Landing {
    for (let i = 0; i < this.segments; i++) {
      const length = this.#lengths[i]!;
      if (!this.#move(i, length)) return Landing.FAULT;
      this.bytes += length;
      if (this.#work!.result !== 0 && this.#opcode !== Opcode.MEMMOVE) return this.#finish();
      this.#done += length;
    }
    this.segments = 0;
    if (this.#done === this.#size) return this.#finish();
    return this.fault === Reach.OK ? Landing.MORE : Landing.FAULT;
  }

  /** One segment; false leaves `fault` set. */
  #move(i: number, length: number): boolean {
    switch (this.#opcode) {
      case Opcode.MEMMOVE:
        return this.#copy(i, length);
      case Opcode.FILL:
        return this.#write(i, this.#pattern, this.#done % PATTERN_BYTES, length);
      case Opcode.COMPARE:
        if (!this.#read(this.#a, i, this.#buffer, length)) return false;
        if (!this.#read(this.#b, i, this.#other, length)) return false;
        this.#compare(this.#other, 0, length, 1);
        return true;
      case Opcode.COMPARE_PATTERN:
        if (!this.#read(this.#a, i, this.#buffer, length)) return false;
        this.#compare(this.#pattern, this.#done % PATTERN_BYTES, length, PATTERN_BYTES);
        return true;
      default:
        return this.#checksum(i, length);
    }
  }

  #copy(i: number, length: number): boolean {
    const a = this.#a;
    const b = this.#b;
    if (a.translated[i] === 1 && b.translated[i] === 1) {
      const status = this.#fabric.copy(
        this.#rid,
        a.pages[i]!,
        a.offsets[i]!,
        b.pages[i]!,
        b.offsets[i]!,
        length,
      );
      if (status === CPL.SUCCESS) return true;
      // Nothing moved; in two steps it shows which side refused.
    }
    return this.#read(a, i, this.#buffer, length) && this.#write(i, this.#buffer, 0, length);
  }

  #checksum(i: number, length: number): boolean {
    if (!this.#read(this.#a, i, this.#buffer, length)) return false;
    if (this.#b.used && !this.#write(i, this.#buffer, 0, length)) return false;
    this.#crc = crcUpdate(this.#crc, this.#buffer, 0, length, this.#crcOptions);
    return true;
  }

  /** Notes the first difference, reported in units of `unit` bytes. */
  #compare(expected: Uint8Array, at: number, length: number, unit: number): void {
    const found = this.#buffer;
    for (let i = 0; i < length; i++) {
      if (found[i] === expected[at + i]) continue;
      const position = this.#done + i;
      this.#work!.result = 1;
      this.#done = position - (position % unit);
      return;
    }
  }

  #read(operand: Operand, i: number, into: Uint8Array, length: number): boolean {
    const { pasid, privileged } = this.#work!.client;
    const type = operand.translated[i] === 1 ? AT.TRANSLATED : AT.UNTRANSLATED;
    const page = operand.pages[i]!;
    const offset = operand.offsets[i]!;
    const rid = this.#rid;
    const status = this.#fabric.read(rid, pasid, privileged, type, page, offset, into, 0, length);
    return status === CPL.SUCCESS || this.#refused(operand, i, type === AT.TRANSLATED);
  }

  #write(i: number, from: Uint8Array, at: number, length: number): boolean {
    const { pasid, privileged } = this.#work!.client;
    const operand = this.#b;
    const type = operand.translated[i] === 1 ? AT.TRANSLATED : AT.UNTRANSLATED;
    const page = operand.pages[i]!;
    const offset = operand.offsets[i]!;
    const rid = this.#rid;
    const status = this.#fabric.write(rid, pasid, privileged, type, page, offset, from, at, length);
    return status === CPL.SUCCESS || this.#refused(operand, i, type === AT.TRANSLATED);
  }

  /** The bus refused a segment: an untranslated request met a fault in the IOMMU. */
  #refused(operand: Operand, i: number, translated: boolean): false {
    const length = this.#lengths[i]!;
    const position = this.#backward ? this.#size - this.#done - length : this.#done;
    this.#faultAt(translated ? Reach.REFUSED : Reach.ABSENT, operand, position);
    return false;
  }

  #finish(): Landing {
    const work = this.#work!;
    this.report(work);
    work.status = DsaStatus.SUCCESS;
    const { expectedResult } = work.descriptor;
    if (work.has(F.CHECK_RESULT) && work.result !== expectedResult) {
      work.status = DsaStatus.SUCCESS_FALSE_PREDICATE;
    }
    return Landing.DONE;
  }

  /** Puts how far it came into the record, so that software can resume from there. */
  report(work: Work): void {
    work.completed = this.#done;
    if (this.#done < this.#size && work.result === 0 && this.#resumesAtPattern) {
      work.completed -= this.#done % PATTERN_BYTES;
    }
    if (work.isCrc) work.crc = crcEnd(this.#crc, this.#crcOptions);
    if (this.#backward && this.#done < this.#size) work.result = 1;
  }

  get #resumesAtPattern(): boolean {
    return this.#opcode === Opcode.FILL || this.#opcode === Opcode.COMPARE_PATTERN;
  }
}
