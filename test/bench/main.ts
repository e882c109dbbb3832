/**
 * `npm run bench`: what things cost, measured side by side in one run. Read the ratios: absolute
 * times are the machine's, not the model's.
 */
import { parseArgs } from 'node:util';
import { bridge } from './bridge.ts';
import { ioas } from './ioas.ts';
import { lifeCycle } from './life-cycle.ts';
import type { Figure, Group } from './measure.ts';
import { pasid } from './pasid.ts';
import { trace } from './trace.ts';
import { translation } from './translation.ts';

const GROUPS: readonly Group[] = [translation, lifeCycle, ioas, pasid, bridge, trace];

const HELP = `Usage: npm run bench -- [--only NAME]... [--quick] [--json]

  --only NAME  run this group only; may be given several times
  --quick      small sizes and short times
  --json       print {groups: [{name, about, figures: [{name, ratio, of, value, unit}]}]}
  --help       this text

Groups:
${GROUPS.map(({ name, about }) => `  ${name.padEnd(12)} ${about}`).join('\n')}
`;

const OPTIONS = {
  only: { type: 'string', multiple: true, default: [] as string[] },
  quick: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const;

class Usage extends Error {}

function read(): { groups: readonly Group[]; quick: boolean; json: boolean; help: boolean } {
  const parse = () => {
    try {
      return parseArgs({ options: OPTIONS }).values;
    } catch (error) {
      throw new Usage((error as Error).message);
    }
  };
  const { only, quick, json, help } = parse();
  const unknown = only.find((name) => !GROUPS.some((group) => group.name === name));
  if (unknown !== undefined) throw new Usage(`there is no group '${unknown}'`);
  const groups = only.length === 0 ? GROUPS : GROUPS.filter(({ name }) => only.includes(name));
  return { groups, quick, json, help };
}

/** A line of the terminal that the next one replaces; nothing where there is no terminal. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function show({ name, ratio, of, value, unit }: Figure): string {
  const amount = unit === 'ns' ? `${value.toFixed(0)} ns` : `${value.toFixed(0)} ${unit}`;
  const against = of === name ? '' : `  of ${of}`;
  return `${ratio.toFixed(2).padStart(10)} ${amount.padStart(16)}  ${name}${against}\n`;
}

async function main(): Promise<void> {
  const { groups, quick, json, help } = read();
  if (help) {
    process.stdout.write(HELP);
    return;
  }
  const all: { name: string; about: string; figures: readonly Figure[] }[] = [];
  for (const { name, about, run } of groups) {
    progress(name);
    const figures = await run({ quick, progress: (text) => progress(`${name}: ${text}`) });
    progress('');
    all.push({ name, about, figures });
    if (!json) process.stdout.write(`${name}: ${about}\n${figures.map(show).join('')}`);
  }
  if (json) process.stdout.write(`${JSON.stringify({ groups: all })}\n`);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Usage)) throw error;
  process.stderr.write(`${error.message}\n\n${HELP}`);
  process.exitCode = 2;
}
