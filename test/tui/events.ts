import type { EventDef, EventRecord, Fields, Values } from '../../trace/event.ts';
import { World } from '../../vmm/scenario/world.ts';

const MIB = 2 ** 20;

/** The events of a whole run with a file of 9000 bytes. */
export function recordRun({ vms = 1, procs = 1, seed = 1 } = {}): readonly EventRecord[] {
  const events: EventRecord[] = [];
  const world = new World({
    seed,
    vms,
    procs,
    guestBytes: 64 * MIB,
    input: Uint8Array.from({ length: 9000 }, (_, i) => i),
    listeners: [(record) => events.push(record)],
  });
  let steps = 0;
  while (world.step() && steps < 1_000_000) steps++;
  return events;
}

/** Makes events one by one, a microsecond apart. */
export class Maker {
  #seq = 0;

  make<F extends Fields>(def: EventDef<F>, values: Values<F>, cause = 0): EventRecord {
    const seq = ++this.#seq;
    return { seq, ns: seq * 1000, cause, def, values };
  }
}
