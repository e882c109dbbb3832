/** The results as one table for people, as JSON for programs, and as a section for the README. */
import { styleText } from 'node:util';
import type { CaseResult, Outcome } from './ktap.ts';
import type { SuiteResult } from './suite.ts';

export interface Totals {
  readonly pass: number;
  readonly fail: number;
  readonly skip: number;
}

/** What was run, and how it ended. */
export interface Report {
  /** `6.12` */
  readonly release: string;
  /** `6.12.117` */
  readonly kernel: string;
  /** Names that were given to the compiler. */
  readonly defines: readonly string[];
  readonly suites: readonly SuiteResult[];
}

export function totalsOf(suites: readonly SuiteResult[]): Totals {
  const cases = suites.flatMap((suite) => suite.cases);
  const count = (wanted: Outcome): number =>
    cases.filter(({ outcome }) => outcome === wanted).length;
  return { pass: count('pass'), fail: count('fail'), skip: count('skip') };
}

export function jsonOf({ kernel, defines, suites }: Report): string {
  const report = {
    kernel,
    defines,
    suites: suites.map((suite) => ({
      name: suite.name,
      cases: suite.cases.map(({ name, outcome, reason, ms }) => ({
        name,
        result: outcome,
        ...(reason === '' ? {} : { reason }),
        ms: Math.round(ms * 10) / 10,
      })),
      totals: totalsOf([suite]),
    })),
    totals: totalsOf(suites),
  };
  return `${JSON.stringify(report, null, 2)}\n`;
}

const STYLE = { pass: 'green', fail: 'red', skip: 'yellow' } as const;

/** One line a case: suite, case, result, time, reason. */
export function tableOf({ kernel, suites }: Report, colour: boolean): string {
  const rows = suites.flatMap((suite) => suite.cases.map((each) => ({ suite: suite.name, each })));
  const width = (texts: readonly string[]): number =>
    texts.reduce((most, text) => Math.max(most, text.length), 0);
  const suiteWidth = width(['suite', ...suites.map(({ name }) => name)]);
  const nameWidth = width(['case', ...rows.map(({ each }) => each.name)]);
  const line = (suite: string, name: string, result: string, time: string, why: string): string =>
    `${suite.padEnd(suiteWidth)}  ${name.padEnd(nameWidth)}  ${result}  ${time.padStart(8)}  ${why}`
      .trimEnd()
      .concat('\n');
  const paint = (outcome: Outcome): string =>
    colour ? styleText(STYLE[outcome], outcome, { validateStream: false }) : outcome;
  const { pass, fail, skip } = totalsOf(suites);
  return [
    line('suite', 'case', '    ', 'time', 'reason'),
    ...rows.map(({ suite, each }) =>
      line(suite, each.name, paint(each.outcome), seconds(each.ms), each.reason),
    ),
    `Linux ${kernel}: ${pass} passed, ${fail} failed, ${skip} skipped\n`,
  ].join('');
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}

const BEGIN = '<!-- conformance: made by `npm run conformance -- --update-readme` -->';
const END = '<!-- /conformance -->';

/**
 * The results by fixture, and every case that did not pass by name. Nothing in it changes from run
 * to run.
 */
export function readmeSection(report: Report): string {
  const rows = report.suites.flatMap(({ name, cases }) =>
    [...byFixture(cases)].map(([fixture, own]) => {
      const { pass, fail, skip } = totalsOf([{ name, cases: own }]);
      return [name, fixture, `${pass}`, `${fail}`, `${skip}`];
    }),
  );
  const { pass, fail, skip } = totalsOf(report.suites);
  const others = report.suites.flatMap(({ cases }) =>
    cases
      .filter(({ outcome }) => outcome !== 'pass')
      .map(({ name, outcome, reason }) => `- ${outcome}: \`${name}\`: ${reason}`),
  );
  return [
    `The kernel's own iommufd selftests, Linux ${report.release}, unmodified (\`npm run conformance\`):`,
    '',
    ...aligned([
      ['suite', 'fixture', 'pass', 'fail', 'skip'],
      ...rows,
      ['all', '', `${pass}`, `${fail}`, `${skip}`],
    ]),
    ...(others.length === 0 ? [] : ['', ...others]),
  ].join('\n');
}

/** A table in Markdown as the formatter writes it: columns of one width, numbers (the third on) right. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const [head, ...body] = rows.map((row) =>
    line(row.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))),
  );
  const rule = line(
    widths.map((width, i) => (i < 2 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`)),
  );
  return [head!, rule, ...body];
}

function byFixture(cases: readonly CaseResult[]): Map<string, CaseResult[]> {
  const groups = new Map<string, CaseResult[]>();
  for (const each of cases) {
    const fixture = each.name.split('.')[0]!;
    groups.set(fixture, [...(groups.get(fixture) ?? []), each]);
  }
  return groups;
}

/** README with the section put between its two markers; undefined if it has no such markers. */
export function withSection(readme: string, section: string): string | undefined {
  const begin = readme.indexOf(BEGIN);
  const end = readme.indexOf(END, begin);
  if (begin < 0 || end < 0) return undefined;
  return `${readme.slice(0, begin)}${BEGIN}\n\n${section}\n\n${readme.slice(end)}`;
}
