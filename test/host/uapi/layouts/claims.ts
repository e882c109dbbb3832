/**
 * What our declarations claim about C headers, as C constant expressions with the value we give
 * them, and the search in the header's text that tells "newer than this header" from "wrong".
 */
import type { Scalar, Struct } from '../../../../host/uapi/struct.ts';

/** `expr` is a C constant expression that must equal `value`. */
export interface Claim {
  readonly what: string;
  readonly expr: string;
  readonly value: number | bigint;
}

/** Claims that the header cannot decide because it does not have the name. */
export interface Absent {
  readonly what: string;
  readonly claims: number;
}

export interface Checked {
  readonly claims: readonly Claim[];
  readonly absent: readonly Absent[];
}

/** A C header: the lines that bring it into a C file, and its text for finding names. */
export interface Header {
  readonly name: string;
  readonly prelude: string;
  readonly text: string;
}

export function header(name: string, prelude: string, ...texts: readonly string[]): Header {
  return { name, prelude, text: texts.map(stripComments).join('\n') };
}

export function stripComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, ' ').replace(/\/\/.*$/gm, '');
}

/** The `#define` lines (with continuations) whose macro name matches, in order. */
export function definesOf(text: string, names: RegExp): string {
  const lines = stripComments(text).match(/^[ \t]*#[ \t]*define[ \t]+\w+(?:\\\n|.)*$/gm) ?? [];
  return lines.filter((line) => names.test(/define[ \t]+(\w+)/.exec(line)![1]!)).join('\n');
}

/** Whether the header defines a macro or an enumerator of that name. */
export function hasConstant(source: Header, name: string): boolean {
  const macro = new RegExp(`#[ \\t]*define[ \\t]+${name}\\b`);
  const enumerator = new RegExp(`[{,][ \\t\\n]*${name}[ \\t\\n]*[=,}]`);
  const afterDirective = new RegExp(`^[ \\t]*${name}[ \\t\\n]*[=,}]`, 'm');
  return [macro, enumerator, afterDirective].some((pattern) => pattern.test(source.text));
}

/** The text between the braces of `struct <name>`, or null. */
export function structBody(source: Header, name: string): string | null {
  const open = new RegExp(`\\bstruct[ \\t\\n]+${name}[ \\t\\n]*\\{`).exec(source.text);
  if (open === null) return null;
  const start = open.index + open[0].length;
  let depth = 1;
  for (let at = start; at < source.text.length; at++) {
    const char = source.text[at];
    if (char === '{') depth++;
    if (char === '}' && --depth === 0) return source.text.slice(start, at);
  }
  return null;
}

function hasMember(body: string, cName: string): boolean {
  const outer = cName.split('.')[0]!;
  return new RegExp(`\\b${outer}[ \\t\\n]*(\\[[^\\]]*\\][ \\t\\n]*)*[;,:]`).test(body);
}

/** One constant: the header's value must be ours. */
export function constantClaims(
  source: Header,
  constants: readonly (readonly [cName: string, value: number | bigint])[],
): Checked {
  const claims: Claim[] = [];
  const absent: Absent[] = [];
  for (const [cName, value] of constants) {
    if (hasConstant(source, cName)) claims.push({ what: cName, expr: cName, value });
    else absent.push({ what: cName, claims: 1 });
  }
  return { claims, absent };
}

/**
 * The numbers of one object. `names` gives each key's C name; a key without one is reported as
 * having no counterpart, so that nothing goes unchecked unseen.
 */
export function namedClaims<V extends Readonly<Record<string, number>>>(
  source: Header,
  label: string,
  values: V,
  names: Readonly<Partial<Record<keyof V, string>>>,
): Checked {
  const parts = Object.entries(values).map(([key, value]) => {
    const cName = (names as Readonly<Record<string, string | undefined>>)[key];
    if (cName !== undefined) return constantClaims(source, [[cName, value]]);
    return { claims: [], absent: [{ what: `${label}.${key}: no such name`, claims: 1 }] };
  });
  return merge(...parts);
}

/** C names made of a prefix and the key, with the exceptions spelled out. */
export function prefixed(
  values: Readonly<Record<string, number>>,
  prefix: string,
  exceptions: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const regular = Object.fromEntries(Object.keys(values).map((key) => [key, prefix + key]));
  return { ...regular, ...exceptions };
}

const WIDTH: Readonly<Record<Scalar, number>> = {
  u8: 1,
  s8: 1,
  u16: 2,
  s16: 2,
  u32: 4,
  s32: 4,
  u64: 8,
  s64: 8,
};

interface Member {
  readonly name: string;
  readonly cName: string;
  readonly offset: number;
  readonly width: number;
  /** -1 for a plain integer, 0 for a flexible array. */
  readonly length: number;
  readonly signed: boolean;
}

function membersOf(type: Struct): Member[] {
  return Object.entries(type.fields).map(([name, field]) => {
    const scalar = typeof field === 'string' ? field : field[0];
    return {
      name,
      cName: type.cNames[name]!,
      offset: type.offsets[name]!,
      width: WIDTH[scalar],
      length: typeof field === 'string' ? -1 : field[1],
      signed: scalar.startsWith('s'),
    };
  });
}

function memberClaims(type: Struct, member: Member): Claim[] {
  const tag = `struct ${type.name}`;
  const what = `${tag}.${member.cName}`;
  const value = `((${tag} *)0)->${member.cName}`;
  const offset = {
    what: `${what}: offset`,
    expr: `__builtin_offsetof(${tag}, ${member.cName})`,
    value: member.offset,
  };
  if (member.length === 0) return [offset];
  const bytes = member.width * Math.max(member.length, 1);
  const size = { what: `${what}: size`, expr: `sizeof(${value})`, value: bytes };
  if (member.length > 0) return [offset, size];
  const signedness = {
    what: `${what}: signed`,
    expr: `((__typeof__(${value}))-1 < 0)`,
    value: member.signed ? 1 : 0,
  };
  return [offset, size, signedness];
}

/**
 * Size of the whole, offset, size and signedness of every member.
 *
 * Where the header is older than the declaration: a member it lacks is absent, and so is a
 * `__reserved` right behind it, since new members are carved out of reserved space. If the newest
 * members are missing at the end, the header's structure must end where the last common one does.
 */
export function structClaims(source: Header, type: Struct): Checked {
  const members = membersOf(type);
  const body = structBody(source, type.name);
  if (body === null) {
    const all = members.reduce((n, member) => n + memberClaims(type, member).length, 1);
    return { claims: [], absent: [{ what: `struct ${type.name}`, claims: all }] };
  }
  const claims: Claim[] = [];
  const absent: Absent[] = [];
  const common: Member[] = [];
  let carved = false;
  for (const member of members) {
    const ours = memberClaims(type, member);
    carved = carved && member.name.startsWith('__reserved');
    if (!carved && hasMember(body, member.cName)) {
      common.push(member);
      claims.push(...ours);
    } else {
      absent.push({ what: `struct ${type.name}.${member.cName}`, claims: ours.length });
      carved = true;
    }
  }
  const size = common.at(-1) === members.at(-1) ? type.size : sizeOf(common);
  claims.push({
    what: `struct ${type.name}: size`,
    expr: `sizeof(struct ${type.name})`,
    value: size,
  });
  return { claims, absent };
}

function sizeOf(members: readonly Member[]): number {
  const align = Math.max(...members.map((member) => member.width));
  const end = Math.max(...members.map((m) => m.offset + m.width * Math.abs(m.length)));
  return Math.ceil(end / align) * align;
}

export function merge(...parts: readonly Checked[]): Checked {
  return {
    claims: parts.flatMap((part) => part.claims),
    absent: parts.flatMap((part) => part.absent),
  };
}

/** The C file whose compilation proves the claims. */
export function renderC(source: Header, claims: readonly Claim[]): string {
  const lines = claims.map(({ what, expr, value }) => {
    const literal = `0x${BigInt.asUintN(64, BigInt(value)).toString(16)}ULL`;
    const message = `${source.name}: ${what} is not ${String(value)}`;
    return `_Static_assert((unsigned long long)(${expr}) == ${literal}, ${JSON.stringify(message)});`;
  });
  return `${source.prelude}\n${lines.join('\n')}\n`;
}
