// Line and branch coverage by folder, from the summary that c8 wrote.
import { readFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import * as z from 'zod';

const Count = z.object({ total: z.number(), covered: z.number() });
const Summary = z.record(z.string(), z.object({ lines: Count, branches: Count }));

type Totals = z.infer<typeof Summary>[string];

/** The room a file is in: two levels, or one where the file lies at the top of its folder. */
function roomOf(path: string): string {
  return path.split('/').slice(0, -1).slice(0, 2).join('/');
}

function percent({ total, covered }: z.infer<typeof Count>): string {
  return total === 0 ? '-' : ((100 * covered) / total).toFixed(1);
}

function add(sum: Totals, { lines, branches }: Totals): Totals {
  return {
    lines: {
      total: sum.lines.total + lines.total,
      covered: sum.lines.covered + lines.covered,
    },
    branches: {
      total: sum.branches.total + branches.total,
      covered: sum.branches.covered + branches.covered,
    },
  };
}

const root = resolve(import.meta.dirname, '..');
const { total, ...files } = Summary.parse(
  JSON.parse(readFileSync(resolve(root, 'coverage/coverage-summary.json'), 'utf8')),
);

const rooms = new Map<string, Totals>();
for (const [path, totals] of Object.entries(files)) {
  const room = roomOf(relative(root, path));
  const sum = rooms.get(room);
  rooms.set(room, sum === undefined ? totals : add(sum, totals));
}

const row = (name: string, lines: string, branches: string): void => {
  console.log(`${name.padEnd(24)}${lines.padStart(10)}${branches.padStart(12)}`);
};
row('folder', 'lines %', 'branches %');
for (const [room, { lines, branches }] of [...rooms].sort(([a], [b]) => (a < b ? -1 : 1))) {
  row(room, percent(lines), percent(branches));
}
if (total !== undefined) row('all', percent(total.lines), percent(total.branches));
