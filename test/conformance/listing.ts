/** The cases of a program, as `PROGRAM -l` of kselftest_harness.h lists them. */

/** Columns that the harness pads fixtures and variants to, each with a space behind. */
const VARIANT_COLUMN = 21;
const TEST_COLUMN = 47;

/** How a listing begins, unlike anything a suite prints when it runs. */
const HEADER = /^# FIXTURE\s+VARIANT\s+TEST/m;

interface Block {
  readonly fixture: string;
  readonly variants: string[];
  readonly tests: string[];
}

/**
 * The full names in the order in which they run: all tests of a variant, variant after variant.
 * Empty when the text is no such listing.
 */
export function parseListing(text: string): string[] {
  if (!HEADER.test(text)) return [];
  const blocks: Block[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('#') || line.startsWith('---') || line.trim() === '') continue;
    const { fixture, variant, test } = columns(line);
    if (fixture !== '') blocks.push({ fixture, variants: [], tests: [] });
    const block = blocks.at(-1);
    if (block === undefined) return [];
    if (variant !== '') block.variants.push(variant);
    if (test !== '') block.tests.push(test);
  }
  return blocks.flatMap(namesOf);
}

/** A name longer than its column moves the rest of its line. */
function columns(line: string): { fixture: string; variant: string; test: string } {
  const words = [...line.matchAll(/\S+/g)];
  const fixture = words[0]?.index === 0 ? words.shift()![0] : '';
  const moved = Math.max(0, fixture.length + 1 - VARIANT_COLUMN);
  const isVariant = (words[0]?.index ?? TEST_COLUMN) < TEST_COLUMN + moved;
  const variant = isVariant && words.length > 0 ? words.shift()![0] : '';
  return { fixture, variant, test: words[0]?.[0] ?? '' };
}

function namesOf({ fixture, variants, tests }: Block): string[] {
  if (variants.length === 0) return tests.map((test) => `${fixture}.${test}`);
  return variants.flatMap((variant) => tests.map((test) => `${fixture}.${variant}.${test}`));
}
