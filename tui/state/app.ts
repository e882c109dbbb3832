import type { EventRecord } from '../../trace/event.ts';
import { type Command, type Focus, VIEWS, type View } from '../keymap.ts';
import { pasidRows, rowCount, seqOfRow } from './lists.ts';
import { EMPTY_MODEL, type Model, type Moment, reduceModel } from './model.ts';
import { firstFrom, matching, recordOf, reduceTrace, truncated, withFilter } from './trace.ts';

/** Events per second of real time; the last is as fast as it goes. */
export const SPEEDS = [1, 5, 20, 100, 500, 2500, Infinity] as const;

const FIRST_SPEED = 4;

/** Characters of what is typed at most. */
const MOST_TYPED = 80;

/** What is still to be done before the world stands still again. */
export type Want =
  | { readonly kind: 'event'; readonly by: 1 | -1 }
  | { readonly kind: 'phase'; readonly by: 1 | -1 }
  /** To what event `of` leads to, or to what it came from. */
  | { readonly kind: 'cause'; readonly by: 1 | -1; readonly of: number }
  /** To an event: Infinity, the newest. */
  | { readonly kind: 'to'; readonly seq: number };

export interface PlayState {
  readonly status: 'running' | 'paused' | 'ended' | 'failed';
  readonly want: Want | undefined;
  /** Index in SPEEDS. */
  readonly speed: number;
  /** Why the world failed, else empty. */
  readonly reason: string;
  /** What cannot be done, or how the connection is; else empty. */
  readonly note: string;
}

export type Typing = 'filter' | 'search' | 'address';

/** A tour that can be taken, by its place in the list that was given. */
export interface TourTitle {
  readonly name: string;
  readonly what: string;
}

export interface AppState {
  readonly model: Model;
  readonly play: PlayState;
  readonly view: View;
  readonly help: boolean;
  /** What is being typed, if anything. */
  readonly typing: Typing | undefined;
  /** The selected event of the trace, 0 for none; ignored while following. */
  readonly selected: number;
  readonly follow: boolean;
  readonly search: string;
  /** The selected line of each list but the trace's; Infinity: the last, whatever comes. */
  readonly rows: Readonly<Record<View, number>>;
  /** The PASID entry is open, or the list of tours. */
  readonly opened: boolean;
  /** The walk that the user asked for. */
  readonly address: string;
  /** Which of the entry's writes is shown, counted from the newest. */
  readonly write: number;
  readonly tours: readonly TourTitle[];
  /** The tour that was chosen, -1: none. */
  readonly tour: number;
  readonly quit: boolean;
}

export type Action =
  | { readonly type: 'events'; readonly batch: readonly EventRecord[] }
  /** Events of which some were only counted: the moment after them, and those to be listed. */
  | { readonly type: 'counted'; readonly moment: Moment; readonly batch: readonly EventRecord[] }
  /** Another moment; `events` that led to it, where they are not among those that are kept. */
  | { readonly type: 'moment'; readonly moment: Moment; readonly events?: readonly EventRecord[] }
  | { readonly type: 'ended' }
  | { readonly type: 'failed'; readonly reason: string }
  /** What was wanted has happened, or cannot. */
  | { readonly type: 'arrived'; readonly note?: string }
  /** How it stands with a world that somebody else runs. */
  | { readonly type: 'play'; readonly play: Partial<PlayState> }
  | { readonly type: 'tours'; readonly tours: readonly TourTitle[]; readonly tour: number }
  /** Another run, from its beginning, a phase at a time. */
  | { readonly type: 'begin'; readonly at?: number }
  /** `page`: lines that the view shows, for paging. */
  | { readonly type: 'command'; readonly command: Command; readonly page: number }
  | { readonly type: 'type'; readonly text: string };

const FIRST_PLAY: PlayState = {
  status: 'running',
  want: undefined,
  speed: FIRST_SPEED,
  reason: '',
  note: '',
};

