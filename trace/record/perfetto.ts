import { type EventRecord, type FieldKind, type FieldValue, KINDS } from '../event.ts';
import { valueText } from '../story/text.ts';
import { Arrows } from './arrows.ts';
import { Counters } from './perfetto-counters.ts';
import {
  type Annotation,
  EVENT_TYPE,
  encodePackets,
  type Named,
  SEQUENCE,
  type TracePacket,
} from './perfetto-schema.ts';
import { type Lane, Tracks } from './perfetto-tracks.ts';
import type { Recording } from './reader.ts';

/** Packets encoded at once. */
const CHUNK = 4096;

/** All packets are of one writer, which has told its names before it uses them. */
const SEQUENCE_ID = 1;

/**
 * A recording as a Perfetto trace: a group of timelines for each guest, VMM, kernel, unit and device,
 * slices for spans, arrows where a cause lies on another timeline, lines for counters. Events of the
 * data path are only counted.
 */
export class PerfettoExport {
  readonly #recording: Recording;
  readonly #counters = new Counters();
  readonly #tracks: Tracks;
  readonly #names = { event: new Names(), category: new Names(), annotation: new Names() };
  #packets: TracePacket[] = [];

  constructor(recording: Recording) {
    this.#recording = recording;
    this.#tracks = new Tracks((packet) => this.#put(packet));
  }

  /**
   * The trace in parts. Memory grows with the recording by eight bytes an event.
   * @throws RecordingError where it is damaged
   */
  *chunks(): Generator<Uint8Array> {
    const arrows = this.#arrows();
    this.#put({ sequence_flags: SEQUENCE.CLEARED });
    let ns = 0;
    for (const item of this.#recording.items()) {
      if (item.kind === 'event') {
        ({ ns } = item.record);
        this.#event(item.record, arrows);
      } else {
        ({ ns } = item);
        this.#end(item.begin, ns);
      }
      if (this.#packets.length >= CHUNK) yield this.#flush();
    }
    for (const { lane, ended } of this.#tracks.endAll()) this.#ends(lane, ended, ns);
    yield this.#flush();
  }

  #arrows(): Arrows {
    const arrows = new Arrows();
    for (const record of this.#recording.records({}, (id) => this.#isCold(id))) arrows.add(record);
    return arrows;
  }

  #isCold(id: number): boolean {
    return this.#recording.layouts[id]?.hot !== true;
  }

  #event(record: EventRecord, arrows: Arrows): void {
    for (const { group, name, unit, value } of this.#counters.add(record)) {
      const track_uuid = this.#tracks.counter(group, name, unit);
      const type = EVENT_TYPE.COUNTER;
      const counted = { type, track_uuid, double_counter_value: value };
      this.#put({ timestamp: record.ns, track_event: counted });
    }
    if (record.def.hot === true) return;
    const { seq, ns, def } = record;
    const lasts = record.span === true;
    const lane = lasts ? this.#tracks.begin(record) : this.#tracks.at(record);
    const flow_ids = arrows.from(seq);
    const ends = arrows.to(seq) ? [seq] : [];
    const debug_annotations = [
      this.#annotation('seq', 'int', seq),
      ...Object.entries(def.fields).flatMap(([field, kind]) => {
        const value = record.values[field];
        return value === undefined ? [] : [this.#annotation(field, kind, value)];
      }),
    ];
    this.#put({
      timestamp: ns,
      track_event: {
        type: lasts ? EVENT_TYPE.BEGIN : EVENT_TYPE.INSTANT,
        track_uuid: lane.uuid,
        name_iid: this.#names.event.iid(def.name),
        category_iids: [this.#names.category.iid(def.layer)],
        debug_annotations,
        ...(flow_ids.length > 0 && { flow_ids }),
        ...(ends.length > 0 && { terminating_flow_ids: ends }),
      },
    });
  }

  #annotation(field: string, kind: FieldKind, value: FieldValue): Annotation {
    const name_iid = this.#names.annotation.iid(field);
    if (kind !== 'wide' && KINDS[kind].value === 'word') {
      return { name_iid, pointer_value: typeof value === 'string' ? 0 : value };
    }
    if (KINDS[kind].value === 'number') return { name_iid, int_value: Number(value) };
    return { name_iid, string_value: valueText(kind, value) };
  }

  #end(begin: number, ns: number): void {
    const over = this.#tracks.end(begin);
    if (over !== undefined) this.#ends(over.lane, over.ended, ns);
  }

  #ends({ uuid }: Lane, count: number, timestamp: number): void {
    for (let i = 0; i < count; i++) {
      this.#put({ timestamp, track_event: { type: EVENT_TYPE.END, track_uuid: uuid } });
    }
  }

  /** Names are told in the packet before the one that uses them first. */
  #put(packet: TracePacket): void {
    const { event, category, annotation } = this.#names;
    const event_names = event.fresh();
    const event_categories = category.fresh();
    const debug_annotation_names = annotation.fresh();
    const fresh = event_names.length + event_categories.length + debug_annotation_names.length;
    this.#packets.push({
      ...packet,
      trusted_packet_sequence_id: SEQUENCE_ID,
      ...(packet.track_event && { sequence_flags: SEQUENCE.NEEDS_STATE }),
      ...(fresh > 0 && {
        interned_data: { event_names, event_categories, debug_annotation_names },
      }),
    });
  }

  #flush(): Uint8Array {
    const bytes = encodePackets(this.#packets);
    this.#packets = [];
    return bytes;
  }
}

/** Names under numbers, told once. */
class Names {
  readonly #iids = new Map<string, number>();
  #fresh: Named[] = [];

  iid(name: string): number {
    const known = this.#iids.get(name);
    if (known !== undefined) return known;
    const iid = this.#iids.size + 1;
    this.#iids.set(name, iid);
    this.#fresh.push({ iid, name });
    return iid;
  }

  /** Those that are not told yet. */
  fresh(): Named[] {
    const { length } = this.#fresh;
    return length === 0 ? this.#fresh : this.#fresh.splice(0);
  }
}
