/**
 * Draws docs/screens, and the screens in README.md, from a real run, as `vsva tui` shows it: `npm run screens`. With --check it only
 * says whether they are what a run shows now.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { renderToString } from 'ink';
import { createElement as h } from 'react';
import type { EventRecord } from '../../trace/event.ts';
import type { Command } from '../../tui/keymap.ts';
import { type AppState, FIRST_STATE, reduce } from '../../tui/state/app.ts';
import { Screen } from '../../tui/view/screen.ts';
import { recordRun } from './events.ts';

const DIR = new URL('../../docs/screens/', import.meta.url);

const run = recordRun();

/** The state after the last event before the first one of this name. */
const before = (name: string): AppState => {
  const events = run.slice(
    0,
    run.findIndex(({ def }) => def.name === name),
  );
  return paused(events);
};

const paused = (batch: readonly EventRecord[]): AppState =>
  reduce(reduce(FIRST_STATE, { type: 'events', batch }), {
    type: 'play',
    play: { status: 'paused' },
  });

const after = (state: AppState, ...commands: Command[]): AppState =>
  commands.reduce((now, command) => reduce(now, { type: 'command', command, page: 10 }), state);

const copied = before('guest:munmap');
const answered = before('guest:page_group_response');
const unbound = before('guest:iommu_sva_unbind_device');

interface Shot {
  readonly state: AppState;
  readonly columns: number;
  readonly rows: number;
}

export const SHOTS: Readonly<Record<string, Shot>> = {
  overview: { state: copied, columns: 100, rows: 30 },
  entry: { state: after(unbound, 'pasids', 'last', 'open'), columns: 100, rows: 30 },
  walk: {
    state: reduce(after(copied, 'pasids', 'last', 'open', 'address'), {
      type: 'type',
      text: '0x7f00fc055000',
    }),
    columns: 100,
    rows: 30,
  },
  objects: { state: after(copied, 'objects'), columns: 100, rows: 24 },
  faults: { state: after(answered, 'faults'), columns: 100, rows: 24 },
  queues: { state: after(copied, 'queues'), columns: 100, rows: 24 },
  trace: { state: after(copied, 'trace'), columns: 100, rows: 30 },
  walkthrough: { state: after(unbound, 'walkthrough'), columns: 100, rows: 30 },
};

/** The screen as text, without what follows the last sign of a line. */
export function draw({ state, columns, rows }: Shot): string {
  const screen = h(Screen, { state, size: { columns, rows }, palette: 'none' });
  const text = renderToString(screen, { columns });
  const plain = text.replaceAll(/\u001b\[[\d;]*m/g, '');
  return `${plain
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n')
    .trimEnd()}\n`;
}

const README = new URL('../../README.md', import.meta.url);

/** The README with the screens it shows: what stands between `<!-- screen NAME -->` and its end. */
export const readmeWith = (text: string): string =>
  text.replaceAll(
    /(<!-- screen (\w+) -->\n)[^]*?(<!-- end of screen -->)/g,
    (whole, begin: string, name: string, end: string) => {
      const shot = SHOTS[name];
      return shot === undefined ? whole : `${begin}\n\`\`\`text\n${draw(shot)}\`\`\`\n\n${end}`;
    },
  );

if (import.meta.main) {
  const checks = process.argv.includes('--check');
  mkdirSync(DIR, { recursive: true });
  for (const [name, shot] of Object.entries(SHOTS)) {
    const path = new URL(`${name}.txt`, DIR);
    const text = draw(shot);
    if (!checks) writeFileSync(path, text);
    else if (readFileSync(path, 'utf8') !== text) {
      console.error(`docs/screens/${name}.txt is not what a run shows: npm run screens`);
      process.exitCode = 1;
    }
  }
  const readme = readFileSync(README, 'utf8');
  if (!checks) writeFileSync(README, readmeWith(readme));
  else if (readmeWith(readme) !== readme) {
    console.error('README.md shows other screens than a run: npm run screens');
    process.exitCode = 1;
  }
}
