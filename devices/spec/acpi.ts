/**
 * The ACPI tables a guest needs to find the PCI configuration window and the VT-d unit:
 * RSDP -> XSDT -> MCFG and DMAR (`dmar.ts`). `buildX` gives the bytes with right lengths and
 * checksums; `parseX` validates, and throws a RangeError that names the table and the broken rule.
 * The bytes may be hostile: no parser reads outside them or loops longer than they are.
 *
 * All values are little endian; addresses are numbers of bytes below 2^53.
 */

export const SDT_HEADER_BYTES = 36;
/** Longest table a reader should accept before copying it out of memory. */
export const MAX_TABLE_BYTES = 1 << 20;
/** RSDP version 2. */
export const RSDP_BYTES = 36;
/** A search for the RSDP looks at every address with this alignment. */
export const RSDP_ALIGNMENT = 16;

const RSDP_V1_BYTES = 20;
const RSDP_SIGNATURE = 'RSD PTR ';
const XSDT_REVISION = 1;
const MCFG_REVISION = 1;
const MCFG_RESERVED_BYTES = 8;
const MCFG_ENTRY_BYTES = 16;

const Sdt = {
  SIGNATURE: 0,
  LENGTH: 4,
  REVISION: 8,
  CHECKSUM: 9,
  OEM_ID: 10,
  OEM_TABLE_ID: 16,
  OEM_REVISION: 24,
  CREATOR_ID: 28,
  CREATOR_REVISION: 32,
} as const;

const Rsdp = {
  SIGNATURE: 0,
  CHECKSUM: 8,
  OEM_ID: 9,
  REVISION: 15,
  RSDT: 16,
  LENGTH: 20,
  XSDT: 24,
  EXTENDED_CHECKSUM: 32,
} as const;

const OEM_ID = 'VSVA';
const OEM_TABLE_ID = 'VSVAPC';
const CREATOR_ID = 'VSVA';

/** The common header of a system description table. */
export interface SdtHeader {
  readonly signature: string;
  /** Whole table, header included. */
  readonly length: number;
  readonly revision: number;
  readonly oemId: string;
  readonly oemTableId: string;
}

/**
 * A whole table from its body: header, length and checksum are made here.
 *
 * @param signature four ASCII characters
 */
export function buildSdt(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(SDT_HEADER_BYTES + body.length);
  const view = viewOf(bytes);
  putText(bytes, Sdt.SIGNATURE, signature, 4);
  view.setUint32(Sdt.LENGTH, bytes.length, true);
  view.setUint8(Sdt.REVISION, revision);
  putText(bytes, Sdt.OEM_ID, OEM_ID, 6);
  putText(bytes, Sdt.OEM_TABLE_ID, OEM_TABLE_ID, 8);
  view.setUint32(Sdt.OEM_REVISION, 1, true);
  putText(bytes, Sdt.CREATOR_ID, CREATOR_ID, 4);
  view.setUint32(Sdt.CREATOR_REVISION, 1, true);
  bytes.set(body, SDT_HEADER_BYTES);
  bytes[Sdt.CHECKSUM] = -checksum(bytes) & 0xff;
  return bytes;
}

/**
 * The header at the start of `bytes`, which may be longer or shorter than the table: this is how
 * a reader learns how much to copy.
 *
 * @throws RangeError if there are fewer than 36 bytes or the length is not 36 to 1 MiB
 */
export function parseSdtHeader(bytes: Uint8Array): SdtHeader {
  if (bytes.length < SDT_HEADER_BYTES) reject('SDT', `header of ${bytes.length} bytes, needs 36`);
  const view = viewOf(bytes);
  const signature = text(bytes, Sdt.SIGNATURE, 4);
  const length = view.getUint32(Sdt.LENGTH, true);
  if (length < SDT_HEADER_BYTES || length > MAX_TABLE_BYTES) {
    reject(signature, `length ${length} is not ${SDT_HEADER_BYTES} to ${MAX_TABLE_BYTES}`);
  }
  return {
    signature,
    length,
    revision: view.getUint8(Sdt.REVISION),
    oemId: text(bytes, Sdt.OEM_ID, 6).trimEnd(),
    oemTableId: text(bytes, Sdt.OEM_TABLE_ID, 8).trimEnd(),
  };
}

