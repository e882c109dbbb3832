/**
 * Which tests show which rule: reads the test files of this folder for their rules, and writes
 * docs/vtd-coverage.md (`node test/devices/vtd/coverage.ts`).
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { COLLECTOR, NOT_MODELLED, type RuleTest, rules } from './rules.ts';

const FOLDER = new URL('./', import.meta.url);
export const DOCUMENT: URL = new URL('../../../docs/vtd-coverage.md', import.meta.url);

export interface Shown extends RuleTest {
  /** File name in this folder. */
  readonly file: string;
}

/** Every rule test of the folder. The files run, but declare no test. */
export async function collect(): Promise<readonly Shown[]> {
  const place = globalThis as { [COLLECTOR]?: RuleTest[] | undefined };
  const list: RuleTest[] = [];
  place[COLLECTOR] = list;
  const shown: Shown[] = [];
  const files = readdirSync(FOLDER).filter((name) => name.endsWith('.test.ts'));
  for (const file of files.sort()) {
    const url = new URL(file, FOLDER);
    if (!/from '\.\/rule\.ts'/.test(readFileSync(url, 'utf8'))) continue;
    list.length = 0;
    await import(url.href);
    for (const one of list) shown.push({ ...one, file });
  }
  place[COLLECTOR] = undefined;
  return shown;
}

/** How many titles of a file are named before the rest is counted. */
const NAMED = 3;

/** The document. */
export function render(shown: readonly Shown[]): string {
  const lines = [
    '# What the VT-d unit keeps of the specification',
    '',
    'Generated from the tests by `npm run docs:vtd`. Each rule with its section and the tests that',
    'show it; they drive the unit through registers, memory and requests only. The tests are in',
    '`test/devices/vtd`.',
    '',
    '| Rule | Section | What it says | Shown by |',
    '|---|---|---|---|',
  ];
  for (const [id, { section, text }] of rules) {
    lines.push(`| ${id} | ${section} | ${cell(text)} | ${cell(tests(id, shown))} |`);
  }
  lines.push('', '## Not modelled', '', '| Section | What | Why |', '|---|---|---|');
  for (const [section, text, why] of NOT_MODELLED) {
    lines.push(`| ${section} | ${cell(text)} | ${cell(why)} |`);
  }
  return `${lines.join('\n')}\n`;
}

function tests(id: string, shown: readonly Shown[]): string {
  const of = shown.filter(({ ids }) => ids.some((one) => one === id));
  const files = [...new Set(of.map(({ file }) => file))];
  return files
    .map((file) => {
      const titles = of.filter((one) => one.file === file).map(({ title }) => title);
      const more = titles.length > NAMED ? `; and ${titles.length - NAMED} more` : '';
      return `\`${file}\`: ${titles.slice(0, NAMED).join('; ')}${more}`;
    })
    .join('<br>');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(DOCUMENT, render(await collect()));
}
