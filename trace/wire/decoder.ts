import type { EventDef, EventRecord, FieldValue } from '../event.ts';
import { isPlain, readField, valueOfText } from './fields.ts';
import { FRAME, FRAME_HEADER, type FrameHeader, RECORDS_AT, readHeader } from './frame.ts';
import {
  END_ID,
  ID_MASK,
  type Layout,
  layoutsOfSchema,
  RECORD_HEADER,
  SPAN_BIT,
} from './layout.ts';

/** What a frame tells: an event, or that a span is over. */
export type Item =
  | { readonly kind: 'event'; readonly record: EventRecord }
  | {
      readonly kind: 'end';
      /** The event that began the span. */
      readonly begin: number;
      readonly ns: number;
      /** The last event before the end. */
      readonly seq: number;
    };

/** Records of one kind in a row, at `from`, `from + size` and so on. */
export interface Stretch {
  /** Without flags; END_ID: ends of spans. */
  readonly id: number;
  readonly from: number;
  /** Where the next begins. */
  readonly to: number;
  /** Bytes of a record. */
  readonly size: number;
}

/** A frame that is not as it must be: damaged, or made by another program. */
export class FrameError extends Error {}

const HIGH_BYTE = 0x80;

/** Reads frames whose events a schema declares. */
export class FrameDecoder {
  readonly layouts: readonly Layout[];

  /**
   * @param schema as `hello` and recordings have it
   * @param known declarations that records get where the schema has the same
   * @throws SchemaError
   */
  constructor(schema: unknown, known: readonly EventDef[] = []) {
    this.layouts = layoutsOfSchema(schema, known);
  }

  /** @throws FrameError when it is no whole event frame */
  frame(bytes: Uint8Array): FrameView {
    return new FrameView(bytes, this.layouts);
  }
}

/** One event frame. Nothing is decoded before it is asked for. */
export class FrameView {
  readonly header: FrameHeader;
  /** Events; ends are not counted. */
  readonly count: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #layouts: readonly Layout[];
  readonly #end: number;
  readonly #texts: number;
  readonly #decoded: (string | undefined)[] = [];
  #stretches: readonly Stretch[] | undefined;

  constructor(bytes: Uint8Array, layouts: readonly Layout[]) {
    const header = readHeader(bytes);
    if (header?.type !== FRAME.EVENTS || header.length > bytes.length) {
      throw new FrameError('not a whole frame of events');
    }
    this.header = header;
    this.#bytes = bytes;
    this.#layouts = layouts;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, header.length);
    if (header.length < RECORDS_AT + 4) throw new FrameError('a frame without records');
    this.count = this.#view.getUint32(FRAME_HEADER, true);
    this.#end = RECORDS_AT + this.#view.getUint32(FRAME_HEADER + 4, true);
    if (this.#end + 4 > header.length) throw new FrameError('records beyond the end of the frame');
    this.#texts = this.#view.getUint32(this.#end, true);
    const textsAt = this.#textsAt;
    if (textsAt > header.length) throw new FrameError('texts beyond the end of the frame');
  }

  /** `seq` of the first event, or of the next one where there is none. */
  get firstSeq(): number {
    return this.header.seq;
  }

  /** Time of the first record. */
  get ns(): number {
    return this.header.ns;
  }

  get #textsAt(): number {
    return this.#end + 4 + 4 * this.#texts;
  }

