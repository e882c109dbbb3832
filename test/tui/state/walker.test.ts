import test from 'ava';
import { pasidEntry } from '../../../devices/spec/vtd/pasid.ts';
import { EMPTY_MODEL, type Model, reduceModel } from '../../../tui/state/model.ts';
import { decodeEntry, PASID_FIELDS } from '../../../tui/state/pasid-entry.ts';
import { parseAddress, walkAddress } from '../../../tui/state/walker.ts';
import { recordRun } from '../events.ts';

const run = recordRun();

/** The model when the first copy is done, before the middle of its destination is unmapped. */
const unmap = run.findIndex(({ def }) => def.name === 'guest:munmap');
const copied = reduceModel(EMPTY_MODEL, run.slice(0, unmap));

const walk = (model: Model, address: bigint) =>
  walkAddress(
    model.entries.writes.get('host/00:01.0/1')?.at(-1)?.after ?? [],
    address,
    model.known,
    model.known.pages.get('vm0/100'),
  );

test('the fields are those of the specification, none missing', (t) => {
  t.deepEqual(
    PASID_FIELDS.map(({ name }) => name).toSorted(),
    Object.keys(pasidEntry.masks).toSorted(),
  );
  for (const { name, word, high, low } of PASID_FIELDS) {
    const mask = ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
    const words = Array.from({ length: 8 }, (_, i) => (i === word ? mask : 0n));
    const changed = decodeEntry(words, []).filter(({ value, was }) => value !== was);
    t.deepEqual(
      changed.map(({ field }) => field.name),
      [name],
    );
    t.is(pasidEntry.masks[name as keyof typeof pasidEntry.masks], mask, name);
  }
});

test('every page that the unit walked to is found again, where the unit found it', (t) => {
  const walks = run
    .slice(0, unmap)
    .filter(({ def, values }) => def.name === 'vtd:walk' && values['pasid'] === 1);
  t.true(walks.length > 5);
  for (const { values } of walks) {
    const address = BigInt(values['address']!);
    const { result, readFault, unknown } = walk(copied, address);
    t.is(unknown, '');
    t.is(readFault, undefined);
    const found = walks.findLast(
      (one) => one.values['address'] === values['address'] && one.values['result'] !== 0,
    );
    t.is(result, BigInt(found?.values['result'] ?? 0));
  }
});

test('a nested walk of four levels reads 4 + 5 x the second stage', (t) => {
  const { steps } = walk(copied, 0x7f00_fc05_5000n);
  t.is(steps.filter(({ stage }) => stage === 'first').length, 4);
  t.is(steps.filter(({ stage }) => stage === 'second').length, 5 * 3);
});

test('what was unmapped faults, though the tables were read before', (t) => {
  const { values } = run[unmap]!;
  const address = BigInt(values['address']!);
  t.is(walk(copied, address).readFault, undefined);
  const after = reduceModel(copied, run.slice(unmap, unmap + 1));
  t.regex(walk(after, address).readFault ?? '', /^FS_NOT_PRESENT \(71h\)/);
});

test('what no walk has read is said to be unknown, not guessed', (t) => {
  const { unknown, result, readFault } = walk(copied, 0x1234_5678_9000n);
  t.regex(unknown, /first-stage entry/);
  t.is(result, undefined);
  t.is(readFault, undefined);
});

test('faults before any table: no entry, and no canonical address', (t) => {
  t.regex(walkAddress([], 0n, copied.known, undefined).readFault ?? '', /^PASID_ENTRY_NOT_PRESENT/);
  t.regex(walk(copied, 0x8000_0000_0000n).readFault ?? '', /^NOT_CANONICAL/);
});

test('addresses as people type them', (t) => {
  t.is(parseAddress('0x7f00_1000'), 0x7f001000n);
  t.is(parseAddress(' FFFF000012345678 '), 0xffff000012345678n);
  for (const typed of ['', 'x', '0x', '12345678123456781', '-1'])
    t.is(parseAddress(typed), undefined);
});