/**
 * Validates a whole table and returns its header and its body, a view of `bytes`.
 *
 * @throws RangeError if the signature is another, the table is longer than `bytes`, or its bytes do
 * not sum to 0
 */
export function parseSdt(
  bytes: Uint8Array,
  signature: string,
): { readonly header: SdtHeader; readonly body: Uint8Array } {
  const header = parseSdtHeader(bytes);
  if (header.signature !== signature) reject(signature, `signature is '${header.signature}'`);
  if (header.length > bytes.length) {
    reject(signature, `length ${header.length} exceeds the ${bytes.length} bytes given`);
  }
  const table = bytes.subarray(0, header.length);
  if (checksum(table) !== 0) reject(signature, 'checksum: the bytes do not sum to 0');
  return { header, body: table.subarray(SDT_HEADER_BYTES) };
}

/** Root system description pointer, version 2, without an RSDT. */
export function buildRsdp(xsdt: number): Uint8Array {
  const bytes = new Uint8Array(RSDP_BYTES);
  const view = viewOf(bytes);
  putText(bytes, Rsdp.SIGNATURE, RSDP_SIGNATURE, 8);
  putText(bytes, Rsdp.OEM_ID, OEM_ID, 6);
  view.setUint8(Rsdp.REVISION, 2);
  view.setUint32(Rsdp.LENGTH, RSDP_BYTES, true);
  view.setBigUint64(Rsdp.XSDT, BigInt(xsdt), true);
  bytes[Rsdp.CHECKSUM] = -checksum(bytes.subarray(0, RSDP_V1_BYTES)) & 0xff;
  bytes[Rsdp.EXTENDED_CHECKSUM] = -checksum(bytes) & 0xff;
  return bytes;
}

/**
 * The address of the XSDT from the root pointer at the start of `bytes`.
 *
 * @throws RangeError for a wrong signature, checksum, length, a revision below 2, or no XSDT
 */
export function parseRsdp(bytes: Uint8Array): { readonly xsdt: number } {
  if (bytes.length < RSDP_BYTES) reject('RSDP', `${bytes.length} bytes, needs ${RSDP_BYTES}`);
  if (text(bytes, Rsdp.SIGNATURE, 8) !== RSDP_SIGNATURE) reject('RSDP', 'wrong signature');
  const view = viewOf(bytes);
  if (checksum(bytes.subarray(0, RSDP_V1_BYTES)) !== 0) reject('RSDP', 'checksum of bytes 0 to 19');
  const revision = view.getUint8(Rsdp.REVISION);
  if (revision < 2) reject('RSDP', `revision ${revision}, needs 2 for the XSDT`);
  const length = view.getUint32(Rsdp.LENGTH, true);
  if (length !== RSDP_BYTES) reject('RSDP', `length ${length}, must be ${RSDP_BYTES}`);
  if (checksum(bytes.subarray(0, RSDP_BYTES)) !== 0) reject('RSDP', 'extended checksum');
  const xsdt = getAddress(view, Rsdp.XSDT, 'RSDP', 'XSDT address');
  if (xsdt === 0) reject('RSDP', 'XSDT address is 0');
  return { xsdt };
}

/** Offset of the first valid root pointer in `memory` at a multiple of 16 bytes, or -1. */
export function findRsdp(memory: Uint8Array): number {
  for (let at = 0; at + RSDP_BYTES <= memory.length; at += RSDP_ALIGNMENT) {
    if (memory[at] !== RSDP_SIGNATURE.charCodeAt(0)) continue;
    const candidate = memory.subarray(at, at + RSDP_BYTES);
    if (text(candidate, 0, 8) !== RSDP_SIGNATURE) continue;
    if (checksum(candidate.subarray(0, RSDP_V1_BYTES)) === 0) return at;
  }
  return -1;
}

/** Extended system description table: the addresses of the other tables. */
export function buildXsdt(tables: readonly number[]): Uint8Array {
  const body = new Uint8Array(8 * tables.length);
  const view = viewOf(body);
  tables.forEach((address, i) => {
    view.setBigUint64(8 * i, BigInt(address), true);
  });
  return buildSdt('XSDT', XSDT_REVISION, body);
}

