/** The first word of every frame, "VVSA" in memory. */
export const FRAME_MAGIC = 0x4153_5656;

/** Bytes of a frame's header. */
export const FRAME_HEADER = 32;

/** Bytes of an event frame before its records: header, count of events, bytes of records. */
export const RECORDS_AT = FRAME_HEADER + 8;

/** An event frame is at most this long. */
export const FRAME_BYTES = 64 * 1024;

export const FRAME = { META: 1, EVENTS: 2, SNAPSHOT: 3, INDEX: 4, TRAILER: 5 } as const;

export interface FrameHeader {
  readonly crc: number;
  /** Bytes of the whole frame. */
  readonly length: number;
  readonly type: number;
  readonly seq: number;
  readonly ns: number;
}

/** Where the parts of a header lie. */
const AT = { magic: 0, crc: 4, length: 8, type: 12, flags: 14, seq: 16, ns: 24 } as const;

const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** Writes the header of a frame whose bytes are `bytes`, with no checksum yet. */
export function writeHeader(bytes: Uint8Array, type: number, seq: number, ns: number): void {
  const view = viewOf(bytes);
  view.setUint32(AT.magic, FRAME_MAGIC, true);
  view.setUint32(AT.crc, 0, true);
  view.setUint32(AT.length, bytes.length, true);
  view.setUint16(AT.type, type, true);
  view.setUint16(AT.flags, 0, true);
  view.setFloat64(AT.seq, seq, true);
  view.setFloat64(AT.ns, ns, true);
}

/** Puts the checksum in; it covers all that follows it. */
export function seal(bytes: Uint8Array, crc32: (data: Uint8Array) => number): void {
  viewOf(bytes).setUint32(AT.crc, crc32(bytes.subarray(AT.length)), true);
}

/** Whether the checksum is that of the bytes. */
export const isSealed = (bytes: Uint8Array, crc32: (data: Uint8Array) => number): boolean =>
  viewOf(bytes).getUint32(AT.crc, true) === crc32(bytes.subarray(AT.length));

/** The header that begins `bytes`; undefined where none does. */
export function readHeader(bytes: Uint8Array): FrameHeader | undefined {
  if (bytes.length < FRAME_HEADER) return undefined;
  const view = viewOf(bytes);
  if (view.getUint32(AT.magic, true) !== FRAME_MAGIC) return undefined;
  const length = view.getUint32(AT.length, true);
  if (length < FRAME_HEADER || length % 4 !== 0) return undefined;
  return {
    crc: view.getUint32(AT.crc, true),
    length,
    type: view.getUint16(AT.type, true),
    seq: view.getFloat64(AT.seq, true),
    ns: view.getFloat64(AT.ns, true),
  };
}

/** A frame of the type around a payload (blanks fill its last word), without its checksum. */
export function frameOf(type: number, seq: number, ns: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(FRAME_HEADER + Math.ceil(payload.length / 4) * 4);
  bytes.fill(0x20);
  bytes.set(payload, FRAME_HEADER);
  writeHeader(bytes, type, seq, ns);
  return bytes;
}
