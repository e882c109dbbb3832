/** The 32-byte completion record and its status codes, little endian. */
import { Opcode } from './opcodes.ts';

export const COMPLETION_BYTES = 32;

/**
 * Byte offsets. The device writes STATUS last: software polls it for a value other than 0.
 */
export const CompletionOffset = {
  /** 6:0 code, bit 7 = the fault was on a write. */
  STATUS: 0,
  RESULT: 1,
  FAULT_INFO: 2,
  BYTES_COMPLETED: 4,
  FAULT_ADDRESS: 8,
  /** Invalid flags (24 bits) with status 0x11, otherwise the operation's: CRC value. */
  SPECIFIC: 16,
} as const;

export const STATUS_CODE_MASK = 0x7f;
export const STATUS_FAULT_ON_WRITE = 0x80;

export const DsaStatus = {
  NOT_WRITTEN: 0x00,
  SUCCESS: 0x01,
  SUCCESS_FALSE_PREDICATE: 0x02,
  PAGE_FAULT: 0x03,
  PAGE_RESPONSE_INVALID: 0x04,
  BATCH_MEMBER_ERROR: 0x05,
  BATCH_LIST_FAULT: 0x06,
  DELTA_OFFSET_ORDER: 0x07,
  DELTA_OFFSET_RANGE: 0x08,
  DIF_ERROR: 0x09,
  UNSUPPORTED_OPCODE: 0x10,
  INVALID_FLAGS: 0x11,
  RESERVED_NOT_ZERO: 0x12,
  TRANSFER_SIZE: 0x13,
  DESCRIPTOR_COUNT: 0x14,
  DELTA_SIZE: 0x15,
  OVERLAP: 0x16,
  DUALCAST_ALIGNMENT: 0x17,
  DESCRIPTOR_LIST_ALIGNMENT: 0x18,
  INTERRUPT_HANDLE: 0x19,
  COMPLETION_FAULT: 0x1a,
  COMPLETION_ALIGNMENT: 0x1b,
  OPERAND_ALIGNMENT: 0x1c,
  PRIVILEGE: 0x1d,
  TRAFFIC_CLASS: 0x1e,
  READBACK_FAULT: 0x1f,
  HARDWARE_ERROR: 0x20,
  HARDWARE_TIMEOUT: 0x21,
  TRANSLATION_ERROR: 0x22,
  DRAIN_EVENT_LOG: 0x26,
  BATCH_EVENT_LOG: 0x27,
} as const;
export type DsaStatus = (typeof DsaStatus)[keyof typeof DsaStatus];

const MEANINGS: Readonly<Partial<Record<number, string>>> = {
  [DsaStatus.NOT_WRITTEN]: 'not written yet',
  [DsaStatus.SUCCESS]: 'success',
  [DsaStatus.SUCCESS_FALSE_PREDICATE]: 'success, but not the expected result',
  [DsaStatus.PAGE_FAULT]: 'page fault, partial completion',
  [DsaStatus.PAGE_RESPONSE_INVALID]: 'page request answered: invalid request',
  [DsaStatus.BATCH_MEMBER_ERROR]: 'a batch member did not succeed',
  [DsaStatus.BATCH_LIST_FAULT]: 'page fault on the batch descriptor list',
  [DsaStatus.DELTA_OFFSET_ORDER]: 'delta offsets do not increase',
  [DsaStatus.DELTA_OFFSET_RANGE]: 'delta offset beyond the transfer size',
  [DsaStatus.DIF_ERROR]: 'data integrity field error',
  [DsaStatus.UNSUPPORTED_OPCODE]: 'unsupported operation',
  [DsaStatus.INVALID_FLAGS]: 'invalid flags',
  [DsaStatus.RESERVED_NOT_ZERO]: 'a reserved field is not zero',
  [DsaStatus.TRANSFER_SIZE]: 'transfer size out of range',
  [DsaStatus.DESCRIPTOR_COUNT]: 'descriptor count out of range',
  [DsaStatus.DELTA_SIZE]: 'delta size out of range',
  [DsaStatus.OVERLAP]: 'buffers overlap',
  [DsaStatus.DUALCAST_ALIGNMENT]: 'bits 11:0 of the two destinations differ',
  [DsaStatus.DESCRIPTOR_LIST_ALIGNMENT]: 'descriptor list misaligned',
  [DsaStatus.INTERRUPT_HANDLE]: 'invalid interrupt handle',
  [DsaStatus.COMPLETION_FAULT]: 'page fault on the completion record',
  [DsaStatus.COMPLETION_ALIGNMENT]: 'completion record misaligned',
  [DsaStatus.OPERAND_ALIGNMENT]: 'operand misaligned',
  [DsaStatus.PRIVILEGE]: 'privileged request not allowed',
  [DsaStatus.TRAFFIC_CLASS]: 'traffic class not configured',
  [DsaStatus.READBACK_FAULT]: 'page fault on a readback address',
  [DsaStatus.HARDWARE_ERROR]: 'hardware error',
  [DsaStatus.HARDWARE_TIMEOUT]: 'hardware timeout',
  [DsaStatus.TRANSLATION_ERROR]: 'address translation error',
  [DsaStatus.DRAIN_EVENT_LOG]: 'drain affected by an event log entry',
  [DsaStatus.BATCH_EVENT_LOG]: 'batch affected by an event log entry',
};

