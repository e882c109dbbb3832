import type { EventRecord } from '../event.ts';
import { EMPTY_STATE, reduceState, type State } from '../state/state.ts';
import { type CompiledFilter, compileFilter, type Filter } from '../wire/filter.ts';
import type { EndJson } from '../wire/json.ts';
import type { Layout } from '../wire/layout.ts';
import type { Hello, Status } from './connection.ts';

/** Events kept to be shown; older ones are sought or fetched again. */
const MOST_EVENTS = 50_000;

/** What goes at once, so that not every event moves all others. */
const SLACK = 5000;

export type Link = 'connecting' | 'live' | 'lost';

/** All that the page knows. Views read it and are told when it has changed. */
export class Model {
  link: Link = 'connecting';
  hello: Hello | undefined;
  status: Status | undefined;
  layouts: readonly Layout[] = [];
  state: State = EMPTY_STATE;
  /** Events of late, and of these the ones that match the filter; oldest first. */
  events: EventRecord[] = [];
  shown: EventRecord[] = [];
  /** Where spans ended, by the event that began each: the last event before. */
  readonly ends = new Map<number, number>();
  /** The last event that the server has settled. */
  seq = 0;
  /** The last event of the run that is known of. */
  newest = 0;
  dropped = 0;
  refusal = '';
  /** `seq` of the selected event, 0 for none. */
  selected = 0;
  /** The selection goes on with the newest event. */
  follows = true;
  #filter: CompiledFilter = compileFilter([], {});
  #asked: Filter = {};
  readonly #views: (() => void)[] = [];
  #scheduled = false;

  onChange(view: () => void): void {
    this.#views.push(view);
  }

  /** Shows what has changed, once for all that happens until the next picture. */
  changed(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      for (const view of this.#views) view();
    });
  }

  greet(hello: Hello, layouts: readonly Layout[]): void {
    const other = this.hello !== undefined && this.hello.session !== hello.session;
    this.hello = hello;
    this.layouts = layouts;
    this.status = hello.status;
    this.link = 'live';
    this.refusal = '';
    this.newest = hello.lastSeq;
    if (other) {
      this.events = [];
      this.ends.clear();
      this.state = EMPTY_STATE;
    }
    this.filter(this.#asked);
  }

  /** From here on: the viewer was taken elsewhere in time. What it has seen before stays. */
  restart(state: State, seq: number): void {
    this.state = state;
    this.seq = seq;
    this.newest = Math.max(this.newest, seq);
    this.events = this.events.filter((record) => record.seq <= seq);
    this.shown = this.shown.filter((record) => record.seq <= seq);
    if (this.selected > seq || this.follows) this.selected = this.shown.at(-1)?.seq ?? 0;
    this.changed();
  }

  add(records: readonly EventRecord[], ends: readonly EndJson[], to: number): void {
    for (const { end, seq } of ends) this.ends.set(end, seq);
    for (const record of records) {
      this.events.push(record);
      if (this.#filter.matches(record)) this.shown.push(record);
    }
    this.state = reduceState(this.state, records);
    this.seq = to;
    this.newest = Math.max(this.newest, to);
    this.#forget();
    if (this.follows) this.selected = this.shown.at(-1)?.seq ?? this.selected;
    this.changed();
  }

  /** The number of the first event that is here; one after the last where none is. */
  get firstHere(): number {
    return this.events[0]?.seq ?? this.seq + 1;
  }

  /** Events from before the first that is here. */
  addBefore(records: readonly EventRecord[]): void {
    const first = this.firstHere;
    const earlier = records.filter(({ seq }) => seq < first);
    this.events = [...earlier, ...this.events];
    this.shown = [...earlier.filter((record) => this.#filter.matches(record)), ...this.shown];
    if (this.selected === 0 || this.follows) this.selected = this.shown.at(-1)?.seq ?? 0;
    this.changed();
  }

  /** Shows what matches. Names in the filter that no event has are told as a refusal. */
  filter(filter: Filter): void {
    this.#asked = filter;
    this.#filter = compileFilter(this.layouts, filter);
    const { unknown } = this.#filter;
    this.refusal = unknown.length === 0 ? '' : `no event is called ${unknown.join(', ')}`;
    this.shown = this.events.filter((record) => this.#filter.matches(record));
    if (this.follows) this.selected = this.shown.at(-1)?.seq ?? 0;
    this.changed();
  }

  select(seq: number): void {
    this.selected = seq;
    this.follows = false;
    this.changed();
  }

  follow(): void {
    this.follows = true;
    this.selected = this.shown.at(-1)?.seq ?? 0;
    this.changed();
  }

  /** Moves the selection by so many of the events that are shown. */
  move(by: number): void {
    const { shown } = this;
    if (shown.length === 0) return;
    const at = Math.min(placeOf(shown, this.selected), shown.length - 1);
    this.select(shown[Math.min(Math.max(at + by, 0), shown.length - 1)]!.seq);
  }

  get current(): EventRecord | undefined {
    return this.event(this.selected);
  }

  /** An event that is still here. */
  event(seq: number): EventRecord | undefined {
    const record = this.events[placeOf(this.events, seq)];
    return record?.seq === seq ? record : undefined;
  }

  #forget(): void {
    if (this.events.length <= MOST_EVENTS + SLACK) return;
    this.events.splice(0, this.events.length - MOST_EVENTS);
    const first = this.events[0]!.seq;
    this.shown.splice(0, placeOf(this.shown, first));
    for (const begin of this.ends.keys()) if (begin < first) this.ends.delete(begin);
  }
}

/** Where the event is, or the first after it. */
export function placeOf(events: readonly EventRecord[], seq: number): number {
  let from = 0;
  let to = events.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (events[middle]!.seq < seq) from = middle + 1;
    else to = middle;
  }
  return from;
}
