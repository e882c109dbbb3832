import test from 'ava';
import fc from 'fast-check';
import { event, type FieldKind, type Fields, type FieldValue } from '../../../trace/event.ts';
import { eventWords, timeText, valueText, wrap } from '../../../trace/story/text.ts';

const words = fc.array(
  fc.oneof(
    { weight: 9, arbitrary: fc.stringMatching(/^\S{1,12}$/) },
    fc.stringMatching(/^\S{1,130}$/),
  ),
  { maxLength: 60 },
);

test('wrap keeps every word, whole and in order', (t) => {
  fc.assert(
    fc.property(words, fc.integer({ min: 1, max: 100 }), fc.nat(14), (list, width, hang) => {
      const lines = wrap(list, width, hang);
      t.deepEqual(
        lines.flatMap((line) => line.trim().split(' ')).filter((word) => word !== ''),
        list,
      );
    }),
  );
});

test('a line is within its width unless one word alone is longer', (t) => {
  fc.assert(
    fc.property(words, fc.integer({ min: 20, max: 100 }), fc.nat(14), (list, width, hang) => {
      for (const line of wrap(list, width, hang)) {
        t.true(line.length <= width || !line.trim().includes(' '), line);
      }
    }),
  );
});

test('a line is broken only where the next word does not fit', (t) => {
  fc.assert(
    fc.property(words, fc.integer({ min: 20, max: 100 }), fc.nat(14), (list, width, hang) => {
      const lines = wrap(list, width, hang);
      for (const [i, line] of lines.slice(1).entries()) {
        const [first = ''] = line.trim().split(' ');
        t.true(lines[i]!.length + 1 + first.length > width);
      }
    }),
  );
});

test('later lines hang, the first does not', (t) => {
  t.deepEqual(wrap(['aaa', 'bbb', 'ccc', 'ddd'], 9, 2), ['aaa bbb', '  ccc ddd']);
  t.deepEqual(wrap(['0123456789', 'a', 'b'], 4, 1), ['0123456789', ' a b']);
  t.deepEqual(wrap([], 10, 2), []);
});

test('time is in the unit that reads best', (t) => {
  const cases: [number, string][] = [
    [0, '0 ns'],
    [999, '999 ns'],
    [1000, '1.00 us'],
    [12_345, '12.3 us'],
    [123_456, '123 us'],
    [1_000_000, '1.00 ms'],
    [98_760_000, '98.8 ms'],
    [1_200_000_000, '1.20 s'],
    [4_321_000_000_000, '4321 s'],
  ];
  for (const [ns, text] of cases) t.is(timeText(ns), text);
});

test('values are shown as their kind says', (t) => {
  const cases: [FieldKind, FieldValue, string][] = [
    ['int', 4096, '4096'],
    ['hex', 255, '0xff'],
    ['addr', 0x000f_ffff_ffff_f000, '0xffffffffff000'],
    ['hex', 0xffff_ffff_ffff_ffffn, '0xffffffffffffffff'],
    ['text', 'as it is', 'as it is'],
  ];
  for (const [kind, value, text] of cases) t.is(valueText(kind, value), text);
});

const told = (fields: Fields, values: Readonly<Record<string, FieldValue>>, withVm = false) =>
  eventWords(
    { seq: 1, ns: 0, cause: 0, def: event('host', 'test:thing', fields, 'x', 'x'), values },
    withVm,
  );

test('an event is its name without the subsystem, then its fields in their order', (t) => {
  t.deepEqual(told({ pid: 'int', address: 'addr' }, { address: 0x1000, pid: 3 }), [
    'thing',
    'pid=3',
    'address=0x1000',
  ]);
});

test('fields that name the thing stand without their key, and texts can be wrapped', (t) => {
  t.deepEqual(
    told({ name: 'text', args: 'text' }, { name: 'IOCTL', args: '{ id: 1,\n  x:  2 }' }),
    ['thing', 'IOCTL', ...['{', 'id:', '1,', 'x:', '2', '}']],
  );
  t.deepEqual(told({ reason: 'text' }, { reason: 'not now' }), ['thing', 'reason=not', 'now']);
});

test('what is empty, absent or told by the margin is left out', (t) => {
  const fields = { vm: 'text', pid: 'int', result: 'text' } as const;
  t.deepEqual(told(fields, { vm: 'vm0', result: '' }), ['thing']);
  t.deepEqual(told(fields, { vm: 'vm0', pid: 0 }, true), ['thing', 'vm=vm0', 'pid=0']);
});

test('a virtual unit is named, the host unit is not', (t) => {
  t.deepEqual(told({ unit: 'text' }, { unit: 'host' }), ['thing']);
  t.deepEqual(told({ unit: 'text' }, { unit: 'vm1' }), ['thing', '(virtual unit of vm1)']);
});