const NAMES: Readonly<Partial<Record<number, string>>> = Object.fromEntries(
  Object.entries(DsaStatus).map(([name, code]) => [code, name]),
);

/** `PAGE_FAULT`, or `status 0x7f`; bit 7 of a status byte is ignored. */
export function statusName(status: number): string {
  const code = status & STATUS_CODE_MASK;
  return NAMES[code] ?? `status 0x${code.toString(16).padStart(2, '0')}`;
}

/** What a status says, in words; bit 7 of a status byte is ignored. */
export function statusMeaning(status: number): string {
  return MEANINGS[status & STATUS_CODE_MASK] ?? 'undefined status';
}

/** A completion record, decoded. `crc` and `invalidFlags` are two readings of the same bytes. */
export interface Completion {
  /** Code without bit 7. */
  status: number;
  faultOnWrite: boolean;
  result: number;
  faultInfo: number;
  /** Bytes, or descriptors for a batch. */
  bytesCompleted: number;
  faultAddress: bigint;
  /** CRC value of CRCGEN and COPY_CRC. */
  crc: number;
  /** The flags that were not accepted, with status 0x11. */
  invalidFlags: number;
}

/** What an encoder is given: only the status is required. Of the last two give only one. */
export type CompletionInit = { readonly status: number } & Readonly<Partial<Completion>>;

/** The 32 bytes of a record. The CRC value, if given, wins over the invalid flags. */
export function encodeCompletion(init: CompletionInit): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(COMPLETION_BYTES);
  const view = new DataView(bytes.buffer);
  const write = init.faultOnWrite === true ? STATUS_FAULT_ON_WRITE : 0;
  view.setUint8(CompletionOffset.STATUS, (init.status & STATUS_CODE_MASK) | write);
  view.setUint8(CompletionOffset.RESULT, init.result ?? 0);
  view.setUint8(CompletionOffset.FAULT_INFO, init.faultInfo ?? 0);
  view.setUint32(CompletionOffset.BYTES_COMPLETED, init.bytesCompleted ?? 0, true);
  view.setBigUint64(CompletionOffset.FAULT_ADDRESS, init.faultAddress ?? 0n, true);
  const invalidFlags = (init.invalidFlags ?? 0) & 0xff_ffff;
  view.setUint32(CompletionOffset.SPECIFIC, init.crc ?? invalidFlags, true);
  return bytes;
}

/**
 * Reads a record at `offset`; every bit pattern decodes.
 *
 * @throws RangeError if fewer than 32 bytes follow `offset`.
 */
export function decodeCompletion(bytes: Uint8Array | DataView, offset = 0): Completion {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, COMPLETION_BYTES);
  const status = view.getUint8(CompletionOffset.STATUS);
  const specific = view.getUint32(CompletionOffset.SPECIFIC, true);
  return {
    status: status & STATUS_CODE_MASK,
    faultOnWrite: (status & STATUS_FAULT_ON_WRITE) !== 0,
    result: view.getUint8(CompletionOffset.RESULT),
    faultInfo: view.getUint8(CompletionOffset.FAULT_INFO),
    bytesCompleted: view.getUint32(CompletionOffset.BYTES_COMPLETED, true),
    faultAddress: view.getBigUint64(CompletionOffset.FAULT_ADDRESS, true),
    crc: specific,
    invalidFlags: specific & 0xff_ffff,
  };
}

/**
 * One line for people: `SUCCESS crc 0xe3069283`, or
 * `PAGE_FAULT (page fault, partial completion) on write at 0x5000, 4096 done`. The opcode, if
 * known, decides whether the CRC value and the result are shown.
 */
export function describeCompletion(record: Completion, opcode?: number): string {
  const parts = [statusName(record.status)];
  if (record.status === DsaStatus.SUCCESS || record.status === DsaStatus.SUCCESS_FALSE_PREDICATE) {
    if (opcode === Opcode.CRCGEN || opcode === Opcode.COPY_CRC) {
      parts.push(`crc 0x${record.crc.toString(16).padStart(8, '0')}`);
    }
    if (opcode === Opcode.COMPARE || opcode === Opcode.COMPARE_PATTERN) {
      const differs = `different at byte ${record.bytesCompleted}`;
      parts.push(record.result === 0 ? 'equal' : differs);
    }
    return parts.join(' ');
  }
  parts.push(`(${statusMeaning(record.status)})`);
  if (record.status === DsaStatus.INVALID_FLAGS) {
    parts.push(`flags 0x${record.invalidFlags.toString(16)}`);
  }
  if (record.faultAddress !== 0n) {
    const access = record.faultOnWrite ? 'write' : 'read';
    parts.push(`on ${access} at 0x${record.faultAddress.toString(16)}`);
  }
  return `${parts.join(' ')}, ${record.bytesCompleted} done`;
}
