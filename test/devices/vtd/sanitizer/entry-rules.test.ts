import test from 'ava';
import { AW, PGTT, pasidEntry } from '../../../../devices/spec/vtd/pasid.ts';
import { EntryRules } from '../../../../devices/vtd/sanitizer/entry-rules.ts';

const NOTHING = new Array<bigint>(8).fill(0n);
const nested = (did: number, fs: number): bigint[] => [
  ...pasidEntry.encode({
    P: 1,
    PGTT: PGTT.NESTED,
    DID: did,
    AW: AW.BITS_48,
    SSPTPTR: 0x1000,
    FSPTPTR: fs,
  }),
];
const second = (did: number): bigint[] => [
  ...pasidEntry.encode({
    P: 1,
    PGTT: PGTT.SECOND_STAGE,
    DID: did,
    AW: AW.BITS_48,
    SSPTPTR: 0x1000,
  }),
];

/** Writes the words of `to` in groups, one write each; what the rules say of the last write. */
function write(
  rules: EntryRules,
  from: readonly bigint[],
  to: readonly bigint[],
  groups: readonly (readonly number[])[],
  ns: number,
): (string | undefined)[] {
  let now = from;
  return groups.map((group) => {
    const next = now.map((word, i) => (group.includes(i) ? to[i]! : word));
    const broken = rules.stored(8, 1, now, next, null, ns);
    now = next;
    return broken?.kind;
  });
}

const HALVES = [
  [6, 7],
  [4, 5],
  [2, 3],
  [0, 1],
] as const;

test('P last is right, P first is not', (t) => {
  const ok = write(new EntryRules(), NOTHING, nested(2, 0x2000), HALVES, 10);
  t.deepEqual(ok, [undefined, undefined, undefined, undefined]);
  const bad = write(new EntryRules(), NOTHING, nested(2, 0x2000), [...HALVES].reverse(), 10);
  t.is(bad[1], 'present-too-early');
});

test('a present entry changes half by half, the new tag not before the new table', (t) => {
  const rules = new EntryRules();
  write(rules, NOTHING, nested(2, 0x2000), HALVES, 10);
  const right = write(
    rules,
    nested(2, 0x2000),
    nested(3, 0x4000),
    [
      [2, 3],
      [0, 1],
    ],
    20,
  );
  t.deepEqual(right, [undefined, undefined]);
  const wrong = write(
    rules,
    nested(3, 0x4000),
    nested(4, 0x5000),
    [
      [0, 1],
      [2, 3],
    ],
    30,
  );
  t.deepEqual(wrong, [undefined, 'changed-in-place']);
});

test('what the new kind does not look at may change last', (t) => {
  const rules = new EntryRules();
  write(rules, NOTHING, nested(2, 0x2000), HALVES, 10);
  t.deepEqual(
    write(
      rules,
      nested(2, 0x2000),
      second(3),
      [
        [0, 1],
        [2, 3],
      ],
      20,
    ),
    [undefined, undefined],
  );
});

test('a half in two writes, and two halves in one, may be seen half done', (t) => {
  const rules = new EntryRules();
  write(rules, NOTHING, nested(2, 0x2000), HALVES, 10);
  const torn = write(rules, nested(2, 0x2000), second(3), [[0], [1]], 20);
  t.is(torn[1], 'changed-in-place');
  const whole = write(rules, second(3), nested(4, 0x2000), [[0, 1, 2, 3]], 30);
  t.is(whole[0], 'changed-in-place');
});

test('an entry that is not present may be written as one likes', (t) => {
  const rules = new EntryRules();
  const old = nested(2, 0x2000);
  write(rules, NOTHING, old, HALVES, 10);
  const cleared = old.map((word, i) => (i === 0 ? word & ~1n : word));
  t.is(rules.stored(8, 1, old, cleared, null, 20), null);
  t.deepEqual(write(rules, cleared, NOTHING, [[3], [2], [0, 1]], 20), [
    undefined,
    undefined,
    undefined,
  ]);
});
