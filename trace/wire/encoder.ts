import { CATALOGUE } from '../catalogue/all.ts';
import type { EventDef, EventRecord } from '../event.ts';
import type { HotSink, HotSource, Sink } from '../tracer.ts';
import { isPlain, textOf, writeField } from './fields.ts';
import { FRAME, FRAME_BYTES, FRAME_HEADER, RECORDS_AT, writeHeader } from './frame.ts';
import { END_ID, type Layout, layoutsOf, RECORD_HEADER, SPAN_BIT } from './layout.ts';
import { TEXT_BYTES, TextTable } from './text-table.ts';

/** Where frames are written: memory for one after the other. */
export interface FrameSlots {
  /** FRAME_BYTES for the next frame, at a multiple of 4. May wait until a reader has made room. */
  take(): Uint8Array;
  /** The frame in the slot that was taken is whole and this long. */
  publish(bytes: number): void;
}

/** Frames for someone in the same thread, who must have copied or used one when the call returns. */
export function inlineSlots(consume: (frame: Uint8Array) => void): FrameSlots {
  const slot = new Uint8Array(FRAME_BYTES);
  return {
    take: () => slot,
    publish: (bytes) => consume(slot.subarray(0, bytes)),
  };
}

export interface EncoderOptions {
  /** What may be told, in the order of ids; default: the catalogue. */
  readonly defs?: readonly EventDef[];
  /** Ask for the events of the data path too. */
  readonly hot?: boolean;
}

const HOT_BYTES = 32;
const HOT_SIZE = HOT_BYTES << 16;

/** How far numbers of a record may be from those of their frame. */
const MOST_DELTA = 2 ** 32 - 2;

/**
 * Makes frames of what a tracer tells. A frame holds what came since the last; it is published when
 * it is full, and by `flush`.
 */
export class FrameEncoder implements Sink, HotSink {
  readonly hot: HotSink | undefined;
  readonly #slots: FrameSlots;
  readonly #layouts: ReadonlyMap<EventDef, Layout>;
  readonly #texts = new TextTable(FRAME_BYTES);
  /** Bytes that the texts take at the end of the frame. */
  #textBytes = 4;
  #slot: Uint8Array | undefined;
  #words: Int32Array = new Int32Array(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  #at = 0;
  /** Events of the frame that are not hot. */
  #count = 0;
  /** Of the frame. */
  #seq = 0;
  #ns = 0;
  /** Where a hot record may begin at last, in bytes; -1 without a frame. */
  #lastHot = -1;
  /** Who told the last hot event, told in this frame: first word, and index of its text. */
  #source: HotSource | null = null;
  #head = 0;
  #text = 0;
  /** When it happened, and what a record says of that. */
  #hotNs = -1;
  #delta = 0;
  /** Bytes of records that are not hot, ends among them. */
  #coldBytes = 0;

  constructor(slots: FrameSlots, { defs = CATALOGUE, hot = false }: EncoderOptions = {}) {
    this.#slots = slots;
    const layouts = layoutsOf(defs);
    for (const layout of layouts) checkFits(layout);
    this.#layouts = new Map(layouts.map((layout) => [layout.def, layout]));
    this.hot = hot ? this : undefined;
  }

