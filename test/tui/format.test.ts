import test from 'ava';
import {
  bytesText,
  cell,
  countText,
  momentText,
  printable,
  sparkline,
  windowStart,
} from '../../tui/format.ts';

test('a cell has its width', (t) => {
  t.is(cell('abc', 5), 'abc  ');
  t.is(cell('abc', 5, 'right'), '  abc');
  t.is(cell('abcdef', 4), 'abc…');
  t.is(cell('abc', 1), '…');
  t.is(cell('abc', 0), '');
});

test('counts and bytes stay short', (t) => {
  t.is(countText(9999), '9999');
  t.is(countText(12_345), '12.3k');
  t.is(countText(4_560_000), '4.56M');
  t.is(countText(-1), '-1');
  t.is(bytesText(1023), '1023 B');
  t.is(bytesText(2048), '2.00 KiB');
  t.is(bytesText(3 * 2 ** 30), '3.00 GiB');
});

test('a moment is exact', (t) => {
  t.is(momentText(0), '0.000000');
  t.is(momentText(101_862_320), '101.862320');
  t.is(momentText(5), '0.000005');
});

test('a sparkline has its width, its highest value full and nothing for zero', (t) => {
  t.is(sparkline([0, 1, 4, 8], 6), '   ▂▅█');
  t.is(sparkline([1, 2, 3], 2), '▆█');
  t.is(sparkline([0, 0], 3), '   ');
  t.is(sparkline([1], 0), '');
});

test('the chosen line of a list is always in its window', (t) => {
  for (const total of [0, 1, 9, 10, 11, 100]) {
    for (let chosen = 0; chosen < total; chosen++) {
      const start = windowStart(total, chosen, 10);
      t.true(start >= 0 && start <= chosen && chosen < start + 10);
      t.true(start === 0 || start + 10 <= total);
    }
  }
});

test('printable text does nothing to a terminal', (t) => {
  t.is(printable('a\u001b[31mb\u202e\n'), 'a·[31mb··');
});
