/**
 * How the VMM hands a machine to the guest (our own boot protocol, in the spirit of PVH): one page of
 * guest memory at BOOT_PARAMS_GPA. All values little-endian.
 *
 * 0x00 u64 magic · 0x08 u64 GPA of the ACPI RSDP · 0x10 u32 number of memory ranges ·
 * 0x18 ranges {u64 start, u64 bytes} · 0x800 command line, ASCII, NUL-terminated, at most 2047 bytes.
 */
export const BOOT_PARAMS_GPA = 0x1000;
export const BOOT_PARAMS_BYTES = 0x1000;
/** "vsvaboot" */
export const BOOT_MAGIC = 0x746f_6f62_6176_7376n;

const RANGES_AT = 0x18;
const COMMAND_LINE_AT = 0x800;
const MAX_RANGES = (COMMAND_LINE_AT - RANGES_AT) / 16;

export interface BootParams {
  /** Guest physical address of the RSDP. */
  readonly rsdp: number;
  /** Usable RAM, bytes, page aligned. */
  readonly ranges: readonly { readonly start: number; readonly bytes: number }[];
  readonly commandLine: string;
}

/** @throws RangeError when there are too many ranges or the command line is too long or not ASCII */
export function encodeBootParams(params: BootParams): Uint8Array {
  if (params.ranges.length > MAX_RANGES) {
    throw new RangeError(`boot params: at most ${MAX_RANGES} memory ranges`);
  }
  const line = new TextEncoder().encode(params.commandLine);
  if (
    line.length !== params.commandLine.length ||
    line.length >= BOOT_PARAMS_BYTES - COMMAND_LINE_AT
  ) {
    throw new RangeError('boot params: the command line must be ASCII of at most 2047 bytes');
  }
  const bytes = new Uint8Array(BOOT_PARAMS_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BOOT_MAGIC, true);
  view.setBigUint64(8, BigInt(params.rsdp), true);
  view.setUint32(0x10, params.ranges.length, true);
  params.ranges.forEach((range, i) => {
    view.setBigUint64(RANGES_AT + 16 * i, BigInt(range.start), true);
    view.setBigUint64(RANGES_AT + 16 * i + 8, BigInt(range.bytes), true);
  });
  bytes.set(line, COMMAND_LINE_AT);
  return bytes;
}

/** @throws RangeError when the page is not a boot page */
export function decodeBootParams(bytes: Uint8Array): BootParams {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getBigUint64(0, true) !== BOOT_MAGIC) throw new RangeError('boot params: wrong magic');
  const count = view.getUint32(0x10, true);
  if (count > MAX_RANGES) throw new RangeError(`boot params: ${count} memory ranges`);
  const ranges = Array.from({ length: count }, (_, i) => ({
    start: Number(view.getBigUint64(RANGES_AT + 16 * i, true)),
    bytes: Number(view.getBigUint64(RANGES_AT + 16 * i + 8, true)),
  }));
  const text = bytes.subarray(COMMAND_LINE_AT, BOOT_PARAMS_BYTES);
  const end = text.indexOf(0);
  return {
    rsdp: Number(view.getBigUint64(8, true)),
    ranges,
    commandLine: new TextDecoder('ascii').decode(text.subarray(0, end < 0 ? text.length : end)),
  };
}
