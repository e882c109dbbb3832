/**
 * The DMAR table (VT-d specification, chapter 8): which remapping unit translates which devices.
 * Known structures are DRHD, ATSR and SATC; a parser skips the others. Like `acpi.ts`, parsers
 * throw a RangeError that names the table and the rule, and hostile bytes cannot make them loop.
 */
import { buildSdt, parseSdt } from './acpi.ts';

/** Type of a structure in the table, in the order they must appear. */
export const DmarType = { DRHD: 0, RMRR: 1, ATSR: 2, RHSA: 3, ANDD: 4, SATC: 5, SIDP: 6 } as const;

export const DmarFlag = { INTR_REMAP: 1, X2APIC_OPT_OUT: 2, DMA_CTRL_OPT_IN: 4 } as const;

/** Type of a device scope entry. */
export const ScopeType = { ENDPOINT: 1, BRIDGE: 2, IOAPIC: 3, HPET: 4, ACPI: 5 } as const;

/** A device, named by the start bus and the path of bridges that leads to it. */
export interface DeviceScope {
  /** One of `ScopeType`. BRIDGE covers everything behind the bridge. */
  readonly type: number;
  readonly enumerationId: number;
  readonly startBus: number;
  readonly path: readonly { readonly device: number; readonly fn: number }[];
}

/** Hardware unit definition: one remapping unit. */
export interface Drhd {
  readonly segment: number;
  /** Physical address of the unit's registers, page aligned. */
  readonly registerBase: number;
  /** Size of the register window in bytes: a power of two, 4096 or more. */
  readonly registerBytes: number;
  /** The unit has all devices of the segment that no other unit names. */
  readonly includeAll: boolean;
  readonly scopes: readonly DeviceScope[];
}

/** Root ports below which devices may use ATS. */
export interface Atsr {
  readonly segment: number;
  readonly allPorts: boolean;
  readonly scopes: readonly DeviceScope[];
}

/** Integrated devices with an address translation cache. */
export interface Satc {
  readonly segment: number;
  /** Every listed device needs ATS to work. */
  readonly atcRequired: boolean;
  readonly scopes: readonly DeviceScope[];
}

export interface Dmar {
  /** Bits of a DMA address, 1 to 256. */
  readonly hostAddressWidth: number;
  /** `DmarFlag` bits. */
  readonly flags: number;
  readonly drhds: readonly Drhd[];
  readonly atsrs: readonly Atsr[];
  readonly satcs: readonly Satc[];
}

const REVISION = 1;
const BODY_HEADER_BYTES = 12;
const DRHD_BYTES = 16;
const LIST_BYTES = 8;
const SCOPE_BYTES = 6;
const FIRST_FLAG = 1;

/** The table: units, then ATSR, then SATC. `flags` defaults to 0, the lists to empty. */
export function buildDmar(
  dmar: Pick<Dmar, 'hostAddressWidth' | 'drhds'> & Partial<Dmar>,
): Uint8Array {
  const structures = [
    ...dmar.drhds.map(buildDrhd),
    ...(dmar.atsrs ?? []).map((a) => buildList(DmarType.ATSR, a.allPorts, a.segment, a.scopes)),
    ...(dmar.satcs ?? []).map((s) => buildList(DmarType.SATC, s.atcRequired, s.segment, s.scopes)),
  ];
  const head = new Uint8Array(BODY_HEADER_BYTES);
  head[0] = dmar.hostAddressWidth - 1;
  head[1] = dmar.flags ?? 0;
  return buildSdt('DMAR', REVISION, concat([head, ...structures]));
}

function buildDrhd(unit: Drhd): Uint8Array {
  const scopes = concat(unit.scopes.map(buildScope));
  const bytes = structure(DmarType.DRHD, DRHD_BYTES, scopes);
  const view = viewOf(bytes);
  const sizeCode = Math.log2(unit.registerBytes / 4096);
  if (!Number.isInteger(sizeCode) || sizeCode < 0 || sizeCode > 15) {
    reject(`DRHD register window of ${unit.registerBytes} bytes`);
  }
  view.setUint8(4, unit.includeAll ? FIRST_FLAG : 0);
  view.setUint8(5, sizeCode);
  view.setUint16(6, unit.segment, true);
  view.setBigUint64(8, BigInt(unit.registerBase), true);
  return bytes;
}

function buildList(
  type: number,
  flag: boolean,
  segment: number,
  scopes: readonly DeviceScope[],
): Uint8Array {
  const bytes = structure(type, LIST_BYTES, concat(scopes.map(buildScope)));
  bytes[4] = flag ? FIRST_FLAG : 0;
  viewOf(bytes).setUint16(6, segment, true);
  return bytes;
}

