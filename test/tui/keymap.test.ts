import test from 'ava';
import {
  type Command,
  commandOf,
  groupsFor,
  KEYMAP,
  keyNames,
  type Pressed,
  typed,
  VIEWS,
} from '../../tui/keymap.ts';

const NONE: Pressed = {
  upArrow: false,
  downArrow: false,
  pageDown: false,
  pageUp: false,
  home: false,
  end: false,
  return: false,
  escape: false,
  ctrl: false,
  shift: false,
  tab: false,
  backspace: false,
  delete: false,
  meta: false,
};

/** Every command there is; the type says when one is missing here. */
const COMMANDS: Readonly<Record<Command, true>> = {
  overview: true,
  pasids: true,
  trace: true,
  'next-view': true,
  'previous-view': true,
  down: true,
  up: true,
  'page-down': true,
  'page-up': true,
  first: true,
  last: true,
  pause: true,
  step: true,
  phase: true,
  faster: true,
  slower: true,
  filter: true,
  follow: true,
  cancel: true,
  accept: true,
  erase: true,
  help: true,
  quit: true,
};

/** What Ink tells for each key that is no character. */
const PRESSES: Readonly<Record<string, Partial<Pressed> & { readonly input?: string }>> = {
  Tab: { tab: true },
  'Shift+Tab': { tab: true, shift: true },
  Up: { upArrow: true },
  Down: { downArrow: true },
  PageUp: { pageUp: true },
  PageDown: { pageDown: true },
  Home: { home: true },
  End: { end: true },
  Escape: { escape: true },
  Enter: { return: true },
  Backspace: { delete: true },
  'Ctrl+C': { ctrl: true, input: 'c' },
  Space: { input: ' ' },
};

test('every command has a key', (t) => {
  const bound = new Set(KEYMAP.flatMap(({ keys }) => Object.values(keys)));
  for (const command of Object.keys(COMMANDS)) t.true(bound.has(command as Command), command);
});

test('every key can be pressed, and its name comes back', (t) => {
  for (const { keys } of KEYMAP) {
    for (const name of Object.keys(keys)) {
      const { input = '', ...press } = PRESSES[name] ?? { input: name };
      t.deepEqual(keyNames(input, { ...NONE, ...press }), [name]);
    }
  }
});

test('no key means two things at once', (t) => {
  for (const view of VIEWS) {
    for (const typing of [false, true]) {
      const names = groupsFor(view, typing).flatMap(({ keys }) => Object.keys(keys));
      t.is(new Set(names).size, names.length, `${view} ${names.join(' ')}`);
    }
  }
});

test('quit and help are heard in every view, quit also while typing', (t) => {
  for (const view of VIEWS) {
    t.is(commandOf('q', view, false), 'quit');
    t.is(commandOf('?', view, false), 'help');
    t.is(commandOf('Ctrl+C', view, false), 'quit');
    t.is(commandOf('Ctrl+C', view, true), 'quit');
  }
});

test('while a filter is typed, letters are letters', (t) => {
  for (const name of ['q', 'j', '?', '1', 'Space']) t.is(commandOf(name, 'trace', true), undefined);
  t.is(typed('Space'), ' ');
  t.is(typed('q'), 'q');
  t.is(typed('Enter'), undefined);
  t.is(typed('\u001b'), undefined);
});

test('keys that come at once are heard one by one; chords are not taken for letters', (t) => {
  t.deepEqual(keyNames('jj .\r', NONE), ['j', 'j', 'Space', '.', 'Enter']);
  t.deepEqual(keyNames('q', { ...NONE, meta: true }), []);
  t.deepEqual(keyNames('q', { ...NONE, ctrl: true }), ['Ctrl+Q']);
  t.is(commandOf('constructor', 'trace', false), undefined);
});
