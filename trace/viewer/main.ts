/** The page of `vsva serve`: one more viewer of the stream. */
import { Chain } from './chain.ts';
import { Connection } from './connection.ts';
import { Controls } from './controls.ts';
import { Details } from './details.ts';
import { byId, el } from './dom.ts';
import { listenToKeys } from './keys.ts';
import { EventList } from './list.ts';
import { Model } from './model.ts';
import { Past } from './past.ts';
import { hardware, objects, pasids, Walks } from './tables.ts';
import { Timeline } from './timeline.ts';

const model = new Model();
const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
const connection = new Connection(`${scheme}//${location.host}/${location.search}`, {
  hello: (hello, layouts) => {
    model.greet(hello, layouts);
  },
  snapshot: (state, seq) => {
    model.restart(state, seq);
    past.fill();
  },
  events: (records, ends, to) => {
    model.add(records, ends, to);
  },
  newest: (seq) => {
    model.newest = Math.max(model.newest, seq);
    model.changed();
  },
  dropped: (total) => {
    model.dropped = total;
    model.changed();
  },
  status: (status) => {
    model.status = status;
    model.changed();
  },
  lost: () => {
    model.link = 'lost';
    model.changed();
  },
  refused: (message) => {
    model.refusal = message;
    model.changed();
  },
});

const past = new Past(model, connection);
const controls = new Controls(model, connection);
new Chain(model);
const timeline = new Timeline(model);
const list = new EventList(model, past);
const details = new Details(model, connection);
const walks = new Walks(model);

const TABS: readonly { readonly name: string; readonly render: () => Node[] }[] = [
  { name: 'Event', render: () => details.render() },
  { name: 'PASIDs', render: () => pasids(model) },
  { name: 'Objects', render: () => objects(model) },
  { name: 'Hardware', render: () => hardware(model) },
  { name: 'Walk', render: () => walks.render() },
];
let tab = 0;
const buttons: readonly HTMLButtonElement[] = TABS.map(({ name }, i) => {
  const button = el(
    'button',
    { role: 'tab', id: `tab-${i + 1}`, 'aria-controls': 'panel' },
    `${i + 1} ${name}`,
  );
  button.addEventListener('click', () => show(i));
  // Among tabs the arrows belong to them.
  button.addEventListener('keydown', (event) => {
    const by = event.key === 'ArrowRight' ? 1 : event.key === 'ArrowLeft' ? -1 : 0;
    if (by === 0) return;
    event.stopPropagation();
    show((i + by + TABS.length) % TABS.length);
    buttons[tab]?.focus();
  });
  return button;
});
byId('tabs').append(...buttons);

function show(i: number): void {
  tab = i;
  model.changed();
}

/** What is open and where the cursor is survive a new picture. */
function renderPanel(): void {
  buttons.forEach((button, i) => {
    button.setAttribute('aria-selected', String(i === tab));
    button.tabIndex = i === tab ? 0 : -1;
  });
  const panel = byId('panel');
  // What is being clicked stays where it is.
  if (panel.matches(':active')) return;
  panel.setAttribute('aria-labelledby', `tab-${tab + 1}`);
  if (
    panel.contains(document.activeElement) &&
    document.activeElement instanceof HTMLInputElement
  ) {
    if (tab === 4) return;
  }
  const open = new Set(
    [...panel.querySelectorAll<HTMLElement>('details[open]')].map(({ dataset }) => dataset['key']),
  );
  const top = panel.scrollTop;
  panel.replaceChildren(...TABS[tab]!.render());
  for (const entry of panel.querySelectorAll<HTMLDetailsElement>('details')) {
    entry.open = open.has(entry.dataset['key']);
  }
  panel.scrollTop = top;
}
model.onChange(renderPanel);
addEventListener('pointerup', () => model.changed());

function move(by: number): void {
  model.move(by);
  timeline.reveal();
}

listenToKeys([
  { keys: ['j', 'ArrowDown'], label: 'next event', act: () => move(1) },
  { keys: ['k', 'ArrowUp'], label: 'previous event', act: () => move(-1) },
  { keys: ['PageDown'], label: 'a screen on', act: () => move(list.rows) },
  { keys: ['PageUp'], label: 'a screen back', act: () => move(-list.rows) },
  { keys: ['f'], label: 'follow the newest event', act: () => model.follow() },
  {
    keys: ['c'],
    label: 'to the cause of the event',
    act: () => model.select(model.current?.cause || model.selected),
  },
  { keys: ['/'], label: 'search', act: () => list.search() },
  { keys: [' '], label: 'pause or go on', act: () => controls.toggle() },
  { keys: ['n'], label: 'one event', act: () => controls.step('event') },
  { keys: ['p'], label: 'to the next phase', act: () => controls.step('phase') },
  { keys: ['b'], label: 'back by one event', act: () => controls.back() },
  {
    keys: ['s'],
    label: 'the state as it was at the selected event',
    act: () => controls.seek(model.selected),
  },
  { keys: ['Home'], label: 'to the beginning', act: () => controls.seek(0) },
  { keys: ['End'], label: 'to now', act: () => controls.now() },
  { keys: ['+', '='], label: 'zoom in', act: () => timeline.zoom(0.7) },
  { keys: ['-'], label: 'zoom out', act: () => timeline.zoom(1.4) },
  { keys: ['h', 'ArrowLeft'], label: 'timeline back', act: () => timeline.pan(-0.3) },
  { keys: ['l', 'ArrowRight'], label: 'timeline on', act: () => timeline.pan(0.3) },
  {
    keys: ['t'],
    label: 'timeline by order or by virtual time',
    act: () => {
      timeline.byTime = !timeline.byTime;
      timeline.draw();
    },
  },
  ...TABS.map(({ name }, i) => ({ keys: [String(i + 1)], label: name, act: () => show(i) })),
  { keys: ['?'], label: 'this help', act: () => (byId('keys') as HTMLDialogElement).showModal() },
]);

connection.open();
