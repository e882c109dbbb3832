import type { EventRecord } from '../event.ts';
import { functionName } from '../story/text.ts';
import type { TracePacket } from './perfetto-schema.ts';

/** A timeline of the viewer: spans on it nest. */
export interface Lane {
  readonly uuid: number;
  /** Open spans, the innermost last. */
  readonly open: number[];
}

interface Track {
  readonly group: number;
  readonly name: string;
  readonly lanes: Lane[];
}

/** Where an event belongs: a group of timelines, and the timeline in it. */
interface Place {
  readonly group: string;
  readonly track: string;
}

/** Who says what: one group for each machine, program, kernel, unit and device. */
export function placeOf({ def, values }: EventRecord): Place {
  const { vm, pid, unit, device, handler } = values;
  switch (def.layer) {
    case 'guest':
      return {
        group: `guest ${String(vm)}`,
        track: pid === undefined || pid === 0 ? 'kernel (vCPU 0)' : `process ${String(pid)}`,
      };
    case 'vmm':
      return {
        group: `VMM ${String(vm)}`,
        track: def.name.endsWith('kvm_exit') ? 'vCPU 0' : 'VMM',
      };
    case 'host':
      if (pid !== undefined)
        return { group: 'host kernel', track: `system calls of ${String(pid)}` };
      return { group: 'host kernel', track: handler === undefined ? 'iommu' : 'interrupts' };
    case 'vtd':
      return {
        group: unit === 'host' ? 'VT-d unit' : `VT-d unit of ${String(unit)} (virtual)`,
        track: def.name.slice(def.name.indexOf(':') + 1).startsWith('inv') ? 'queue' : 'unit',
      };
    case 'device':
      return { group: `device ${functionName(String(device))}`, track: 'engines' };
    case 'engine':
      return { group: 'vsva', track: 'engine' };
  }
}

/**
 * The timelines. Spans of different threads overlap; a timeline of the viewer nests: each span is put
 * under its cause where that is innermost, else on a further timeline of the same name.
 */
export class Tracks {
  readonly #groups = new Map<string, number>();
  readonly #tracks = new Map<string, Track>();
  readonly #counters = new Map<string, number>();
  /** By the event that began it: the lane of an open span. */
  readonly #open = new Map<number, Lane>();
  readonly #emit: (packet: TracePacket) => void;
  #uuid = 0;

  constructor(emit: (packet: TracePacket) => void) {
    this.#emit = emit;
  }

  /** Where an event that lasts goes, which is then open there. */
  begin(record: EventRecord): Lane {
    const track = this.#trackOf(record);
    const lane =
      track.lanes.find(({ open }) => open.length === 0 || open.at(-1) === record.cause) ??
      this.#addLane(track);
    lane.open.push(record.seq);
    this.#open.set(record.seq, lane);
    return lane;
  }

  /** Where an event goes that does not last. */
  at(record: EventRecord): Lane {
    const track = this.#trackOf(record);
    const cause = this.#open.get(record.cause);
    return track.lanes.find((lane) => lane === cause) ?? track.lanes[0]!;
  }

  /** A span is over. Gives its lane, and how many end there: those inside it end no later. */
  end(begin: number): { lane: Lane; ended: number } | undefined {
    const lane = this.#open.get(begin);
    if (lane === undefined) return undefined;
    const at = lane.open.lastIndexOf(begin);
    const over = lane.open.splice(at);
    for (const seq of over) this.#open.delete(seq);
    return { lane, ended: over.length };
  }

  /** Every span that is still open, as at the end of a recording that was cut off. */
  endAll(): { lane: Lane; ended: number }[] {
    const ends = [...new Set(this.#open.values())].map((lane) => ({
      lane,
      ended: lane.open.length,
    }));
    this.#open.clear();
    return ends;
  }

  /** The timeline of a counter in a group. */
  counter(group: string, name: string, unit_name: string): number {
    const key = `${group}/${name}`;
    const known = this.#counters.get(key);
    if (known !== undefined) return known;
    const parent_uuid = this.#group(group);
    const uuid = ++this.#uuid;
    this.#counters.set(key, uuid);
    this.#emit({ track_descriptor: { uuid, name, parent_uuid, counter: { unit_name } } });
    return uuid;
  }

  #trackOf(record: EventRecord): Track {
    const { group, track: name } = placeOf(record);
    const key = `${group}/${name}`;
    const known = this.#tracks.get(key);
    if (known !== undefined) return known;
    const track: Track = { group: this.#group(group), name, lanes: [] };
    this.#tracks.set(key, track);
    this.#addLane(track);
    return track;
  }

  #addLane({ group, name, lanes }: Track): Lane {
    const uuid = ++this.#uuid;
    const lane: Lane = { uuid, open: [] };
    lanes.push(lane);
    this.#emit({ track_descriptor: { uuid, name, parent_uuid: group } });
    return lane;
  }

  #group(name: string): number {
    const known = this.#groups.get(name);
    if (known !== undefined) return known;
    const uuid = ++this.#uuid;
    this.#groups.set(name, uuid);
    const process = { pid: this.#groups.size, process_name: name };
    this.#emit({ track_descriptor: { uuid, process } });
    return uuid;
  }
}
