import { render, useApp, useInput, useWindowSize } from 'ink';
import { createElement as h, type ReactElement, useEffect, useSyncExternalStore } from 'react';
import { commandOf, keyNames, typed } from './keymap.ts';
import { Player, type Source } from './player.ts';
import { Store } from './store.ts';
import { Screen } from './view/screen.ts';
import { FRAME_ROWS, type Size, traceListRows } from './view/size.ts';

export type { Source } from './player.ts';

export interface DashboardOptions {
  readonly stdin: NodeJS.ReadStream;
  readonly stdout: NodeJS.WriteStream;
  /** false: NO_COLOR. */
  readonly colours: boolean;
  /** Ends it from outside (a signal). */
  readonly signal?: AbortSignal;
}

/**
 * Shows a source on the terminal until the user quits; the screen is then as it was before.
 * @throws what the source failed with, once the user has seen it and quit
 */
export async function showDashboard(source: Source, options: DashboardOptions): Promise<void> {
  const { stdin, stdout, colours, signal } = options;
  const store = new Store();
  const player = new Player(store, source);
  const app = render(h(App, { store, colours }), {
    stdin,
    stdout,
    alternateScreen: true,
    incrementalRendering: true,
    interactive: true,
    exitOnCtrlC: false,
  });
  const leave = (): void => {
    app.unmount();
  };
  signal?.addEventListener('abort', leave);
  try {
    player.open();
    if (signal?.aborted === true) leave();
    await app.waitUntilExit();
  } finally {
    player.close();
    signal?.removeEventListener('abort', leave);
    app.unmount();
  }
  if (player.error !== undefined) throw player.error;
}

/** The state on the terminal, and the keys into the state. */
export function App({ store, colours }: { store: Store; colours: boolean }): ReactElement {
  const state = useSyncExternalStore(store.subscribe, store.get);
  const size = useWindowSize();
  const { exit } = useApp();
  useInput((input, key) => {
    for (const name of keyNames(input, key)) press(store, name, size);
  });
  useEffect(() => {
    if (state.quit) exit();
  }, [state.quit, exit]);
  return h(Screen, { state, size, colours });
}

/** What a key does now: a command, or a character of the filter. */
export function press(store: Store, name: string, { columns, rows }: Size): void {
  const { view, typing } = store.get();
  const command = commandOf(name, view, typing);
  if (command !== undefined) {
    const page = Math.max(1, traceListRows({ columns, rows: rows - FRAME_ROWS }) - 1);
    store.dispatch({ type: 'command', command, page });
    return;
  }
  const text = typing ? typed(name) : undefined;
  if (text !== undefined) store.dispatch({ type: 'type', text });
}
