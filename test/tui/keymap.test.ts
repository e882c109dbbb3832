import test from 'ava';
import {
  type Command,
  commandOf,
  type Focus,
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
  leftArrow: false,
  rightArrow: false,
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
  objects: true,
  faults: true,
  queues: true,
  trace: true,
  walkthrough: true,
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
  'step-back': true,
  phase: true,
  'phase-back': true,
  cause: true,
  'cause-back': true,
  beginning: true,
  newest: true,
  faster: true,
  slower: true,
  open: true,
  address: true,
  'earlier-write': true,
  'later-write': true,
  tours: true,
  filter: true,
  search: true,
  'next-match': true,
  'previous-match': true,
  follow: true,
  cancel: true,
  accept: true,
  erase: true,
  help: true,
  quit: true,
};

const FOCI: readonly Focus[] = VIEWS.flatMap((view) =>
  [false, true].flatMap((opened) => [false, true].map((typing) => ({ view, opened, typing }))),
);

const at = (view: Focus['view'], typing = false): Focus => ({ view, opened: false, typing });

/** What Ink tells for each key that is no character. */
const PRESSES: Readonly<Record<string, Partial<Pressed> & { readonly input?: string }>> = {
  Tab: { tab: true },
  'Shift+Tab': { tab: true, shift: true },
  Up: { upArrow: true },
  Down: { downArrow: true },
  Left: { leftArrow: true },
  Right: { rightArrow: true },
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
  for (const focus of FOCI) {
    const names = groupsFor(focus).flatMap(({ keys }) => Object.keys(keys));
    t.is(new Set(names).size, names.length, `${focus.view} ${names.join(' ')}`);
  }
});

test('quit and help are heard in every view, quit also while typing', (t) => {
  for (const focus of FOCI) {
    t.is(commandOf('Ctrl+C', focus), 'quit');
    t.is(commandOf('q', focus), focus.typing ? undefined : 'quit');
    t.is(commandOf('?', focus), focus.typing ? undefined : 'help');
  }
});

test('every key is heard somewhere', (t) => {
  const heard = new Set(FOCI.flatMap((focus) => groupsFor(focus)));
  for (const group of KEYMAP) t.true(heard.has(group), group.written);
});

test('while something is typed, letters are letters', (t) => {
  for (const name of ['q', 'j', '?', '1', 'Space']) {
    t.is(commandOf(name, at('trace', true)), undefined);
  }
  t.is(typed('Space'), ' ');
  t.is(typed('q'), 'q');
  t.is(typed('Enter'), undefined);
  t.is(typed('\u001b'), undefined);
});

test('keys that come at once are heard one by one; chords are not taken for letters', (t) => {
  t.deepEqual(keyNames('jj .\r', NONE), ['j', 'j', 'Space', '.', 'Enter']);
  t.deepEqual(keyNames('q', { ...NONE, meta: true }), []);
  t.deepEqual(keyNames('q', { ...NONE, ctrl: true }), ['Ctrl+Q']);
  t.is(commandOf('constructor', at('trace')), undefined);
});
