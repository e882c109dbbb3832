import type { EventRecord } from '../event.ts';

/** What events of a name change in a draft of the state. */
export type Handlers<Draft> = Readonly<Record<string, (draft: Draft, record: EventRecord) => void>>;

/**
 * A pure function from a state and a batch of events to the next state. The draft, a copy that may be
 * changed, is made at the first event that has a handler; without one the state stays the very same.
 */
export const reducer =
  <State, Draft extends State>(handlers: Handlers<Draft>, copy: (state: State) => Draft) =>
  (state: State, batch: readonly EventRecord[]): State => {
    let draft: Draft | undefined;
    for (const record of batch) {
      const handler = Object.hasOwn(handlers, record.def.name)
        ? handlers[record.def.name]
        : undefined;
      if (handler === undefined) continue;
      draft ??= copy(state);
      handler(draft, record);
    }
    return draft ?? state;
  };

/** Sets a key as the newest; beyond `most` the oldest goes. */
export function setNewest<K, V>(map: Map<K, V>, key: K, value: V, most: number): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= most) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}
