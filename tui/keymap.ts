/** The keys, declared once: the dashboard, its help, its footer and its tests read them from here. */

export const VIEWS = ['overview', 'pasids', 'trace'] as const;
export type View = (typeof VIEWS)[number];

export const VIEW_TITLES: Readonly<Record<View, string>> = {
  overview: 'Overview',
  pasids: 'PASIDs',
  trace: 'Trace',
};

export type Command =
  | View
  | 'next-view'
  | 'previous-view'
  | 'down'
  | 'up'
  | 'page-down'
  | 'page-up'
  | 'first'
  | 'last'
  | 'pause'
  | 'step'
  | 'phase'
  | 'faster'
  | 'slower'
  | 'filter'
  | 'follow'
  | 'cancel'
  | 'accept'
  | 'erase'
  | 'help'
  | 'quit';

/** Who hears a key: everybody, the lists, the trace, or the line in which a filter is typed. */
export type Scope = 'always' | 'lists' | 'trace' | 'typing';

/** Keys that belong together, one line of the help. */
export interface KeyGroup {
  readonly scope: Scope;
  /** Key names as `keyNames` gives them, and what they do. */
  readonly keys: Readonly<Record<string, Command>>;
  /** How the keys are written for people. */
  readonly written: string;
  readonly help: string;
  /** One or two words for the footer; groups without are in the help only. */
  readonly short?: string;
}

export const KEYMAP: readonly KeyGroup[] = [
  {
    scope: 'always',
    keys: { '1': 'overview', '2': 'pasids', '3': 'trace' },
    written: '1 2 3',
    help: 'Overview, PASIDs, Trace',
  },
  {
    scope: 'always',
    keys: { Tab: 'next-view', 'Shift+Tab': 'previous-view' },
    written: 'Tab Shift+Tab',
    help: 'next and previous view',
    short: 'view',
  },
  {
    scope: 'always',
    keys: { Space: 'pause' },
    written: 'Space',
    help: 'stop the world, let it run again',
    short: 'pause',
  },
  {
    scope: 'always',
    keys: { '.': 'step' },
    written: '.',
    help: 'one event, then stop',
    short: 'step',
  },
  {
    scope: 'always',
    keys: { n: 'phase' },
    written: 'n',
    help: 'to the next phase, then stop',
    short: 'phase',
  },
  {
    scope: 'always',
    keys: { '+': 'faster', '=': 'faster', '-': 'slower', _: 'slower' },
    written: '+ -',
    help: 'faster, slower',
    short: 'speed',
  },
  {
    scope: 'lists',
    keys: { Down: 'down', j: 'down', Up: 'up', k: 'up' },
    written: '↓↑ j k',
    help: 'next and previous line',
    short: 'move',
  },
  {
    scope: 'lists',
    keys: { PageDown: 'page-down', PageUp: 'page-up' },
    written: 'PgDn PgUp',
    help: 'a page down, a page up',
  },
  {
    scope: 'lists',
    keys: { g: 'first', Home: 'first', G: 'last', End: 'last' },
    written: 'g G Home End',
    help: 'first and last line; the end follows',
  },
  {
    scope: 'trace',
    keys: { '/': 'filter' },
    written: '/',
    help: 'show only events with these words',
    short: 'filter',
  },
  {
    scope: 'trace',
    keys: { f: 'follow' },
    written: 'f',
    help: 'follow the newest event, or stay',
    short: 'follow',
  },
  {
    scope: 'always',
    keys: { Escape: 'cancel' },
    written: 'Esc',
    help: 'close the help, drop the filter',
  },
  { scope: 'always', keys: { '?': 'help' }, written: '?', help: 'this help', short: 'help' },
  {
    scope: 'always',
    keys: { q: 'quit', 'Ctrl+C': 'quit' },
    written: 'q Ctrl+C',
    help: 'quit',
    short: 'quit',
  },
  {
    scope: 'typing',
    keys: { Enter: 'accept' },
    written: 'Enter',
    help: 'keep the filter',
    short: 'keep',
  },
  {
    scope: 'typing',
    keys: { Escape: 'cancel' },
    written: 'Esc',
    help: 'drop the filter',
    short: 'drop',
  },
  {
    scope: 'typing',
    keys: { Backspace: 'erase' },
    written: 'Backspace',
    help: 'erase a character',
    short: 'erase',
  },
  { scope: 'typing', keys: { 'Ctrl+C': 'quit' }, written: 'Ctrl+C', help: 'quit' },
];

const SCOPES: Readonly<Record<View, readonly Scope[]>> = {
  overview: ['always'],
  pasids: ['always', 'lists'],
  trace: ['always', 'lists', 'trace'],
};

/** The groups that are heard now. */
export const groupsFor = (view: View, typing: boolean): readonly KeyGroup[] =>
  KEYMAP.filter(({ scope }) => (typing ? scope === 'typing' : SCOPES[view].includes(scope)));

export function commandOf(name: string, view: View, typing: boolean): Command | undefined {
  for (const { keys } of groupsFor(view, typing)) {
    if (Object.hasOwn(keys, name)) return keys[name];
  }
  return undefined;
}

/** What Ink tells of a key press; the part of its `Key` that is used. */
export interface Pressed {
  readonly upArrow: boolean;
  readonly downArrow: boolean;
  readonly pageDown: boolean;
  readonly pageUp: boolean;
  readonly home: boolean;
  readonly end: boolean;
  readonly return: boolean;
  readonly escape: boolean;
  readonly ctrl: boolean;
  readonly shift: boolean;
  readonly tab: boolean;
  readonly backspace: boolean;
  readonly delete: boolean;
  readonly meta: boolean;
}

/**
 * The names of what was pressed: one, or one for each character of a text that came at once (typed
 * faster than it was read, or pasted).
 */
export function keyNames(input: string, key: Pressed): readonly string[] {
  if (key.escape) return ['Escape'];
  if (key.upArrow) return ['Up'];
  if (key.downArrow) return ['Down'];
  if (key.pageUp) return ['PageUp'];
  if (key.pageDown) return ['PageDown'];
  if (key.home) return ['Home'];
  if (key.end) return ['End'];
  if (key.return) return ['Enter'];
  if (key.tab) return [key.shift ? 'Shift+Tab' : 'Tab'];
  // Many terminals send DEL for the key above Enter.
  if (key.backspace || key.delete) return ['Backspace'];
  if (key.ctrl) return input === '' ? [] : [`Ctrl+${input.toUpperCase()}`];
  if (key.meta) return [];
  return Array.from(input, (character) => CHARACTERS[character] ?? character);
}

const CHARACTERS: Readonly<Record<string, string>> = {
  ' ': 'Space',
  '\r': 'Enter',
  '\n': 'Enter',
  '\t': 'Tab',
  '\u0003': 'Ctrl+C',
  '\b': 'Backspace',
  '\u007f': 'Backspace',
};

/** The character that a key name types, if it types one. */
export function typed(name: string): string | undefined {
  if (name === 'Space') return ' ';
  return /^\P{C}$/u.test(name) ? name : undefined;
}
