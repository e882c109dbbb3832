import { createElement as h, type ReactElement } from 'react';
import { cell, countText, momentText } from '../format.ts';
import { type AppState, rowOf } from '../state/app.ts';
import { queueRows } from '../state/lists.ts';
import { type Queue, type Slot, type SlotState, waitingIn } from '../state/queues.ts';
import { SLOT_SIGNS, type Tone } from '../theme.ts';
import { type Span, span } from './line.ts';
import { List } from './list.ts';
import { breadthOf, type Size } from './size.ts';

const TONES: Readonly<Record<SlotState, Tone>> = {
  waiting: 'waiting',
  running: 'device',
  done: 'muted',
  failed: 'bad',
};

/** Invalidation, page-request and work queues with what stands in them, decoded; newest first. */
export function Queues({ state, size }: { state: AppState; size: Size }): ReactElement {
  const rows = queueRows(state.model.queues);
  const { columns } = size;
  const head = `${' '.repeat(4)}${cell('state', 9)}${cell('slot', 6, 'right')}  descriptor, newest first`;
  return h(List, {
    size,
    head: [span(head, 'title')],
    count: rows.length,
    chosen: rowOf(state),
    line: (row) => {
      const { queue, slot } = rows[row]!;
      return slot === undefined ? queueLine(queue) : slotLine(slot, columns - 1);
    },
    empty: 'Nothing was put in a queue yet.',
  });
}

function queueLine(queue: Queue): Span[] {
  const { kind, owner, count } = queue;
  const waiting = waitingIn(queue);
  return [
    span(`${kind} queue of ${owner}`, 'title'),
    span(`   ${countText(count)} in all, `, 'muted'),
    span(`${waiting} waiting`, waiting === 0 ? 'muted' : 'waiting'),
  ];
}

function slotLine({ state, index, descriptor, words, outcome, ns }: Slot, width: number): Span[] {
  const wide = breadthOf(width) === 'wide';
  const left = [
    span(`   ${SLOT_SIGNS[state]} `, TONES[state]),
    span(cell(state, 8), TONES[state]),
    span(`${cell(index < 0 ? '-' : String(index), 6, 'right')}  `, 'muted'),
  ];
  const result = outcome === '' ? '' : ` → ${outcome}`;
  const raw = wide && words.length > 0 ? words.join(' ') : '';
  const time = wide ? `${momentText(ns)} ms` : '';
  const room = width - 21 - (wide ? 40 + 16 : 0);
  return [
    ...left,
    span(cell(descriptor + result, room), state === 'done' ? 'plain' : TONES[state]),
    ...(wide ? [span(` ${cell(raw, 39)}${cell(time, 15, 'right')}`, 'muted')] : []),
  ];
}
