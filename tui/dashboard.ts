import { render, useApp, useInput, useIsScreenReaderEnabled, useWindowSize } from 'ink';
import { createElement as h, type ReactElement, useEffect, useSyncExternalStore } from 'react';
import { commandOf, keyNames, typed } from './keymap.ts';
import { type Driver, Player, type Source } from './player.ts';
import { ServerDriver } from './server-driver.ts';
import { focusOf } from './state/app.ts';
import { Store } from './store.ts';
import type { Palette } from './theme.ts';
import { Reader } from './view/reader.ts';
import { Screen } from './view/screen.ts';
import { FRAME_ROWS, type Size, traceListRows } from './view/size.ts';

export type { Source } from './player.ts';
export type { Palette } from './theme.ts';

/** A run, and the event after which to begin, standing still; default: the end of its first phase. */
export interface Opened {
  readonly source: Source;
  readonly at?: number;
}

/** A run that can be chosen. */
export interface Tour {
  readonly name: string;
  readonly what: string;
  open(): Opened;
}

/** What is watched: a source, or a server by its address. */
export type Subject = Opened | { readonly url: string };

export interface DashboardOptions {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  readonly palette: Palette;
  /** Sentences instead of a picture, and time stands still until it is told to go on. */
  readonly screenReader?: boolean;
  readonly tours?: readonly Tour[];
  /** The tour that the subject is, if it is one of them. */
  readonly tour?: number;
  /** Ends it from outside (a signal). */
  readonly signal?: AbortSignal;
}

/**
 * Shows a run on the terminal until the user quits; the screen is then as it was before.
 * @throws what the source failed with, once the user has seen it and quit
 */
export async function showDashboard(subject: Subject, options: DashboardOptions): Promise<void> {
  const { stdin, stdout, palette, signal, screenReader = false, tours = [], tour = -1 } = options;
  const store = new Store();
  const stage = new Stage(store, tours);
  const app = render(h(App, { store, palette }), {
    stdin,
    stdout,
    alternateScreen: !screenReader,
    incrementalRendering: !screenReader,
    isScreenReaderEnabled: screenReader,
    interactive: true,
    exitOnCtrlC: false,
  });
  const leave = (): void => {
    app.unmount();
  };
  signal?.addEventListener('abort', leave);
  try {
    store.dispatch({ type: 'tours', tours: tours.map(({ name, what }) => ({ name, what })), tour });
    if (screenReader) store.dispatch({ type: 'play', play: { status: 'paused' } });
    stage.open(subject, tour);
    if (signal?.aborted === true) leave();
    await app.waitUntilExit();
  } finally {
    stage.close();
    signal?.removeEventListener('abort', leave);
    app.unmount();
  }
  if (stage.error !== undefined) throw stage.error;
}

/** Has one run on at a time: the one that was given, or the tour that was chosen. */
class Stage {
  readonly #store: Store;
  readonly #tours: readonly Tour[];
  #driver: Driver | undefined;
  #tour = -1;
  #unsubscribe: (() => void) | undefined;

  constructor(store: Store, tours: readonly Tour[]) {
    this.#store = store;
    this.#tours = tours;
  }

  get error(): Error | undefined {
    return this.#driver?.error;
  }

  open(subject: Subject, tour: number): void {
    this.#tour = tour;
    if (tour < 0 || 'url' in subject) this.#begin(subject);
    else {
      this.#store.dispatch({ type: 'command', command: 'walkthrough', page: 1 });
      this.#take(subject);
    }
    this.#unsubscribe = this.#store.subscribe(() => {
      const { tour: chosen } = this.#store.get();
      if (chosen === this.#tour) return;
      this.#tour = chosen;
      const next = this.#tours[chosen];
      if (next === undefined) return;
      this.#driver?.close();
      this.#take(next.open());
    });
  }

  close(): void {
    this.#unsubscribe?.();
    this.#driver?.close();
  }

  /** A tour, at its beginning. */
  #take(opened: Opened): void {
    const { at } = opened;
    this.#store.dispatch({ type: 'begin', ...(at !== undefined && { at }) });
    this.#begin(opened);
  }

  #begin(subject: Subject): void {
    this.#driver =
      'url' in subject
        ? new ServerDriver(this.#store, subject.url)
        : new Player(this.#store, subject.source);
    this.#driver.open();
  }
}

/** The state on the terminal, and the keys into the state. */
export function App({ store, palette }: { store: Store; palette: Palette }): ReactElement {
  const state = useSyncExternalStore(store.subscribe, store.get);
  const size = useWindowSize();
  const listens = useIsScreenReaderEnabled();
  const { exit } = useApp();
  useInput((input, key) => {
    for (const name of keyNames(input, key)) press(store, name, size);
  });
  useEffect(() => {
    if (state.quit) exit();
  }, [state.quit, exit]);
  return listens ? h(Reader, { state }) : h(Screen, { state, size, palette });
}

/** What a key does now: a command, or a character of what is being typed. */
export function press(store: Store, name: string, { columns, rows }: Size): void {
  const focus = focusOf(store.get());
  const command = commandOf(name, focus);
  if (command !== undefined) {
    const page = Math.max(1, traceListRows({ columns, rows: rows - FRAME_ROWS }) - 1);
    store.dispatch({ type: 'command', command, page });
    return;
  }
  const text = focus.typing ? typed(name) : undefined;
  if (text !== undefined) store.dispatch({ type: 'type', text });
}
