import test from 'ava';
import { KtapReader } from './ktap.ts';
import { parseListing } from './listing.ts';

function read(text: string): KtapReader {
  const reader = new KtapReader(0);
  text.split('\n').forEach((line, index) => reader.line(line, (index + 1) * 10));
  return reader;
}

const SAMPLE = `TAP version 13
1..4
# Starting 4 tests from 2 test cases.
#  RUN           iommufd.simple_close ...
#            OK  iommufd.simple_close
ok 1 iommufd.simple_close
#  RUN           iommufd.cmd_fail ...
# /somewhere/selftests/iommu/iommufd.c:170:cmd_fail:Expected 0 (0) == rc (-1)
# cmd_fail: Test terminated by assertion
#          FAIL  iommufd.cmd_fail
not ok 2 iommufd.cmd_fail
#  RUN           iommufd.viommu ...
#      SKIP      no viommu
#            OK  iommufd.viommu
ok 3 iommufd.viommu # SKIP no viommu
#  RUN           iommufd.dies ...
about to die`;

test('a case is what its line says; a failed one carries what it complained of', (t) => {
  const reader = read(SAMPLE);
  t.is(reader.plan, 4);
  t.deepEqual(
    [...reader.results.values()].map(({ name, outcome, reason }) => ({ name, outcome, reason })),
    [
      { name: 'iommufd.simple_close', outcome: 'pass', reason: '' },
      {
        name: 'iommufd.cmd_fail',
        outcome: 'fail',
        reason: 'iommufd.c:170:cmd_fail:Expected 0 (0) == rc (-1)',
      },
      { name: 'iommufd.viommu', outcome: 'skip', reason: 'no viommu' },
    ],
  );
});

test('a case lasts from the end of the one before', (t) => {
  const { results } = read(SAMPLE);
  t.is(results.get(1)!.ms, 40);
  t.is(results.get(2)!.ms, 50);
});

test('a case that has begun and not ended is known, with what it said', (t) => {
  const reader = read(SAMPLE);
  t.is(reader.running, 'iommufd.dies');
  t.is(reader.said, 'about to die');
});

test('a number twice or outside the plan is no result of the plan', (t) => {
  const reader = read('1..2\nok 1 a\nnot ok 1 a\nok 3 c');
  t.deepEqual(reader.strays, ['1 a', '3 c']);
  t.is(reader.results.get(1)!.outcome, 'pass');
});

test('directives: an expected failure passes, a skip needs no reason', (t) => {
  const { results } = read('1..3\nok 1 - a # XFAIL known\nok 2 b # SKIP\nnot ok 3 c # TODO later');
  t.deepEqual(
    [...results.values()].map(({ name, outcome }) => [name, outcome]),
    [
      ['a', 'pass'],
      ['b', 'skip'],
      ['c', 'fail'],
    ],
  );
});

test('a program may skip everything', (t) => {
  const reader = read('TAP version 13\n1..0 # SKIP no kernel');
  t.is(reader.plan, 0);
  t.is(reader.skippedAll, 'no kernel');
});

test('noise is neither a plan nor a result', (t) => {
  const reader = read('okay 1 x\nnot okay\n1..\n#\n\nok x');
  t.is(reader.plan, undefined);
  t.is(reader.results.size, 0);
});

test('a reason is one line of bounded length', (t) => {
  const reader = read(`1..1\n#  RUN           a ...\n${'x'.repeat(1000)}\nnot ok 1 a`);
  t.is(reader.results.get(1)!.reason.length, 300);
});

const row = (fixture: string, variant: string, name: string): string =>
  `${fixture.padEnd(20)} ${variant.padEnd(25)} ${name}`;

test('the listing of a harness: variants outside, tests inside', (t) => {
  const text = [
    '# FIXTURE            VARIANT                   TEST',
    row('global', '', ''),
    '-'.repeat(80),
    row('iommufd', '', 'simple_close'),
    row('', '', 'cmd_fail'),
    '-'.repeat(80),
    row('iommufd_dirty_tracking', 'domain_dirty8k', 'enforce_dirty'),
    row('', 'domain_dirty16k', ''),
  ].join('\n');
  t.deepEqual(parseListing(text), [
    'iommufd.simple_close',
    'iommufd.cmd_fail',
    'iommufd_dirty_tracking.domain_dirty8k.enforce_dirty',
    'iommufd_dirty_tracking.domain_dirty16k.enforce_dirty',
  ]);
});

test('what is no listing lists nothing', (t) => {
  t.deepEqual(parseListing(''), []);
  t.deepEqual(parseListing(' usage: program'), []);
});
