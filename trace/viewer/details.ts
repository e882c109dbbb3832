import type { EventRecord } from '../event.ts';
import { KINDS } from '../event.ts';
import { eventWords, timeText, valueText } from '../story/text.ts';
import type { Connection } from './connection.ts';
import { el, grid } from './dom.ts';
import type { Model } from './model.ts';
import { fields } from './tables.ts';

/** Causes shown of one event. */
const MOST_CAUSES = 64;

/** Of the selected event: what it says, what led to it, what followed. */
export class Details {
  readonly #model: Model;
  readonly #connection: Connection;
  /** Causes that had gone from the page and were asked for. */
  readonly #fetched = new Map<number, EventRecord | undefined>();

  constructor(model: Model, connection: Connection) {
    this.#model = model;
    this.#connection = connection;
  }

  render(): Node[] {
    const record = this.#model.current;
    if (record === undefined) return [el('p', { class: 'empty' }, 'No event is selected.')];
    const { def, values, seq, ns } = record;
    const rows = Object.entries(def.fields).map(([field, kind]) => [
      field,
      el('code', { 'data-field': field }, valueText(kind, values[field] ?? '')),
      KINDS[kind].what,
    ]);
    return [
      el('h2', { class: def.layer, 'data-seq': String(seq) }, `#${seq} ${def.name}`),
      el('p', {}, `${def.meaning}.`),
      el('p', { class: 'source' }, `${timeText(ns)} (${ns} ns) · ${def.source}`),
      grid(['field', 'value', 'what it is'], rows),
      ...this.#decoded(record),
      el('h2', {}, 'What led to it'),
      el('div', { id: 'causes' }, ...this.#causes(record)),
      el('h2', {}, 'What it caused'),
      el('div', { id: 'effects' }, ...this.#effects(record)),
    ];
  }

  /** Of a PASID table entry: its fields, and what was written over. */
  #decoded({ values }: EventRecord): Node[] {
    if (values['qw0'] === undefined || values['pasid'] === undefined) return [];
    const words = (name: string): bigint[] =>
      [0, 1, 2].map((i) => BigInt(values[`${name}${i}`] ?? values[`qw${i}`] ?? 0));
    return [el('h2', {}, 'The entry, decoded'), fields(words('qw'), words('old'))];
  }

  #causes(record: EventRecord): Node[] {
    const chain = [record];
    for (let at = record; at.cause !== 0 && chain.length < MOST_CAUSES; ) {
      const cause = this.#model.event(at.cause) ?? this.#fetched.get(at.cause);
      if (cause === undefined) {
        this.#ask(at.cause);
        break;
      }
      chain.unshift(cause);
      at = cause;
    }
    return chain.map((one, depth) => this.#line(one, depth, one === record));
  }

  #effects(record: EventRecord): Node[] {
    const effects = this.#model.events.filter(({ cause }) => cause === record.seq);
    if (effects.length === 0) return [el('span', { class: 'empty' }, 'nothing that is told here')];
    return effects.slice(0, MOST_CAUSES).map((one) => this.#line(one, 0, false));
  }

  #line(record: EventRecord, depth: number, here: boolean): HTMLElement {
    const { def, seq } = record;
    const line = el(
      'button',
      { class: `cause ${def.layer}${here ? ' here' : ''}`, 'data-seq': String(seq) },
      `${'  '.repeat(depth)}${depth === 0 ? '' : '└ '}${def.layer} ${eventWords(record, true).join(' ')}`,
    );
    line.style.paddingLeft = `${Math.min(depth, 12) * 10}px`;
    line.addEventListener('click', () => this.#model.select(seq));
    return line;
  }

  /** Asks for an event that is not here any more; the page is drawn again when it comes. */
  #ask(seq: number): void {
    if (this.#fetched.has(seq)) return;
    if (this.#fetched.size > 10_000) this.#fetched.clear();
    this.#fetched.set(seq, undefined);
    this.#connection
      .fetch([seq])
      .then(([record]) => {
        this.#fetched.set(seq, record);
        if (record !== undefined) this.#model.changed();
      })
      .catch(() => this.#fetched.delete(seq));
  }
}