  /**
   * What it tells, in order.
   * @param wants which events, by id; others are passed over cheaply
   * @throws FrameError
   */
  *items(wants?: (id: number) => boolean): Generator<Item> {
    const view = this.#view;
    for (let at = RECORDS_AT; at < this.#end; ) {
      const id = view.getUint16(at, true);
      const size = this.#checked(at, id);
      const seq = this.header.seq + view.getInt32(at + 4, true);
      if ((id & ID_MASK) === END_ID) {
        const begin = seq - view.getUint32(at + 12, true);
        yield { kind: 'end', begin, seq, ns: this.#nsAt(at) };
      } else if (wants === undefined || wants(id & ID_MASK)) {
        yield { kind: 'event', record: this.#record(at, id) };
      }
      at += size;
    }
  }

  /** Its events, in order. */
  records(wants?: (id: number) => boolean): EventRecord[] {
    const records: EventRecord[] = [];
    for (const item of this.items(wants)) if (item.kind === 'event') records.push(item.record);
    return records;
  }

  /** Calls back for each record without decoding it: its id, without flags, and where it begins. */
  scan(visit: (id: number, at: number) => void): void {
    for (const { id, from, to, size } of this.stretches) {
      for (let at = from; at < to; at += size) visit(id, at);
    }
  }

  /**
   * Its records in order, those of one kind in a row as one: a frame of the data path has few.
   * @throws FrameError
   */
  get stretches(): readonly Stretch[] {
    this.#stretches ??= this.#measure();
    return this.#stretches;
  }

  #measure(): Stretch[] {
    const view = this.#view;
    const stretches: Stretch[] = [];
    for (let from = RECORDS_AT; from < this.#end; ) {
      const id = view.getUint16(from, true);
      const size = this.#checked(from, id);
      const head = view.getInt32(from, true);
      const last = this.#end - size;
      let to = from + size;
      while (to <= last && view.getInt32(to, true) === head) to += size;
      stretches.push({ id: id & ID_MASK, from, to, size });
      from = to;
    }
    return stretches;
  }

  /** `seq` of the last event, 0 where there is none. */
  get lastSeq(): number {
    return this.placeOfLast()?.seq ?? 0;
  }

  /** When the last event happened. */
  placeOfLast(): { seq: number; ns: number } | undefined {
    const last = this.stretches.findLast(({ id }) => id !== END_ID);
    return last === undefined ? undefined : this.placeAt(last.to - last.size);
  }

  /** When the last event up to this one happened; undefined where the first is later. */
  placeUpTo(seq: number): { seq: number; ns: number } | undefined {
    for (const { id, from, to, size } of this.stretches.toReversed()) {
      if (id === END_ID || this.placeAt(from).seq > seq) continue;
      let at = to - size;
      while (this.placeAt(at).seq > seq) at -= size;
      return this.placeAt(at);
    }
    return undefined;
  }

  /** When the last record was told, be it an event or an end. */
  get lastNs(): number {
    const last = this.stretches.at(-1);
    return last === undefined ? this.ns : this.#nsAt(last.to - last.size);
  }

  /** The event of this number, undefined where it is not here. */
  find(seq: number): EventRecord | undefined {
    let found = 0;
    this.scan((id, at) => {
      if (id !== END_ID && this.placeAt(at).seq === seq) found = at;
    });
    return found === 0 ? undefined : this.recordAt(found);
  }

  /** The table of texts, as it ends the frame. */
  get textBytes(): Uint8Array {
    return this.#bytes.subarray(this.#end, this.header.length);
  }

  /** The record that `scan` found at `at`. */
  recordAt(at: number): EventRecord {
    return this.#record(at, this.#view.getUint16(at, true));
  }

  /** When the event that `scan` found at `at` happened. */
  placeAt(at: number): { seq: number; ns: number } {
    return { seq: this.header.seq + this.#view.getInt32(at + 4, true), ns: this.#nsAt(at) };
  }

  /** Counts the hot events of a stretch by the unit that each names in its first field. */
  hotUnits({ from, to, size }: Stretch, counts: Map<string, number>): void {
    const view = this.#view;
    for (let at = from; at < to; ) {
      const first = at;
      const text = view.getUint16(at + RECORD_HEADER, true);
      do at += size;
      while (at < to && view.getUint16(at + RECORD_HEADER, true) === text);
      const unit = this.#text(text);
      counts.set(unit, (counts.get(unit) ?? 0) + (at - first) / size);
    }
  }

  /** The bytes of the record that `scan` found at `at`. */
  bytesAt(at: number): Uint8Array {
    return this.#bytes.subarray(at, at + this.#view.getUint16(at + 2, true));
  }

  #checked(at: number, id: number): number {
    const size = at + RECORD_HEADER <= this.#end ? this.#view.getUint16(at + 2, true) : 0;
    const expected = (id & ID_MASK) === END_ID ? RECORD_HEADER : this.#layouts[id & ID_MASK]?.size;
    if (size !== expected || at + size > this.#end) {
      throw new FrameError(`no event of this catalogue at byte ${at} of a frame`);
    }
    return size;
  }

  #nsAt = (at: number): number => this.header.ns + this.#view.getUint32(at + 8, true);

  #record(at: number, id: number): EventRecord {
    const view = this.#view;
    const { def, fields } = this.#layouts[id & ID_MASK]!;
    const seq = this.header.seq + view.getInt32(at + 4, true);
    const back = view.getUint32(at + 12, true);
    const values: Record<string, FieldValue> = {};
    for (const { name, kind, offset } of fields) {
      values[name] = isPlain(kind)
        ? readField(view, at + offset, kind)
        : valueOfText(kind, this.#text(view.getUint16(at + offset, true)));
    }
    const cause = back === 0 ? 0 : seq - back;
    const record = { seq, ns: this.#nsAt(at), cause, def, values };
    return (id & SPAN_BIT) === 0 ? record : { ...record, span: true };
  }

  #text(index: number): string {
    const known = this.#decoded[index];
    if (known !== undefined) return known;
    if (index >= this.#texts) throw new FrameError(`text ${index} of ${this.#texts} in a frame`);
    const from = index === 0 ? 0 : this.#view.getUint32(this.#end + 4 * index, true);
    const to = this.#view.getUint32(this.#end + 4 + 4 * index, true);
    const at = this.#textsAt;
    if (from > to || at + to > this.header.length) {
      throw new FrameError('texts beyond the end of the frame');
    }
    const text = decodeText(this.#bytes, at + from, at + to);
    this.#decoded[index] = text;
    return text;
  }
}

const DECODER = new TextDecoder();

/** Most texts are ASCII, and short: these are not worth a decoder's call. */
function decodeText(bytes: Uint8Array, from: number, to: number): string {
  let text = '';
  for (let at = from; at < to; at++) {
    const byte = bytes[at]!;
    if (byte >= HIGH_BYTE || to - from > 64) return DECODER.decode(bytes.slice(from, to));
    text += String.fromCharCode(byte);
  }
  return text;
}