export const FIRST_STATE: AppState = {
  model: EMPTY_MODEL,
  play: FIRST_PLAY,
  view: 'overview',
  help: false,
  typing: undefined,
  selected: 0,
  follow: true,
  search: '',
  rows: {
    overview: 0,
    pasids: 0,
    objects: 0,
    faults: Infinity,
    queues: 0,
    trace: 0,
    walkthrough: 0,
  },
  opened: false,
  address: '',
  write: 0,
  tours: [],
  tour: -1,
  quit: false,
};

export const focusOf = ({ view, opened, typing }: AppState): Focus => ({
  view,
  opened,
  typing: typing !== undefined,
});

export function reduce(state: AppState, action: Action): AppState {
  const { model, play } = state;
  switch (action.type) {
    case 'events':
      return { ...state, model: reduceModel(model, action.batch) };
    case 'counted': {
      const trace = reduceTrace(model.trace, action.batch);
      return { ...state, model: { ...action.moment, trace } };
    }
    case 'moment':
      return jumped(state, action.moment, action.events);
    case 'ended':
      return { ...state, play: { ...play, status: 'ended', want: undefined } };
    case 'failed':
      return {
        ...state,
        play: { ...play, status: 'failed', want: undefined, reason: action.reason },
      };
    case 'arrived':
      return { ...state, play: { ...play, want: undefined, note: action.note ?? '' } };
    case 'play':
      return { ...state, play: { ...play, ...action.play } };
    case 'tours':
      return { ...state, tours: action.tours, tour: action.tour };
    case 'begin':
      return begun(state, action.at);
    case 'type':
      return typed(state, (typedSoFar(state) + action.text).slice(0, MOST_TYPED));
    case 'command':
      return obey(state, action.command, action.page);
  }
}

/** Another run: what is typed and chosen stays, what was seen goes. */
const begun = (state: AppState, at: number | undefined): AppState => ({
  ...FIRST_STATE,
  view: state.view,
  tours: state.tours,
  tour: state.tour,
  play: {
    ...FIRST_PLAY,
    status: 'paused',
    speed: state.play.speed,
    want: at === undefined ? FIRST_PHASE : { kind: 'to', seq: at },
  },
});

/** A tour begins with its first phase. */
const FIRST_PHASE = { kind: 'phase', by: 1 } as const satisfies Want;

function jumped(
  state: AppState,
  moment: Moment,
  events: readonly EventRecord[] | undefined,
): AppState {
  const { model, play, selected } = state;
  const { filter } = model.trace;
  const trace =
    events === undefined
      ? truncated(model.trace, moment.seq)
      : withFilter({ events, filter: '', matches: events }, filter);
  const { status } = play;
  return {
    ...state,
    model: { ...moment, trace },
    follow: state.follow || selected > moment.seq,
    play: { ...play, status: status === 'running' ? 'running' : 'paused', note: '' },
  };
}

/** What has been typed into the line that is open. */
export const typedSoFar = ({ typing, model, search, address }: AppState): string =>
  typing === 'search' ? search : typing === 'address' ? address : model.trace.filter;

function typed(state: AppState, text: string): AppState {
  if (state.typing === 'search') return found({ ...state, search: text }, 0);
  if (state.typing === 'address') return { ...state, address: text };
  return filtered(state, text);
}

