import { Box, Text } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import { phaseNow } from '../../trace/state/pasids.ts';
import { timeText } from '../../trace/story/text.ts';
import { printable } from '../format.ts';
import { groupsFor, type KeyGroup, VIEW_TITLES } from '../keymap.ts';
import { type AppState, focusOf, rowOf, selectedEvent } from '../state/app.ts';
import { faultRows, objectsOf, pasidRows, phasePage, queueRows } from '../state/lists.ts';
import { eventText } from '../state/trace.ts';
import { isOpen, lastStage, STAGES, WAITS_FOR } from '../state/trips.ts';

/** Sentences for one who listens: where the run is, the chosen line of the view, what happened last. */
export function Reader({ state }: { state: AppState }): ReactElement {
  const { model, play, view, help } = state;
  const { run } = model;
  const told = help ? keys(state) : chosenLine(state);
  const last = run.lately.at(-1);
  const sentences = [
    `${VIEW_TITLES[view]}. The run is ${play.status} at ${timeText(run.ns)}, event ${model.seq}.`,
    ...[play.reason, play.note].filter((text) => text !== '').map((text) => `Note: ${text}.`),
    ...(run.phases === 0 ? [] : [`Phase ${run.phases}: ${run.phase}.`]),
    ...told,
    ...(last === undefined ? [] : [`Last: ${last.text}`]),
  ];
  return h(
    Box,
    { flexDirection: 'column' },
    ...sentences.map((text, key) => h(Text, { key }, printable(text))),
  );
}

const keys = (state: AppState): string[] =>
  groupsFor(focusOf(state)).map(({ keys: names, help }: KeyGroup) => {
    return `${Object.keys(names).join(', ')}: ${help}.`;
  });

const place = (row: number, count: number): string =>
  count === 0 ? 'The list is empty.' : `Line ${row + 1} of ${count}:`;

function chosenLine(state: AppState): string[] {
  const { view, model } = state;
  const row = rowOf(state);
  switch (view) {
    case 'overview':
      return model.run.lately.slice(-4, -1).map(({ text }) => text);
    case 'pasids': {
      const all = pasidRows(model.pasids);
      const one = all[row];
      if (one === undefined) return [place(row, 0)];
      const { vm, pasid, hwpt, open, faults } = one;
      return [
        place(row, all.length),
        `${vm} PASID ${pasid}, ${phaseNow(one) ?? 'not attached'}, HWPT ${hwpt},` +
          ` ${open} page requests open, ${faults} faults.`,
      ];
    }
    case 'objects': {
      const all = objectsOf(model);
      const one = all[row];
      const by = one === undefined || one.users === '' ? '' : `, referred to by ${one.users}`;
      return [place(row, all.length), one === undefined ? '' : `${one.title}, ${one.detail}${by}.`];
    }
    case 'faults':
      return faultLine(state, row);
    case 'queues': {
      const all = queueRows(model.queues);
      const one = all[row];
      if (one === undefined) return [place(row, 0)];
      const { queue, slot } = one;
      const name = `${queue.kind} queue of ${queue.owner}`;
      const told = slot === undefined ? '' : `: ${slot.descriptor}, ${slot.state} ${slot.outcome}`;
      return [place(row, all.length), `${name}${told}.`];
    }
    case 'trace': {
      const record = selectedEvent(state);
      if (record === undefined) return [place(0, 0)];
      return [`Event ${record.seq} of the ${record.def.layer}: ${eventText(record)}.`];
    }
    case 'walkthrough': {
      if (state.opened) {
        const tour = state.tours[Math.min(state.rows.walkthrough, state.tours.length - 1)];
        return [
          tour === undefined ? 'No tours.' : `Tour ${tour.name}: ${tour.what}. Enter takes it.`,
        ];
      }
      const { lines } = phasePage(model);
      return [place(row, lines.length), lines[row]?.text ?? ''];
    }
  }
}

function faultLine({ model }: AppState, row: number): string[] {
  const all = faultRows(model);
  const one = all[row];
  if (one === undefined) return [place(row, 0)];
  if (one.kind === 'problem') {
    return [place(row, all.length), `Error: ${one.problem.what}: ${one.problem.why}.`];
  }
  const { trip } = one;
  const stage = lastStage(trip);
  const end = isOpen(trip) ? `waits for ${WAITS_FOR[stage]}` : `answered with ${trip.answer}`;
  return [
    place(row, all.length),
    `Page request of PASID ${trip.pasid} at ${trip.address}: ${STAGES[stage]!.told}, ${end}.`,
  ];
}
