import test from 'ava';
import type { Report } from './report.ts';
import { jsonOf, readmeSection, tableOf, totalsOf, withSection } from './report.ts';

const REPORT: Report = {
  release: '6.12',
  kernel: '6.12.1',
  defines: ['A=1'],
  suites: [
    {
      name: 'one',
      cases: [
        { name: 'f.a', outcome: 'pass', reason: '', ms: 12.34 },
        { name: 'f.long_name', outcome: 'fail', reason: 'because', ms: 1500 },
        { name: 'g.b', outcome: 'skip', reason: 'absent', ms: 0 },
      ],
    },
  ],
};

test('one line a case, and the sums', (t) => {
  t.is(
    tableOf(REPORT, false),
    [
      'suite  case                   time  reason',
      'one    f.a          pass    0.01 s',
      'one    f.long_name  fail    1.50 s  because',
      'one    g.b          skip    0.00 s  absent',
      'Linux 6.12.1: 1 passed, 1 failed, 1 skipped',
      '',
    ].join('\n'),
  );
});

test('colour changes no text', (t) => {
  const coloured = tableOf(REPORT, true);
  t.true(coloured.includes('\u001b['));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape is what is removed
  t.is(coloured.replace(/\u001b\[\d+m/g, ''), tableOf(REPORT, false));
});

test('JSON: suites and totals', (t) => {
  const { suites, totals } = JSON.parse(jsonOf(REPORT)) as Record<string, unknown>;
  t.deepEqual(totals, { pass: 1, fail: 1, skip: 1 });
  t.deepEqual(suites, [
    {
      name: 'one',
      cases: [
        { name: 'f.a', result: 'pass', ms: 12.3 },
        { name: 'f.long_name', result: 'fail', reason: 'because', ms: 1500 },
        { name: 'g.b', result: 'skip', reason: 'absent', ms: 0 },
      ],
      totals: { pass: 1, fail: 1, skip: 1 },
    },
  ]);
  t.deepEqual(totalsOf([]), { pass: 0, fail: 0, skip: 0 });
});

test('the README section counts by fixture and names what did not pass', (t) => {
  // Columns have one width.
  const section = readmeSection(REPORT).replaceAll(/ +/g, ' ');
  t.true(section.includes('| one | f | 1 | 1 | 0 |'));
  t.true(section.includes('| one | g | 0 | 0 | 1 |'));
  t.true(section.includes('- fail: `f.long_name`: because'));
  t.false(section.includes('1.50'));
});

test('the section goes between its markers, and there only', (t) => {
  const marked =
    'a\n<!-- conformance: made by `npm run conformance -- --update-readme` -->\nold\n<!-- /conformance -->\nz\n';
  const once = withSection(marked, 'new')!;
  t.true(once.startsWith('a\n<!-- conformance'));
  t.true(once.endsWith('<!-- /conformance -->\nz\n'));
  t.false(once.includes('old'));
  t.is(withSection(once, 'new'), once);
  t.is(withSection('no markers', 'new'), undefined);
});
