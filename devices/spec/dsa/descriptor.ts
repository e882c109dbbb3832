/** The 64-byte work descriptor, little endian. */
import { describeFlags, Opcode, opcodeName } from './opcodes.ts';

export const DESCRIPTOR_BYTES = 64;

/** Byte offsets. One slot of the operation-specific area has several names. */
export const DescriptorOffset = {
  /** 19:0 PASID, 30:20 reserved, 31 privileged. */
  PASID: 0,
  /** 23:0 flags, 31:24 opcode. */
  FLAGS_OPCODE: 4,
  COMPLETION: 8,
  /** Source, readback address 1, fill pattern, or a batch's descriptor list. */
  SOURCE: 16,
  /** Destination, readback address 2, second source, or the compare pattern. */
  DESTINATION: 24,
  /** Transfer size in bytes, or a batch's descriptor count. */
  SIZE: 32,
  INTERRUPT_HANDLE: 36,
  RESERVED: 38,
  SPECIFIC: 40,
  EXPECTED_RESULT: 40,
  DESTINATION2: 40,
  CRC_SEED: 40,
  CRC_SEED_ADDRESS: 48,
} as const;

/** Completion records must be aligned to it. */
export const COMPLETION_ALIGNMENT = 32;
/** A batch's descriptor list must be aligned to it. */
export const DESCRIPTOR_LIST_ALIGNMENT = 64;

/**
 * A descriptor, decoded. `source`, `destination` and `size` serve every operation: the source slot
 * is also the fill pattern and a batch's list, the destination slot also the second source and the
 * compare pattern, and size a batch's descriptor count. The fields from `expectedResult` on share
 * bytes 40 to 63; which of them counts depends on the operation.
 */
export interface Descriptor {
  opcode: number;
  flags: number;
  pasid: number;
  privileged: boolean;
  completion: bigint;
  source: bigint;
  destination: bigint;
  size: number;
  interruptHandle: number;
  /** u8 at 40: COMPARE and COMPARE_PATTERN with check-result. */
  expectedResult: number;
  /** u64 at 40: DUALCAST. */
  destination2: bigint;
  /** u32 at 40: CRCGEN and COPY_CRC. */
  crcSeed: number;
  /** u64 at 48: CRCGEN and COPY_CRC with the read-seed flag. */
  crcSeedAddress: bigint;
}

type Specific = 'expectedResult' | 'destination2' | 'crcSeed' | 'crcSeedAddress';
/** What an encoder is given: only the opcode is required, everything else defaults to 0. */
export type DescriptorInit = { readonly opcode: number } & Readonly<Partial<Descriptor>>;

/**
 * The bytes of a descriptor. Addresses are truncated to 64 bits, other values to their fields. Of
 * the fields that share bytes 40 to 63 give only those of the operation.
 */
export function encodeDescriptor(init: DescriptorInit): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(DESCRIPTOR_BYTES);
  const view = new DataView(bytes.buffer);
  const privileged = init.privileged === true ? 0x8000_0000 : 0;
  view.setUint32(DescriptorOffset.PASID, ((init.pasid ?? 0) & 0xf_ffff) | privileged, true);
  const flags = (init.flags ?? 0) & 0xff_ffff;
  view.setUint32(DescriptorOffset.FLAGS_OPCODE, flags | (init.opcode << 24), true);
  view.setBigUint64(DescriptorOffset.COMPLETION, init.completion ?? 0n, true);
  view.setBigUint64(DescriptorOffset.SOURCE, init.source ?? 0n, true);
  view.setBigUint64(DescriptorOffset.DESTINATION, init.destination ?? 0n, true);
  view.setUint32(DescriptorOffset.SIZE, init.size ?? 0, true);
  view.setUint16(DescriptorOffset.INTERRUPT_HANDLE, init.interruptHandle ?? 0, true);
  encodeSpecific(view, init);
  return bytes;
}

function encodeSpecific(view: DataView, init: Partial<Pick<Descriptor, Specific>>): void {
  const { destination2, crcSeed, crcSeedAddress, expectedResult } = init;
  if (destination2 !== undefined) {
    view.setBigUint64(DescriptorOffset.DESTINATION2, destination2, true);
  }
  if (crcSeed !== undefined) view.setUint32(DescriptorOffset.CRC_SEED, crcSeed, true);
  if (crcSeedAddress !== undefined) {
    view.setBigUint64(DescriptorOffset.CRC_SEED_ADDRESS, crcSeedAddress, true);
  }
  if (expectedResult !== undefined) view.setUint8(DescriptorOffset.EXPECTED_RESULT, expectedResult);
}

/**
 * Reads a descriptor at `offset`. Every bit pattern decodes; judging it is the device's work.
 *
 * @throws RangeError if fewer than 64 bytes follow `offset`.
 */
