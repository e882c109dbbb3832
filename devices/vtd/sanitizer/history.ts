import type { EventDef, EventRecord, FieldValue } from '../../../trace/event.ts';

/** An event with the events that led to it. */
export interface Trail {
  readonly seq: number;
  readonly ns: number;
  readonly def: EventDef;
  readonly values: Readonly<Record<string, FieldValue>>;
  readonly parent: Trail | null;
}

/** Events whose effects may still come; older ones live on only as causes of what is remembered. */
const REMEMBERED = 1 << 15;

/** The causes of what happens now, from the trace. */
export class History {
  readonly #trails = new Map<number, Trail>();

  add(record: EventRecord): void {
    const { seq, ns, cause, def, values } = record;
    this.#trails.set(seq, { seq, ns, def, values, parent: this.#trails.get(cause) ?? null });
    if (this.#trails.size <= REMEMBERED) return;
    for (const oldest of this.#trails.keys()) {
      this.#trails.delete(oldest);
      break;
    }
  }

  /** The event of a sequence number; null for 0 and for one long gone. */
  at(seq: number): Trail | null {
    return this.#trails.get(seq) ?? null;
  }
}

/** Whether the event `seq` is on the trail. */
export function descendsFrom(trail: Trail | null, seq: number): boolean {
  for (let at = trail; at !== null; at = at.parent) if (at.seq === seq) return true;
  return false;
}

/** The trail from its end upwards, at most `limit` events. */
export function ancestors(trail: Trail | null, limit: number): Trail[] {
  const found: Trail[] = [];
  for (let at = trail; at !== null && found.length < limit; at = at.parent) found.push(at);
  return found;
}

/** Software that does things: the nearest one on the trail. */
export function actorOf(trail: Trail | null): string {
  for (let at = trail; at !== null; at = at.parent) {
    const { layer } = at.def;
    if (layer === 'host') return 'host kernel';
    const vm = at.values['vm'];
    if (layer === 'guest') return `guest kernel (${String(vm)})`;
    if (layer === 'vmm') return `VMM (${String(vm)})`;
  }
  return '';
}

/** One line: the event's name and fields. */
export function eventText({ def, values }: Trail): string {
  const fields = Object.entries(def.fields).map(([name, kind]) => {
    const value = values[name] ?? '';
    const isHex = (kind === 'hex' || kind === 'addr') && typeof value !== 'string';
    return `${name}=${isHex ? `0x${value.toString(16)}` : String(value)}`;
  });
  return [def.name, ...fields].join(' ');
}
