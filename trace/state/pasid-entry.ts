/** The fields of a scalable-mode PASID table entry (VT-d specification 9.6), for people. */
export interface EntryField {
  readonly name: string;
  /** Word 0 to 7, highest and lowest bit in it. */
  readonly word: number;
  readonly high: number;
  readonly low: number;
  readonly meaning: string;
  /** What a value stands for. */
  readonly told?: (value: bigint) => string;
}

const one =
  (names: Readonly<Record<string, string>>) =>
  (value: bigint): string =>
    names[String(value)] ?? 'reserved';

const address = (value: bigint): string => `at 0x${(value << 12n).toString(16)}`;
const yes = one({ '0': 'no', '1': 'yes' });

export const PASID_FIELDS: readonly EntryField[] = [
  { name: 'P', word: 0, high: 0, low: 0, meaning: 'present', told: yes },
  { name: 'FPD', word: 0, high: 1, low: 1, meaning: 'faults are not recorded', told: yes },
  {
    name: 'AW',
    word: 0,
    high: 4,
    low: 2,
    meaning: 'second-stage width',
    told: one({ '0': '-', '1': '39 bits', '2': '48 bits', '3': '57 bits' }),
  },
  {
    name: 'PGTT',
    word: 0,
    high: 8,
    low: 6,
    meaning: 'translation type',
    told: one({
      '0': '-',
      '1': 'first-stage',
      '2': 'second-stage',
      '3': 'nested',
      '4': 'pass-through',
    }),
  },
  { name: 'SSADE', word: 0, high: 9, low: 9, meaning: 'second-stage accessed/dirty', told: yes },
  { name: 'SSPTPTR', word: 0, high: 63, low: 12, meaning: 'second-stage table', told: address },
  { name: 'DID', word: 1, high: 15, low: 0, meaning: 'domain id', told: String },
  { name: 'PWSNP', word: 1, high: 23, low: 23, meaning: 'walks snoop', told: yes },
  { name: 'PGSNP', word: 1, high: 24, low: 24, meaning: 'pages are snooped', told: yes },
  { name: 'CD', word: 1, high: 25, low: 25, meaning: 'cache disable', told: yes },
  { name: 'EMTE', word: 1, high: 26, low: 26, meaning: 'memory types from tables', told: yes },
  { name: 'PAT', word: 1, high: 63, low: 32, meaning: 'page attribute table', told: String },
  { name: 'SRE', word: 2, high: 0, low: 0, meaning: 'supervisor requests', told: yes },
  {
    name: 'FSPM',
    word: 2,
    high: 3,
    low: 2,
    meaning: 'first-stage levels',
    told: one({ '0': '4', '1': '5' }),
  },
  { name: 'WPE', word: 2, high: 4, low: 4, meaning: 'write protect', told: yes },
  { name: 'NXE', word: 2, high: 5, low: 5, meaning: 'no-execute', told: yes },
  { name: 'SMEP', word: 2, high: 6, low: 6, meaning: 'no supervisor execute', told: yes },
  { name: 'EAFE', word: 2, high: 7, low: 7, meaning: 'extended accessed flag', told: yes },
  { name: 'FSPTPTR', word: 2, high: 63, low: 12, meaning: 'first-stage table', told: address },
];

/** The value of a field; words that are missing are 0. */
export function fieldValue(words: readonly bigint[], { word, high, low }: EntryField): bigint {
  return ((words[word] ?? 0n) >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
}

export interface ShownField {
  readonly field: EntryField;
  readonly value: bigint;
  /** Before the write that is shown. */
  readonly was: bigint;
}

/** All fields of an entry, with what they were before. */
export const decodeEntry = (after: readonly bigint[], before: readonly bigint[]): ShownField[] =>
  PASID_FIELDS.map((field) => ({
    field,
    value: fieldValue(after, field),
    was: fieldValue(before, field),
  }));