  /** Error when the event is not in the catalogue. */
  event({ seq, ns, cause, def, values, span }: EventRecord): void {
    const layout = this.#layoutOf(def);
    let texts = 0;
    let growth = 0;
    for (const { name, kind } of layout.fields) {
      if (isPlain(kind)) continue;
      texts++;
      growth += this.#texts.growth(textOf(kind, values[name]));
    }
    const hasTexts = this.#texts.hasRoom(texts);
    this.#reserve(hasTexts ? layout.size + growth : Infinity, seq, ns);
    const at = this.#begin(span === true ? layout.id | SPAN_BIT : layout.id, layout.size, seq, ns);
    this.#view.setUint32(at + 12, causeDelta(seq, cause), true);
    // Bytes between fields are told too: they must not be what an earlier frame left.
    this.#words.fill(0, (at + RECORD_HEADER) >> 2, (at + layout.size) >> 2);
    for (const { name, kind, offset } of layout.fields) {
      const value = values[name];
      if (!isPlain(kind)) {
        this.#view.setUint16(at + offset, this.#texts.add(textOf(kind, value)), true);
      } else if (value !== undefined) writeField(this.#view, at + offset, kind, value);
    }
    this.#textsGrew();
    this.#count++;
  }

  end(begin: number, ns: number, seq: number): void {
    this.#reserve(RECORD_HEADER, seq + 1, ns);
    const at = this.#begin(END_ID, RECORD_HEADER, seq, ns);
    this.#view.setUint32(at + 12, Math.min(seq - begin, MOST_DELTA), true);
  }

  put(
    source: HotSource,
    seq: number,
    ns: number,
    cause: number,
    sid: number,
    w1: number,
    w2: number,
    w3: number,
  ): void {
    if (source !== this.#source || this.#at > this.#lastHot || ns !== this.#hotNs) {
      this.#prepare(source, seq, ns);
      this.put(source, seq, ns, cause, sid, w1, w2, w3);
      return;
    }
    const words = this.#words;
    const at = this.#at >> 2;
    words[at] = this.#head;
    words[at + 1] = seq - this.#seq;
    words[at + 2] = this.#delta;
    words[at + 3] = cause === 0 ? 0 : seq - cause;
    words[at + 4] = this.#text | (sid << 16);
    words[at + 5] = w1;
    words[at + 6] = w2;
    words[at + 7] = w3;
    this.#at += HOT_BYTES;
  }

  /** Publishes what there is. */
  flush(): void {
    const slot = this.#slot;
    if (slot === undefined) return;
    if (this.#at === RECORDS_AT) return;
    this.#slot = undefined;
    this.#lastHot = -1;
    this.#words[FRAME_HEADER >> 2] =
      this.#count + (this.#at - RECORDS_AT - this.#coldBytes) / HOT_BYTES;
    this.#words[(FRAME_HEADER >> 2) + 1] = this.#at - RECORDS_AT;
    const bytes = this.#texts.flush(slot, this.#at);
    writeHeader(slot.subarray(0, bytes), FRAME.EVENTS, this.#seq, this.#ns);
    this.#slots.publish(bytes);
  }

  #layoutOf(def: EventDef): Layout {
    const layout = this.#layouts.get(def);
    if (layout === undefined) throw new Error(`event ${def.name} is not in the catalogue`);
    return layout;
  }

  /** Makes sure that so many bytes more fit the frame, else begins the next. */
  #reserve(bytes: number, seq: number, ns: number): void {
    const fits =
      this.#slot !== undefined &&
      this.#at + bytes + this.#textBytes <= FRAME_BYTES &&
      ns - this.#ns <= MOST_DELTA;
    if (!fits) this.#turn(seq, ns);
  }

  #turn(seq: number, ns: number): void {
    this.flush();
    const slot = this.#slots.take();
    this.#slot = slot;
    this.#words = new Int32Array(slot.buffer, slot.byteOffset, FRAME_BYTES >> 2);
    this.#view = new DataView(slot.buffer, slot.byteOffset, FRAME_BYTES);
    this.#at = RECORDS_AT;
    this.#count = 0;
    this.#seq = seq;
    this.#ns = ns;
    this.#textsGrew();
    this.#source = null;
    this.#coldBytes = 0;
  }

  /** Writes a record's id, size, seq and ns. Returns where it begins. */
  #begin(id: number, size: number, seq: number, ns: number): number {
    const at = this.#at;
    const word = at >> 2;
    this.#words[word] = id | (size << 16);
    this.#words[word + 1] = seq - this.#seq;
    this.#words[word + 2] = ns - this.#ns;
    this.#at = at + size;
    this.#coldBytes += size;
    return at;
  }

  /** Makes sure that the next hot record has room and that its source is told in this frame. */
  #prepare(source: HotSource, seq: number, ns: number): void {
    const { def, text } = source;
    const room = this.#texts.hasRoom(1) ? HOT_BYTES + this.#texts.growth(text) : Infinity;
    this.#reserve(room, seq, ns);
    const { size, id, name } = this.#layoutOf(def);
    if (size !== HOT_BYTES) throw new Error(`hot event ${name} takes ${size} bytes`);
    this.#text = this.#texts.add(text);
    this.#head = id | HOT_SIZE;
    this.#source = source;
    this.#hotNs = ns;
    this.#delta = (ns - this.#ns) | 0;
    this.#textsGrew();
  }

  #textsGrew(): void {
    this.#textBytes = this.#texts.size;
    this.#lastHot = FRAME_BYTES - this.#textBytes - HOT_BYTES;
  }
}

/** A frame must have room for any one record. */
function checkFits({ name, size, fields }: Layout): void {
  const texts = fields.filter(({ kind }) => !isPlain(kind)).length;
  if (RECORDS_AT + size + 4 + texts * (TEXT_BYTES + 8) <= FRAME_BYTES) return;
  throw new RangeError(`event ${name}: ${texts} texts are more than a frame holds`);
}

const causeDelta = (seq: number, cause: number): number =>
  cause === 0 || seq - cause > MOST_DELTA ? 0 : seq - cause;