function obey(state: AppState, command: Command, page: number): AppState {
  switch (command) {
    case 'overview':
    case 'pasids':
    case 'objects':
    case 'faults':
    case 'queues':
    case 'trace':
    case 'walkthrough':
      return shown(state, command);
    case 'next-view':
      return turned(state, 1);
    case 'previous-view':
      return turned(state, -1);
    case 'down':
      return moved(state, 1);
    case 'up':
      return moved(state, -1);
    case 'page-down':
      return moved(state, page);
    case 'page-up':
      return moved(state, -page);
    case 'first':
      return moved(state, -Infinity);
    case 'last':
      return moved(state, Infinity);
    case 'pause':
      return paused(state);
    case 'step':
      return wanting(state, { kind: 'event', by: 1 });
    case 'step-back':
      return wanting(state, { kind: 'event', by: -1 });
    case 'phase':
      return wanting(rewound(state), { kind: 'phase', by: 1 });
    case 'phase-back':
      return wanting(rewound(state), { kind: 'phase', by: -1 });
    case 'cause':
      return wanting(state, { kind: 'cause', by: 1, of: subject(state) });
    case 'cause-back':
      return wanting(state, { kind: 'cause', by: -1, of: subject(state) });
    case 'beginning':
      return wanting(rewound(state), { kind: 'to', seq: 1 });
    case 'newest':
      return wanting(state, { kind: 'to', seq: Infinity });
    case 'faster':
      return hurried(state, 1);
    case 'slower':
      return hurried(state, -1);
    case 'open':
      return opened(state);
    case 'address':
      return { ...state, typing: 'address', address: '', help: false };
    case 'earlier-write':
      return written(state, 1);
    case 'later-write':
      return written(state, -1);
    case 'tours':
      return { ...state, opened: !state.opened, rows: at(state, Math.max(0, state.tour)) };
    case 'filter':
      return { ...state, typing: 'filter', help: false };
    case 'search':
      return { ...state, typing: 'search', search: '', help: false };
    case 'next-match':
      return found(state, 1);
    case 'previous-match':
      return found(state, -1);
    case 'accept':
      return { ...state, typing: undefined };
    case 'erase':
      return typed(state, Array.from(typedSoFar(state)).slice(0, -1).join(''));
    case 'cancel':
      return cancelled(state);
    case 'follow':
      return state.follow
        ? { ...state, follow: false, selected: selectedSeq(state) }
        : { ...state, follow: true };
    case 'help':
      return { ...state, help: !state.help };
    case 'quit':
      return { ...state, quit: true };
  }
}

const shown = (state: AppState, view: View): AppState => ({
  ...state,
  view,
  help: false,
  opened: view === state.view && state.opened,
});

function turned(state: AppState, by: number): AppState {
  const index = (VIEWS.indexOf(state.view) + by + VIEWS.length) % VIEWS.length;
  return shown(state, VIEWS[index]!);
}

/** The page of another phase is read from its first line. */
const rewound = (state: AppState): AppState =>
  state.opened && state.view === 'walkthrough'
    ? state
    : { ...state, rows: { ...state.rows, walkthrough: 0 } };

/** The event that a step by cause begins with: the selected one in the trace, else the last. */
const subject = (state: AppState): number =>
  state.view === 'trace' ? selectedSeq(state) : state.model.seq;

function wanting(state: AppState, want: Want): AppState {
  const { play } = state;
  if (play.status === 'failed') return state;
  const follow = want.kind === 'cause' ? true : state.follow;
  const status = play.status === 'running' ? 'paused' : play.status;
  return { ...state, follow, play: { ...play, status, want, note: '' } };
}

/** What has ended stays so: there is nothing left to let run. */
function paused(state: AppState): AppState {
  const { play } = state;
  if (play.status === 'ended' || play.status === 'failed') return state;
  const status = play.status === 'running' ? 'paused' : 'running';
  return { ...state, play: { ...play, status, want: undefined, note: '' } };
}

function hurried(state: AppState, by: number): AppState {
  const speed = Math.min(SPEEDS.length - 1, Math.max(0, state.play.speed + by));
  return { ...state, play: { ...state.play, speed } };
}

/** Enter: the entry of a PASID, the event that a line is about, the moment of an event, a tour. */
function opened(state: AppState): AppState {
  const { view, model, rows } = state;
  if (view === 'pasids') {
    return model.pasids.rows.size === 0 ? state : { ...state, opened: true, write: 0 };
  }
  if (view === 'walkthrough' && state.opened) {
    const tour = Math.min(rows.walkthrough, state.tours.length - 1);
    return { ...state, opened: false, tour, rows: at(state, 0) };
  }
  const seq = view === 'trace' ? selectedSeq(state) : seqOfRow(view, model, rowOf(state));
  if (seq === 0) return state;
  if (view === 'trace') return wanting(state, { kind: 'to', seq });
  const { trace } = filtered(state, '').model;
  return {
    ...state,
    model: { ...model, trace },
    view: 'trace',
    follow: false,
    selected: seq,
  };
}

