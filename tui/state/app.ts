import type { EventRecord } from '../../trace/event.ts';
import { type Command, VIEWS, type View } from '../keymap.ts';
import { EMPTY_MODEL, type Model, reduceModel } from './model.ts';
import { firstFrom, withFilter } from './trace.ts';

/** Events per second of real time; the last is as fast as it goes. */
export const SPEEDS = [1, 5, 20, 100, 500, 2500, Infinity] as const;

const FIRST_SPEED = 4;

/** Characters of a filter at most. */
const MOST_FILTER = 80;

/** `want`: what the world may still do before it stops again. */
export interface PlayState {
  readonly status: 'running' | 'paused' | 'ended' | 'failed';
  readonly want: 'event' | 'phase' | undefined;
  /** Index in SPEEDS. */
  readonly speed: number;
  /** Why the world failed, else empty. */
  readonly reason: string;
}

export interface AppState {
  readonly model: Model;
  readonly play: PlayState;
  readonly view: View;
  readonly help: boolean;
  /** The filter is being typed. */
  readonly typing: boolean;
  /** The selected event, 0 for none; ignored while following. */
  readonly selected: number;
  readonly follow: boolean;
  /** The selected line of the PASID table. */
  readonly row: number;
  readonly quit: boolean;
}

export type Action =
  | { readonly type: 'events'; readonly batch: readonly EventRecord[] }
  | { readonly type: 'ended' }
  | { readonly type: 'failed'; readonly reason: string }
  /** What was wanted (an event, a phase) has happened. */
  | { readonly type: 'arrived' }
  /** `page`: lines that the view shows, for paging. */
  | { readonly type: 'command'; readonly command: Command; readonly page: number }
  | { readonly type: 'type'; readonly text: string };

export const FIRST_STATE: AppState = {
  model: EMPTY_MODEL,
  play: { status: 'running', want: undefined, speed: FIRST_SPEED, reason: '' },
  view: 'overview',
  help: false,
  typing: false,
  selected: 0,
  follow: true,
  row: 0,
  quit: false,
};

export function reduce(state: AppState, action: Action): AppState {
  switch (action.type) {
    case 'events':
      return { ...state, model: reduceModel(state.model, action.batch) };
    case 'ended':
      return { ...state, play: { ...state.play, status: 'ended', want: undefined } };
    case 'failed':
      return {
        ...state,
        play: { ...state.play, status: 'failed', want: undefined, reason: action.reason },
      };
    case 'arrived':
      return { ...state, play: { ...state.play, want: undefined } };
    case 'type':
      return filtered(state, (filterOf(state) + action.text).slice(0, MOST_FILTER));
    case 'command':
      return obey(state, action.command, action.page);
  }
}

const filterOf = (state: AppState): string => state.model.trace.filter;

function obey(state: AppState, command: Command, page: number): AppState {
  switch (command) {
    case 'overview':
    case 'pasids':
    case 'trace':
      return { ...state, view: command, help: false };
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
      return played(state, state.play.status === 'running' ? 'paused' : 'running', undefined);
    case 'step':
      return played(state, 'paused', 'event');
    case 'phase':
      return played(state, 'paused', 'phase');
    case 'faster':
      return hurried(state, 1);
    case 'slower':
      return hurried(state, -1);
    case 'filter':
      return { ...state, typing: true, help: false };
    case 'accept':
      return { ...state, typing: false };
    case 'erase':
      return filtered(state, Array.from(filterOf(state)).slice(0, -1).join(''));
    case 'cancel':
      if (state.help) return { ...state, help: false };
      return filtered({ ...state, typing: false }, '');
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

function turned(state: AppState, by: number): AppState {
  const index = (VIEWS.indexOf(state.view) + by + VIEWS.length) % VIEWS.length;
  return { ...state, view: VIEWS[index]!, help: false };
}

/** What has ended stays so: there is nothing left to let run. */
function played(state: AppState, status: 'running' | 'paused', want: PlayState['want']): AppState {
  const { play } = state;
  if (play.status === 'ended' || play.status === 'failed') return state;
  return { ...state, play: { ...play, status, want } };
}

function hurried(state: AppState, by: number): AppState {
  const speed = Math.min(SPEEDS.length - 1, Math.max(0, state.play.speed + by));
  return { ...state, play: { ...state.play, speed } };
}

function filtered(state: AppState, filter: string): AppState {
  if (filter === filterOf(state)) return state;
  const { model } = state;
  return { ...state, model: { ...model, trace: withFilter(model.trace, filter) } };
}

/** Index of the selected event among the matches, -1 when there are none. */
export function selectedIndex({ model, follow, selected }: AppState): number {
  const { matches } = model.trace;
  const last = matches.length - 1;
  return follow ? last : Math.min(last, firstFrom(matches, selected));
}

const selectedSeq = (state: AppState): number =>
  state.model.trace.matches[selectedIndex(state)]?.seq ?? 0;

/** Moves the selection of the view; leaving the end of the trace ends following, reaching it begins it. */
function moved(state: AppState, by: number): AppState {
  if (state.view === 'pasids') {
    const last = Math.max(0, state.model.pasids.rows.size - 1);
    return { ...state, row: clamp(Math.min(state.row, last) + by, 0, last) };
  }
  if (state.view !== 'trace') return state;
  const { matches } = state.model.trace;
  const last = Math.max(0, matches.length - 1);
  const index = clamp(selectedIndex(state) + by, 0, last);
  if (by === Infinity) return { ...state, follow: true };
  return { ...state, follow: false, selected: matches[index]?.seq ?? 0 };
}

const clamp = (value: number, least: number, most: number): number =>
  Math.min(most, Math.max(least, value));
