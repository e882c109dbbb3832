/** Capability registers of the modelled device, computed from one description. */
import { Opcode, opcap } from './opcodes.ts';
import {
  DsaCommand,
  DsaVersion,
  Engcap,
  Gencap,
  Grpcap,
  OFFSETS_UNIT,
  Offsets0,
  Offsets1,
  Wqcap,
} from './registers.ts';
import { Grpcfg, MSIX_PERMISSION_BYTES, portalBarBytes } from './tables.ts';

/** Operations the modelled device offers. */
export const MODEL_OPCODES: readonly number[] = [
  Opcode.NOOP,
  Opcode.BATCH,
  Opcode.DRAIN,
  Opcode.MEMMOVE,
  Opcode.FILL,
  Opcode.COMPARE,
  Opcode.COMPARE_PATTERN,
  Opcode.CRCGEN,
  Opcode.COPY_CRC,
];

/**
 * Commands the modelled device offers. Not REQUEST_INTERRUPT_HANDLE: with CMDCAP bit 13 clear an
 * interrupt handle is the MSI-X vector number, and the kernel's VFIO selftest driver refuses a
 * device where the bit is set.
 */
export const MODEL_COMMANDS: readonly number[] = [
  DsaCommand.ENABLE_DEVICE,
  DsaCommand.DISABLE_DEVICE,
  DsaCommand.DRAIN_ALL,
  DsaCommand.ABORT_ALL,
  DsaCommand.RESET_DEVICE,
  DsaCommand.ENABLE_WQ,
  DsaCommand.DISABLE_WQ,
  DsaCommand.DRAIN_WQ,
  DsaCommand.ABORT_WQ,
  DsaCommand.RESET_WQ,
  DsaCommand.DRAIN_PASID,
  DsaCommand.ABORT_PASID,
];

export interface DsaCapabilityOptions {
  /**
   * log2 of the longest transfer in bytes, up to 31. Real parts say 31; the default of 21 (2 MiB)
   * keeps one descriptor's work short, since clients size their descriptors by it and a software
   * model moves the bytes itself.
   */
  readonly maxTransferShift?: number;
  /** log2 of the longest batch, up to 15. Real parts say 9; the default is 5, for the same reason. */
  readonly maxBatchShift?: number;
  readonly wqCount?: number;
  readonly groupCount?: number;
  readonly engineCount?: number;
  /** Entries that all work queues share. */
  readonly totalWqSize?: number;
  readonly opcodes?: readonly number[];
}

/** What the device reports, as register values, with the numbers they were made from. */
export interface DsaCapabilities {
  readonly version: number;
  readonly gencap: bigint;
  readonly wqcap: bigint;
  readonly grpcap: bigint;
  readonly engcap: bigint;
  /** 256 bits, bit n = opcode n. */
  readonly opcap: bigint;
  readonly offsets: readonly [bigint, bigint];
  readonly cmdcap: number;
  readonly wqCount: number;
  readonly groupCount: number;
  readonly engineCount: number;
  readonly totalWqSize: number;
  readonly maxTransferShift: number;
  readonly maxBatchShift: number;
  /** Byte offsets in BAR0 of the three tables. */
  readonly grpcfgOffset: number;
  readonly wqcfgOffset: number;
  readonly msixPermissionOffset: number;
  /** Bytes of one WQCFG entry. */
  readonly wqcfgStride: number;
  /** Vector 0 is for device events, one more for each WQ. */
  readonly msixVectors: number;
  readonly bar2Bytes: number;
}

const WQCFG_SIZE = 1;
const FIRST_TABLE_OFFSET = 0x400;

/**
 * DSA 1.0 with 8 work queues, 4 groups and 4 engines unless the options say otherwise: block on
 * fault, overlapping copy, drain readback, shared and dedicated mode, ATS and PRS control per WQ.
 *
 * @throws RangeError if a number does not fit its register field.
 */
export function dsaCapabilities(options: DsaCapabilityOptions = {}): DsaCapabilities {
  const { maxTransferShift = 21, maxBatchShift = 5, opcodes = MODEL_OPCODES } = options;
  const { wqCount = 8, groupCount = 4, engineCount = 4, totalWqSize = 128 } = options;
  const wqcfgStride = 32 << WQCFG_SIZE;
  const msixVectors = wqCount + 1;
  const grpcfgOffset = FIRST_TABLE_OFFSET;
  const wqcfgOffset = alignTable(grpcfgOffset + groupCount * Grpcfg.BYTES);
  const msixPermissionOffset = alignTable(wqcfgOffset + wqCount * wqcfgStride);
  if (msixPermissionOffset + msixVectors * MSIX_PERMISSION_BYTES > 0xf000) {
    throw new RangeError(`tables of ${wqCount} WQs reach the MSI-X table in BAR0`);
  }
  return {
    version: DsaVersion.DSA_1_0,
    gencap: Gencap.encode({
      blockOnFault: 1,
      overlapCopy: 1,
      cacheControlMemory: 1,
      commandCapabilities: 1,
      destinationReadback: 1,
      drainReadback: 1,
      maxTransferShift,
      maxBatchShift,
      configEnable: 1,
    }),
    wqcap: Wqcap.encode({
      totalWqSize,
      wqCount,
      wqcfgSize: WQCFG_SIZE,
      sharedMode: 1,
      dedicatedMode: 1,
      atsControl: 1,
      priority: 1,
      occupancy: 1,
      opConfig: 1,
      prsControl: 1,
    }),
    grpcap: Grpcap.encode({ groupCount, readBuffers: 64 }),
    engcap: Engcap.encode({ engineCount }),
    opcap: opcap(opcodes),
    offsets: [
      Offsets0.encode({
        grpcfg: grpcfgOffset / OFFSETS_UNIT,
        wqcfg: wqcfgOffset / OFFSETS_UNIT,
        msixPermissions: msixPermissionOffset / OFFSETS_UNIT,
      }),
      Offsets1.encode({}),
    ],
    cmdcap: MODEL_COMMANDS.reduce((bits, command) => bits | (1 << command), 0),
    wqCount,
    groupCount,
    engineCount,
    totalWqSize,
    maxTransferShift,
    maxBatchShift,
    grpcfgOffset,
    wqcfgOffset,
    msixPermissionOffset,
    wqcfgStride,
    msixVectors,
    bar2Bytes: portalBarBytes(wqCount),
  };
}

function alignTable(offset: number): number {
  return Math.ceil(offset / OFFSETS_UNIT) * OFFSETS_UNIT;
}