function buildScope(scope: DeviceScope): Uint8Array {
  const bytes = new Uint8Array(SCOPE_BYTES + 2 * scope.path.length);
  bytes[0] = scope.type;
  bytes[1] = bytes.length;
  bytes[4] = scope.enumerationId;
  bytes[5] = scope.startBus;
  scope.path.forEach(({ device, fn }, i) => {
    bytes[SCOPE_BYTES + 2 * i] = device;
    bytes[SCOPE_BYTES + 2 * i + 1] = fn;
  });
  return bytes;
}

function structure(type: number, headBytes: number, tail: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(headBytes + tail.length);
  const view = viewOf(bytes);
  view.setUint16(0, type, true);
  view.setUint16(2, bytes.length, true);
  bytes.set(tail, headBytes);
  return bytes;
}

/**
 * Reads the table; structures of other types than DRHD, ATSR and SATC are skipped.
 *
 * @throws RangeError as `parseSdt` does, or if a structure or a scope is cut off or too short
 */
export function parseDmar(bytes: Uint8Array): Dmar {
  const { body } = parseSdt(bytes, 'DMAR');
  if (body.length < BODY_HEADER_BYTES) reject('header is cut off');
  const drhds: Drhd[] = [];
  const atsrs: Atsr[] = [];
  const satcs: Satc[] = [];
  const view = viewOf(body);
  for (let at = BODY_HEADER_BYTES; at < body.length; ) {
    if (at + 4 > body.length) reject('a structure header is cut off');
    const type = view.getUint16(at, true);
    const length = view.getUint16(at + 2, true);
    if (length < 4 || at + length > body.length) {
      reject(`structure of type ${type} has length ${length}`);
    }
    const part = body.subarray(at, at + length);
    if (type === DmarType.DRHD) drhds.push(parseDrhd(part));
    if (type === DmarType.ATSR) atsrs.push(parseAtsr(part));
    if (type === DmarType.SATC) satcs.push(parseSatc(part));
    at += length;
  }
  return { hostAddressWidth: body[0]! + 1, flags: body[1]!, drhds, atsrs, satcs };
}

function parseDrhd(part: Uint8Array): Drhd {
  if (part.length < DRHD_BYTES) reject(`DRHD of ${part.length} bytes`);
  const view = viewOf(part);
  const base = view.getBigUint64(8, true);
  if (base === 0n || base % 4096n !== 0n || base > BigInt(Number.MAX_SAFE_INTEGER)) {
    reject(`DRHD register base 0x${base.toString(16)}`);
  }
  return {
    segment: view.getUint16(6, true),
    registerBase: Number(base),
    registerBytes: 4096 * 2 ** (part[5]! & 0xf),
    includeAll: (part[4]! & FIRST_FLAG) !== 0,
    scopes: parseScopes(part.subarray(DRHD_BYTES)),
  };
}

function parseAtsr(part: Uint8Array): Atsr {
  const { flag, segment, scopes } = parseList(part, 'ATSR');
  return { allPorts: flag, segment, scopes };
}

function parseSatc(part: Uint8Array): Satc {
  const { flag, segment, scopes } = parseList(part, 'SATC');
  return { atcRequired: flag, segment, scopes };
}

function parseList(
  part: Uint8Array,
  name: string,
): { flag: boolean; segment: number; scopes: DeviceScope[] } {
  if (part.length < LIST_BYTES) reject(`${name} of ${part.length} bytes`);
  return {
    flag: (part[4]! & FIRST_FLAG) !== 0,
    segment: viewOf(part).getUint16(6, true),
    scopes: parseScopes(part.subarray(LIST_BYTES)),
  };
}

function parseScopes(bytes: Uint8Array): DeviceScope[] {
  const scopes: DeviceScope[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes[at + 1] ?? 0;
    if (length < SCOPE_BYTES || length % 2 !== 0 || at + length > bytes.length) {
      reject(`device scope has length ${length}`);
    }
    const path = [];
    for (let i = at + SCOPE_BYTES; i < at + length; i += 2) {
      path.push({ device: bytes[i]!, fn: bytes[i + 1]! });
    }
    scopes.push({
      type: bytes[at]!,
      enumerationId: bytes[at + 4]!,
      startBus: bytes[at + 5]!,
      path,
    });
    at += length;
  }
  return scopes;
}

function reject(rule: string): never {
  throw new RangeError(`DMAR: ${rule}`);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