export function decodeDescriptor(bytes: Uint8Array | DataView, offset = 0): Descriptor {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, DESCRIPTOR_BYTES);
  const pasidWord = view.getUint32(DescriptorOffset.PASID, true);
  const flagsWord = view.getUint32(DescriptorOffset.FLAGS_OPCODE, true);
  return {
    opcode: flagsWord >>> 24,
    flags: flagsWord & 0xff_ffff,
    pasid: pasidWord & 0xf_ffff,
    privileged: pasidWord >>> 31 !== 0,
    completion: view.getBigUint64(DescriptorOffset.COMPLETION, true),
    source: view.getBigUint64(DescriptorOffset.SOURCE, true),
    destination: view.getBigUint64(DescriptorOffset.DESTINATION, true),
    size: view.getUint32(DescriptorOffset.SIZE, true),
    interruptHandle: view.getUint16(DescriptorOffset.INTERRUPT_HANDLE, true),
    expectedResult: view.getUint8(DescriptorOffset.EXPECTED_RESULT),
    destination2: view.getBigUint64(DescriptorOffset.DESTINATION2, true),
    crcSeed: view.getUint32(DescriptorOffset.CRC_SEED, true),
    crcSeedAddress: view.getBigUint64(DescriptorOffset.CRC_SEED_ADDRESS, true),
  };
}

/**
 * Byte ranges [first, end) of the operation-specific area that an operation of DSA 1.0 defines. FILL
 * has none: 16-byte patterns came later, and refusing one beats filling with half of it.
 */
const SPECIFIC_RANGES: Readonly<Partial<Record<number, readonly (readonly [number, number])[]>>> = {
  [Opcode.COMPARE]: [[40, 41]],
  [Opcode.COMPARE_PATTERN]: [[40, 41]],
  [Opcode.CREATE_DELTA]: [
    [40, 52],
    [56, 57],
  ],
  [Opcode.APPLY_DELTA]: [[40, 44]],
  [Opcode.DUALCAST]: [[40, 48]],
  [Opcode.TRANSLATION_FETCH]: [[48, 52]],
  [Opcode.CRCGEN]: [
    [40, 44],
    [48, 56],
  ],
  [Opcode.COPY_CRC]: [
    [40, 44],
    [48, 56],
  ],
  [Opcode.DIF_CHECK]: [
    [40, 41],
    [42, 43],
    [48, 56],
  ],
  [Opcode.DIF_STRIP]: [
    [40, 41],
    [42, 43],
    [48, 56],
  ],
  [Opcode.DIF_INSERT]: [
    [41, 43],
    [56, 64],
  ],
  [Opcode.DIX_GENERATE]: [
    [41, 43],
    [56, 64],
  ],
  [Opcode.DIF_UPDATE]: [
    [40, 43],
    [48, 64],
  ],
};

/**
 * Whether a reserved field is not zero, which is status 0x12: bits 30:20 of the first word, bytes
 * 38 and 39, and those of bytes 40 to 63 that the operation does not define.
 *
 * @throws RangeError if fewer than 64 bytes follow `offset`.
 */
export function hasReservedBits(bytes: Uint8Array | DataView, offset = 0): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, DESCRIPTOR_BYTES);
  if ((view.getUint32(DescriptorOffset.PASID, true) & 0x7ff0_0000) !== 0) return true;
  if (view.getUint16(DescriptorOffset.RESERVED, true) !== 0) return true;
  const defined = SPECIFIC_RANGES[view.getUint8(DescriptorOffset.FLAGS_OPCODE + 3)] ?? [];
  for (let byte: number = DescriptorOffset.SPECIFIC; byte < DESCRIPTOR_BYTES; byte++) {
    if (view.getUint8(byte) === 0) continue;
    if (!defined.some(([first, end]) => byte >= first && byte < end)) return true;
  }
  return false;
}

/**
 * One line for people, with the slots named as the operation uses them:
 * `MEMMOVE pasid 5 flags bof|crav|rcr src 0x1000 dst 0x2000 size 4096 record 0x3000`.
 */
export function describeDescriptor(d: Descriptor): string {
  const who = `${opcodeName(d.opcode)} pasid ${d.pasid}${d.privileged ? ' priv' : ''}`;
  const operands = describeOperands(d);
  const parts = [who, `flags ${describeFlags(d.opcode, d.flags)}`];
  if (operands !== '') parts.push(operands);
  parts.push(`record ${hex(d.completion)}`);
  return parts.join(' ');
}

function describeOperands(d: Descriptor): string {
  const [source, destination, size] = [hex(d.source), hex(d.destination), String(d.size)];
  switch (d.opcode) {
    case Opcode.NOOP:
      return '';
    case Opcode.DRAIN:
      return `readback ${source} ${destination}`;
    case Opcode.BATCH:
      return `list ${source} count ${size}`;
    case Opcode.FILL:
      return `pattern ${source} dst ${destination} size ${size}`;
    case Opcode.COMPARE:
      return `src1 ${source} src2 ${destination} size ${size}`;
    case Opcode.COMPARE_PATTERN:
      return `src ${source} pattern ${destination} size ${size}`;
    case Opcode.CRCGEN:
      return `src ${source} size ${size} seed 0x${d.crcSeed.toString(16)}`;
    case Opcode.COPY_CRC:
      return `src ${source} dst ${destination} size ${size} seed 0x${d.crcSeed.toString(16)}`;
    default:
      return `src ${source} dst ${destination} size ${size}`;
  }
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