/**
 * The addresses of the other tables, in order.
 *
 * @throws RangeError as `parseSdt` does, or if the body is no whole number of addresses
 */
export function parseXsdt(bytes: Uint8Array): number[] {
  const { body } = parseSdt(bytes, 'XSDT');
  if (body.length % 8 !== 0) reject('XSDT', `body of ${body.length} bytes is not a multiple of 8`);
  const view = viewOf(body);
  return Array.from({ length: body.length / 8 }, (_, i) =>
    getAddress(view, 8 * i, 'XSDT', `entry ${i}`),
  );
}

/** One memory-mapped configuration window. */
export interface EcamWindow {
  /** Where the window of bus 0 is, even if `startBus` is not 0. */
  readonly base: number;
  readonly segment: number;
  readonly startBus: number;
  /** Last bus, inclusive. */
  readonly endBus: number;
}

/** Memory-mapped configuration table. */
export function buildMcfg(windows: readonly EcamWindow[]): Uint8Array {
  const body = new Uint8Array(MCFG_RESERVED_BYTES + MCFG_ENTRY_BYTES * windows.length);
  const view = viewOf(body);
  windows.forEach((window, i) => {
    const at = MCFG_RESERVED_BYTES + MCFG_ENTRY_BYTES * i;
    view.setBigUint64(at, BigInt(window.base), true);
    view.setUint16(at + 8, window.segment, true);
    view.setUint8(at + 10, window.startBus);
    view.setUint8(at + 11, window.endBus);
  });
  return buildSdt('MCFG', MCFG_REVISION, body);
}

/**
 * The configuration windows.
 *
 * @throws RangeError as `parseSdt` does, or if an entry is cut off, its buses are in the wrong
 * order, or its base is not a multiple of 1 MiB
 */
export function parseMcfg(bytes: Uint8Array): EcamWindow[] {
  const { body } = parseSdt(bytes, 'MCFG');
  const entryBytes = body.length - MCFG_RESERVED_BYTES;
  if (entryBytes < 0 || entryBytes % MCFG_ENTRY_BYTES !== 0) {
    reject('MCFG', `body of ${body.length} bytes is not 8 + a multiple of 16`);
  }
  const view = viewOf(body);
  return Array.from({ length: entryBytes / MCFG_ENTRY_BYTES }, (_, i) => {
    const at = MCFG_RESERVED_BYTES + MCFG_ENTRY_BYTES * i;
    const base = getAddress(view, at, 'MCFG', `entry ${i} base`);
    const startBus = view.getUint8(at + 10);
    const endBus = view.getUint8(at + 11);
    if (base % (1 << 20) !== 0) reject('MCFG', `entry ${i} base is not a multiple of 1 MiB`);
    if (endBus < startBus) reject('MCFG', `entry ${i} buses ${startBus} to ${endBus}`);
    return { base, segment: view.getUint16(at + 8, true), startBus, endBus };
  });
}

/** Sum of all bytes modulo 256; 0 for a valid table. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  for (const byte of bytes) sum = (sum + byte) & 0xff;
  return sum;
}

function reject(table: string, rule: string): never {
  throw new RangeError(`${table}: ${rule}`);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function getAddress(view: DataView, at: number, table: string, what: string): number {
  const address = view.getBigUint64(at, true);
  if (address > BigInt(Number.MAX_SAFE_INTEGER)) reject(table, `${what} is beyond 2^53`);
  return Number(address);
}

/** ASCII; bytes that are not printable read as '?', so that a message about them stays readable. */
function text(bytes: Uint8Array, at: number, length: number): string {
  const codes = Array.from(bytes.subarray(at, at + length));
  return codes.map((c) => (c >= 0x20 && c < 0x7f ? String.fromCharCode(c) : '?')).join('');
}

function putText(bytes: Uint8Array, at: number, value: string, length: number): void {
  if (value.length > length) throw new RangeError(`'${value}' is longer than ${length} characters`);
  for (let i = 0; i < length; i++) bytes[at + i] = i < value.length ? value.charCodeAt(i) : 0x20;
}
