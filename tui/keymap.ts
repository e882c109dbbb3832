/** The keys, declared once: the dashboard, its help, its footer and its tests read them from here. */

export const VIEWS = [
  'overview',
  'pasids',
  'objects',
  'faults',
  'queues',
  'trace',
  'walkthrough',
] as const;
export type View = (typeof VIEWS)[number];

export const VIEW_TITLES: Readonly<Record<View, string>> = {
  overview: 'Overview',
  pasids: 'PASIDs',
  objects: 'Objects',
  faults: 'Faults',
  queues: 'Queues',
  trace: 'Trace',
  walkthrough: 'Walkthrough',
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
  | 'step-back'
  | 'phase'
  | 'phase-back'
  | 'cause'
  | 'cause-back'
  | 'beginning'
  | 'newest'
  | 'faster'
  | 'slower'
  | 'open'
  | 'address'
  | 'earlier-write'
  | 'later-write'
  | 'tours'
  | 'filter'
  | 'search'
  | 'next-match'
  | 'previous-match'
  | 'follow'
  | 'cancel'
  | 'accept'
  | 'erase'
  | 'help'
  | 'quit';

/** Who hears a key: everybody, lists, one view, or the line in which something is typed. */
export type Scope = 'always' | 'lists' | 'steps' | 'trace' | 'entry' | 'walkthrough' | 'typing';

/** Where the keys go: what is shown, whether it is opened, and whether a line is being typed. */
export interface Focus {
  readonly view: View;
  readonly opened: boolean;
  readonly typing: boolean;
}

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
    keys: {
      '1': 'overview',
      '2': 'pasids',
      '3': 'objects',
      '4': 'faults',
      '5': 'queues',
      '6': 'trace',
      '7': 'walkthrough',
      Tab: 'next-view',
      'Shift+Tab': 'previous-view',
    },
    written: '1..7 Tab Shift+Tab',
    help: 'a view, the next, the previous',
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
    keys: { '.': 'step', ',': 'step-back' },
    written: '. ,',
    help: 'one event on, one back',
    short: 'step',
  },
  {
    scope: 'steps',
    keys: { Right: 'step', l: 'step', Left: 'step-back', h: 'step-back' },
    written: '→← l h',
    help: 'the same',
  },
  {
    scope: 'always',
    keys: { n: 'phase', p: 'phase-back' },
    written: 'n p',
    help: 'to the end of a phase, and back',
    short: 'phase',
  },
  {
    scope: 'always',
    keys: { c: 'cause', C: 'cause-back' },
    written: 'c C',
    help: 'to what it led to, to its cause',
    short: 'cause',
  },
  {
    scope: 'always',
    keys: { '<': 'beginning', '>': 'newest' },
    written: '< >',
    help: 'to the beginning, to the end',
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
    keys: { Down: 'down', j: 'down', Up: 'up', k: 'up', PageDown: 'page-down', PageUp: 'page-up' },
    written: '↓↑ j k PgDn PgUp',
    help: 'a line, a page down and up',
    short: 'move',
  },
  {
    scope: 'lists',
    keys: { g: 'first', Home: 'first', G: 'last', End: 'last' },
    written: 'g G Home End',
    help: 'first, last line (which follows)',
  },
  {
    scope: 'lists',
    keys: { Enter: 'open' },
    written: 'Enter',
    help: 'open what the line is about',
    short: 'open',
  },
  {
    scope: 'entry',
    keys: { '[': 'earlier-write', ']': 'later-write' },
    written: '[ ]',
    help: 'an earlier write, a later one',
    short: 'write',
  },
  {
    scope: 'entry',
    keys: { a: 'address', '/': 'address' },
    written: 'a',
    help: 'type an address, see its walk',
    short: 'address',
  },
  {
    scope: 'trace',
    keys: { '/': 'filter' },
    written: '/',
    help: 'only events with these words',
    short: 'filter',
  },
  {
    scope: 'trace',
    keys: { s: 'search', m: 'next-match', M: 'previous-match' },
    written: 's m M',
    help: 'search, next and earlier match',
    short: 'search',
  },
  {
    scope: 'trace',
    keys: { f: 'follow' },
    written: 'f',
    help: 'follow the newest event, or stay',
  },
  {
    scope: 'walkthrough',
    keys: { Right: 'phase', l: 'phase', Left: 'phase-back', h: 'phase-back' },
    written: '→← l h',
    help: 'phase by phase',
    short: 'phase',
  },
  {
    scope: 'walkthrough',
    keys: { o: 'tours' },
    written: 'o',
    help: 'choose a tour',
    short: 'tours',
  },
  {
    scope: 'always',
    keys: { '?': 'help', Escape: 'cancel' },
    written: '? Esc',
    help: 'this help; close, drop',
    short: 'help',
  },
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
    help: 'keep what was typed',
    short: 'keep',
  },
  {
    scope: 'typing',
    keys: { Escape: 'cancel' },
    written: 'Esc',
    help: 'drop it',
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

/** The groups that are heard now. */
export function groupsFor({ view, opened, typing }: Focus): readonly KeyGroup[] {
  const scopes = new Set<Scope>(typing ? ['typing'] : ['always']);
  if (!typing) {
    if (view !== 'overview') scopes.add('lists');
    scopes.add(view === 'walkthrough' ? 'walkthrough' : 'steps');
    if (view === 'trace') scopes.add('trace');
    if (view === 'pasids' && opened) scopes.add('entry');
  }
  return KEYMAP.filter(({ scope }) => scopes.has(scope));
}

export function commandOf(name: string, focus: Focus): Command | undefined {
  for (const { keys } of groupsFor(focus)) {
    if (Object.hasOwn(keys, name)) return keys[name];
  }
  return undefined;
}

/** What Ink tells of a key press; the part of its `Key` that is used. */
export interface Pressed {
  readonly upArrow: boolean;
  readonly downArrow: boolean;
  readonly leftArrow: boolean;
  readonly rightArrow: boolean;
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
  if (key.leftArrow) return ['Left'];
  if (key.rightArrow) return ['Right'];
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
