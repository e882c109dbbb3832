/** Fields of a register or table entry, held against the driver's macros for them. */
import type { FieldSpec } from '../../../../devices/spec/bits.ts';
import type { Absent, Checked, Claim, Header } from './claims.ts';
import { hasConstant, merge } from './claims.ts';

export type Fields = Readonly<Record<string, FieldSpec>>;
/** Which macro speaks of which field. */
export type Macros = Readonly<Record<string, string>>;

export interface HowNamed {
  /** Macros that extract a field from a word. */
  readonly extract?: Macros;
  /** Macros that place a value in a word. */
  readonly place?: Macros;
  /** Macros that are the field's bits, all set. */
  readonly bits?: Macros;
  /** Fields that the caller checks some other way. */
  readonly elsewhere?: readonly string[];
}

/** Claims for all fields of one structure; fields without any macro are reported as absent. */
export function fieldClaims(source: Header, label: string, fields: Fields, how: HowNamed): Checked {
  const { extract = {}, place = {}, bits = {}, elsewhere = [] } = how;
  const named = new Set([...[extract, place, bits].flatMap(Object.keys), ...elsewhere]);
  const absent = Object.keys(fields)
    .filter((name) => !named.has(name))
    .map((name): Absent => ({ what: `${label}.${name}: no such name`, claims: 1 }));
  return merge(
    each(source, label, fields, extract, extracted),
    each(source, label, fields, place, placed),
    each(source, label, fields, bits, allSet),
    { claims: [], absent },
  );
}

type ClaimsOf = (macro: string, what: string, field: FieldSpec) => Claim[];

function each(
  source: Header,
  label: string,
  fields: Fields,
  macros: Macros,
  claimsOf: ClaimsOf,
): Checked {
  const parts = Object.entries(macros).map(([name, macro]): Checked => {
    const claims = claimsOf(macro, `${label}.${name} by ${macro}`, fields[name]!);
    if (hasConstant(source, macro)) return { claims, absent: [] };
    return { claims: [], absent: [{ what: macro, claims: claims.length }] };
  });
  return merge(...parts);
}

/**
 * Whatever such a macro scales or adds: its result must depend on the lowest and on the highest bit
 * of our field, and on nothing outside it.
 */
function extracted(macro: string, what: string, field: FieldSpec): Claim[] {
  const [, high, low] = field;
  const differs = (bit: number): string => `${macro}(1ULL << ${String(bit)}) != ${macro}(0ULL)`;
  const outside = BigInt.asUintN(64, ~maskOf(field));
  return [
    { what: `${what}: reads bit ${String(low)}`, expr: differs(low), value: 1 },
    { what: `${what}: reads bit ${String(high)}`, expr: differs(high), value: 1 },
    {
      what: `${what}: reads only ${String(high)}:${String(low)}`,
      expr: `${macro}(${literal(outside)}) == ${macro}(0ULL)`,
      value: 1,
    },
  ];
}

/** The value 1 must land on our lowest bit, the largest value must fill our field. */
function placed(macro: string, what: string, field: FieldSpec): Claim[] {
  const [, , low, kind] = field;
  const shift = BigInt(low);
  const mask = maskOf(field);
  const one = kind === 'address' ? 1n << shift : 1n;
  const largest = kind === 'address' ? mask : mask >> shift;
  return [
    { what: `${what}: lowest bit`, expr: `${macro}(${literal(one)})`, value: 1n << shift },
    { what: `${what}: mask`, expr: `${macro}(${literal(largest)})`, value: mask },
  ];
}

function allSet(macro: string, what: string, field: FieldSpec): Claim[] {
  return [{ what, expr: macro, value: maskOf(field) }];
}

function maskOf([, high, low]: FieldSpec): bigint {
  return (1n << BigInt(high + 1)) - (1n << BigInt(low));
}

const literal = (value: bigint): string => `0x${value.toString(16)}ULL`;
