/**
 * The configuration tables in BAR0 (group, work queue, MSI-X permission) and the submission portals
 * in BAR2.
 */

import type { FieldValues } from './fields.ts';
import { register32, register64 } from './fields.ts';

/** GRPCFG entry of one group. */
export const Grpcfg = {
  BYTES: 64,
  /** 256 bits, bit n = WQ n is in the group. */
  WQ_BITMAP: 0x00,
  /** 64 bits, bit n = engine n is in the group. */
  ENGINE_BITMAP: 0x20,
  FLAGS: 0x28,
} as const;

export const GrpcfgFlags = register64({
  trafficClassA: [2, 0],
  trafficClassB: [5, 3],
  useGlobalReadBufferLimit: [7, 7],
  readBuffersReserved: [15, 8],
  readBuffersAllowed: [27, 20],
  descriptorsInProgressLimit: [33, 32],
  batchesInProgressLimit: [37, 36],
});

/** WQCFG entry: byte offsets of its dwords. The stride is 32 << WQCAP.wqcfgSize. */
export const Wqcfg = {
  SIZE: 0,
  THRESHOLD: 4,
  MODE: 8,
  LIMITS: 12,
  OCCUPANCY_HANDLE: 16,
  OCCUPANCY_LIMIT: 20,
  STATE: 24,
  OP_CONFIG: 32,
  OP_CONFIG_BYTES: 32,
} as const;

export const WqcfgSize = register32({ size: [15, 0] });
/** The limited portal accepts only while the occupancy is below it; shared mode only. */
export const WqcfgThreshold = register32({ threshold: [15, 0] });
export const WqcfgMode = register32({
  dedicated: [0, 0],
  blockOnFault: [1, 1],
  atsDisable: [2, 2],
  prsDisable: [3, 3],
  priority: [7, 4],
  /** Dedicated mode only. */
  pasid: [27, 8],
  pasidEnable: [28, 28],
  privileged: [29, 29],
});
export const WqcfgLimits = register32({ maxTransferShift: [4, 0], maxBatchShift: [8, 5] });
export const WqcfgOccupancyHandle = register32({ handle: [15, 0], tableSelect: [16, 16] });
export const WqcfgOccupancyLimit = register32({ limit: [15, 0], interruptEnable: [16, 16] });
/** Read only. */
export const WqcfgState = register32({
  occupancy: [15, 0],
  occupancyInterrupt: [16, 16],
  modeSupport: [29, 29],
  state: [31, 30],
});

export const WqState = { DISABLED: 0, ENABLED: 1, BUSY: 2 } as const;

/** The writable part of a WQCFG entry, decoded. */
export interface WqConfig extends FieldValues<typeof WqcfgMode.layout> {
  size: number;
  threshold: number;
  maxTransferShift: number;
  maxBatchShift: number;
  /** Bit n = opcode n is allowed; 0n where the entry has no op-config. */
  opConfig: bigint;
}

/** Length in 32-bit words of an entry with op-config. */
export const WQCFG_WORDS = 16;

/**
 * The dwords of a WQCFG entry. Fields left out are 0.
 *
 * @throws RangeError if a value does not fit its field.
 */
export function encodeWqcfg(config: Partial<WqConfig>): Uint32Array {
  const words = new Uint32Array(WQCFG_WORDS);
  const { size = 0, threshold = 0, maxTransferShift = 0, maxBatchShift = 0 } = config;
  words[Wqcfg.SIZE / 4] = WqcfgSize.encode({ size });
  words[Wqcfg.THRESHOLD / 4] = WqcfgThreshold.encode({ threshold });
  words[Wqcfg.MODE / 4] = WqcfgMode.encode(config);
  words[Wqcfg.LIMITS / 4] = WqcfgLimits.encode({ maxTransferShift, maxBatchShift });
  for (let i = 0; i < Wqcfg.OP_CONFIG_BYTES / 4; i++) {
    words[Wqcfg.OP_CONFIG / 4 + i] = Number(
      ((config.opConfig ?? 0n) >> BigInt(32 * i)) & 0xffff_ffffn,
    );
  }
  return words;
}

/** The configuration in the dwords of a WQCFG entry; dwords beyond the array count as 0. */
export function decodeWqcfg(words: ArrayLike<number>): WqConfig {
  const word = (byteOffset: number): number => words[byteOffset / 4] ?? 0;
  let opConfig = 0n;
  for (let byte = Wqcfg.OP_CONFIG_BYTES - 4; byte >= 0; byte -= 4) {
    opConfig = (opConfig << 32n) | BigInt(word(Wqcfg.OP_CONFIG + byte) >>> 0);
  }
  return {
    ...WqcfgSize.decode(word(Wqcfg.SIZE)),
    ...WqcfgThreshold.decode(word(Wqcfg.THRESHOLD)),
    ...WqcfgMode.decode(word(Wqcfg.MODE)),
    ...WqcfgLimits.decode(word(Wqcfg.LIMITS)),
    opConfig,
  };
}

/** MSI-X permission entry n: which descriptors may raise vector n. 8 bytes each. */
export const MSIX_PERMISSION_BYTES = 8;
export const MsixPermission = register32({
  /** Any descriptor may, whatever its PASID. */
  ignore: [2, 2],
  pasidEnable: [3, 3],
  pasid: [31, 12],
});

/** A submission portal is one 4 KiB page; each WQ has four. */
export const PORTAL_BYTES = 4096;
export const PORTALS_PER_WQ = 4;
/** A submission is one 64-byte store. */
export const SUBMISSION_BYTES = 64;

export interface PortalKind {
  /** Accepts only while the occupancy is below the WQ's threshold (shared mode). */
  readonly limited?: boolean;
  /** Interrupt handles refer to interrupt message storage instead of MSI-X. */
  readonly ims?: boolean;
}

/** Offset of a WQ's portal page in BAR2. */
export function portalOffset(wq: number, kind: PortalKind = {}): number {
  const page = (kind.ims === true ? 2 : 0) + (kind.limited === true ? 1 : 0);
  return (wq * PORTALS_PER_WQ + page) * PORTAL_BYTES;
}

/** Which WQ and portal an offset in BAR2 belongs to. */
export function decodePortal(offset: number): { wq: number; limited: boolean; ims: boolean } {
  const page = Math.floor(offset / PORTAL_BYTES);
  const kind = page % PORTALS_PER_WQ;
  return { wq: Math.floor(page / PORTALS_PER_WQ), limited: (kind & 1) !== 0, ims: kind >= 2 };
}

/** Size of BAR2: the next power of two that holds all portals. */
export function portalBarBytes(wqCount: number): number {
  let bytes = PORTAL_BYTES;
  while (bytes < wqCount * PORTALS_PER_WQ * PORTAL_BYTES) bytes *= 2;
  return bytes;
}