const at = (state: AppState, row: number): AppState['rows'] => ({
  ...state.rows,
  [state.view]: row,
});

function written(state: AppState, by: number): AppState {
  const most = Math.max(0, writesOf(state).length - 1);
  return { ...state, write: clamp(state.write + by, 0, most) };
}

/** The writes of the entry that is open, oldest first. */
export function writesOf(state: AppState): ReturnType<typeof entryWrites> {
  return entryWrites(state.model, rowOf(state));
}

function entryWrites({ pasids, entries }: Model, row: number) {
  const chosen = pasidRows(pasids)[row];
  if (chosen === undefined) return [];
  return entries.writes.get(`host/${chosen.device}/${chosen.pasid}`) ?? [];
}

function cancelled(state: AppState): AppState {
  if (state.typing === 'address') return { ...state, typing: undefined, address: '' };
  if (state.typing === 'search') return { ...state, typing: undefined, search: '' };
  if (state.help) return { ...state, help: false };
  if (state.opened) return { ...state, opened: false, address: '' };
  return filtered({ ...state, typing: undefined, search: '' }, '');
}

function filtered(state: AppState, filter: string): AppState {
  const { model } = state;
  if (filter === model.trace.filter) return state;
  return { ...state, model: { ...model, trace: withFilter(model.trace, filter) } };
}

/** Selects an event with the words that are sought: `by` 0, the one that is selected will do. */
function found(state: AppState, by: -1 | 0 | 1): AppState {
  const { matches } = state.model.trace;
  if (state.search.trim() === '' || matches.length === 0) return state;
  const test = matching(state.search);
  const from = Math.max(0, selectedIndex(state));
  const step = by === 0 ? -1 : by;
  for (let i = 0; i < matches.length; i++) {
    const offset = step * (by === 0 ? i : i + 1);
    const index = (((from + offset) % matches.length) + matches.length) % matches.length;
    const record = matches[index]!;
    if (test(record)) return { ...state, follow: false, selected: record.seq };
  }
  return state;
}

/** Index of the selected event among the matches, -1 when there are none. */
export function selectedIndex({ model, follow, selected }: AppState): number {
  const { matches } = model.trace;
  const last = matches.length - 1;
  return follow ? last : Math.min(last, firstFrom(matches, selected));
}

/** The selected event of the trace. */
export const selectedEvent = (state: AppState): EventRecord | undefined =>
  recordOf(state.model.trace.events, selectedSeq(state));

const selectedSeq = (state: AppState): number =>
  state.model.trace.matches[selectedIndex(state)]?.seq ?? 0;

/** The selected line of the view's list, never beyond its last. */
export function rowOf({ view, rows, model }: AppState): number {
  return clamp(rows[view], 0, Math.max(0, rowCount(view, model) - 1));
}

/** Moves the selection of the view; leaving the end of a list ends following, reaching it begins it. */
function moved(state: AppState, by: number): AppState {
  const { view } = state;
  if (view === 'trace') return movedInTrace(state, by);
  const choosing = view === 'walkthrough' && state.opened;
  const count = choosing ? state.tours.length : rowCount(view, state.model);
  const last = Math.max(0, count - 1);
  if (by === Infinity && (view === 'faults' || view === 'walkthrough') && !choosing) {
    return { ...state, rows: at(state, Infinity) };
  }
  return { ...state, rows: at(state, clamp(clamp(state.rows[view], 0, last) + by, 0, last)) };
}

function movedInTrace(state: AppState, by: number): AppState {
  const { matches } = state.model.trace;
  const last = Math.max(0, matches.length - 1);
  const index = clamp(selectedIndex(state) + by, 0, last);
  if (by === Infinity) return { ...state, follow: true };
  return { ...state, follow: false, selected: matches[index]?.seq ?? 0 };
}

const clamp = (value: number, least: number, most: number): number =>
  Math.min(most, Math.max(least, value));
