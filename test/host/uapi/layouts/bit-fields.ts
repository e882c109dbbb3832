/**
 * C bit fields. C offers no constant expression for where a bit field lies, so its place comes from
 * adding up the widths declared before it, as the ABI does for these (hole-free) types.
 */

import type { Checked, Header } from './claims.ts';
import { structBody } from './claims.ts';

/** Highest and lowest bit of each field of one word. */
export type BitRanges = Readonly<Record<string, readonly [high: number, low: number]>>;

/**
 * Claims that a field of our width starts at our lowest bit. `block` picks which nested structure
 * of the C type holds the fields, or the type itself; `base` is our word's first bit in it.
 */
export function bitFieldClaims(
  source: Header,
  tag: string,
  ranges: BitRanges,
  { base = 0, block = 0 }: { base?: number; block?: number | 'outer' } = {},
): Checked {
  const widths = bitFieldWidths(source, tag, block);
  const claims = Object.entries(ranges).map(([name, [high, low]]) => ({
    what: `${tag}: width of the field at bit ${String(base + low)} (${name})`,
    expr: String(widths.get(base + low) ?? 0),
    value: high - low + 1,
  }));
  return { claims, absent: [] };
}

/** Width of each named field, by its lowest bit. Reserved fields take room but have no name. */
function bitFieldWidths(source: Header, tag: string, block: number | 'outer'): Map<number, number> {
  const text = source.text.replace(new RegExp(`\\bunion ${tag}\\b`), `struct ${tag}`);
  const body = structBody({ ...source, text }, tag) ?? '';
  const nested = [...body.matchAll(/\bstruct\s*\{([^{}]*)\}/g)].map((match) => match[1]!);
  const fields = block === 'outer' ? body : (nested[block] ?? '');
  const widths = new Map<number, number>();
  let at = 0;
  const field = /\bu(?:int)?(8|16|32|64)(?:_t)?\s+(\w+)\s*(?::\s*(\d+))?\s*;/g;
  for (const [, bits, name, width] of fields.matchAll(field)) {
    const length = Number(width ?? bits);
    if (!name!.startsWith('rsvd')) widths.set(at, length);
    at += length;
  }
  return widths;
}
