/**
 * Register file of the accelerator (Intel DSA 1.0): identity, BAR0 map, register fields, commands
 * and their error codes. Tables in BAR0 (groups, work queues, MSI-X permissions) are in
 * `tables.ts`, the modelled device's capability set in `capabilities.ts`.
 */
import { register32, register64 } from './fields.ts';

/** PCI identity of the modelled device. */
export const DsaPci = {
  VENDOR_ID: 0x8086,
  DEVICE_ID: 0x0b25,
  /** Base system peripheral, other. */
  CLASS: 0x08_80_00,
  REVISION: 0,
  /** BAR0 (with BAR1): 64-bit prefetchable, register file. */
  BAR0_BYTES: 0x1_0000,
  /** MSI-X table and pending bits inside BAR0. */
  MSIX_TABLE_BAR: 0,
  MSIX_TABLE_OFFSET: 0xf000,
  MSIX_PBA_OFFSET: 0xf800,
} as const;

/** VERSION values; drivers compare the whole word. */
export const DsaVersion = { DSA_1_0: 0x100, DSA_2_0: 0x200 } as const;

/** Byte offsets in BAR0. Undefined offsets read 0 and ignore writes. */
export const DsaReg = {
  VERSION: 0x00,
  GENCAP: 0x10,
  WQCAP: 0x20,
  GRPCAP: 0x30,
  ENGCAP: 0x38,
  OPCAP: 0x40,
  OFFSETS: 0x60,
  GENCFG: 0x80,
  GENCTRL: 0x88,
  GENSTS: 0x90,
  INTCAUSE: 0x98,
  CMD: 0xa0,
  CMDSTS: 0xa8,
  CMDCAP: 0xb0,
  SWERR: 0xc0,
  EVLCFG: 0xe0,
  EVLSTATUS: 0xf0,
} as const;

/** Sizes in bytes of the registers in `DsaReg` that are not 32 bits wide. */
export const OPCAP_BYTES = 32;
export const OFFSETS_BYTES = 16;
export const SWERR_BYTES = 32;
export const EVLCFG_BYTES = 16;

export const Gencap = register64({
  blockOnFault: [0, 0],
  overlapCopy: [1, 1],
  cacheControlMemory: [2, 2],
  cacheControlFlush: [3, 3],
  commandCapabilities: [4, 4],
  destinationReadback: [8, 8],
  drainReadback: [9, 9],
  eventLogSupport: [14, 13],
  batchContinuation: [15, 15],
  maxTransferShift: [20, 16],
  maxBatchShift: [24, 21],
  /** Interrupt message storage entries / 256. */
  imsSize: [30, 25],
  /** 0: the configuration is read only. */
  configEnable: [31, 31],
});

export const Wqcap = register64({
  totalWqSize: [15, 0],
  wqCount: [23, 16],
  /** A WQCFG entry has 32 << wqcfgSize bytes. */
  wqcfgSize: [27, 24],
  sharedMode: [48, 48],
  dedicatedMode: [49, 49],
  atsControl: [50, 50],
  priority: [51, 51],
  occupancy: [52, 52],
  occupancyInterrupt: [53, 53],
  opConfig: [54, 54],
  prsControl: [55, 55],
});

export const Grpcap = register64({
  groupCount: [7, 0],
  readBuffers: [15, 8],
  readBufferControl: [16, 16],
  globalReadBufferLimit: [17, 17],
  progressLimits: [18, 18],
});

export const Engcap = register64({ engineCount: [7, 0] });

/** OFFSETS: table offsets in units of 0x100 bytes of BAR0; 0 where there is no table. */
export const OFFSETS_UNIT = 0x100;
export const Offsets0 = register64({
  grpcfg: [15, 0],
  wqcfg: [31, 16],
  msixPermissions: [47, 32],
  ims: [63, 48],
});
export const Offsets1 = register64({ perfmon: [15, 0] });

export const Gencfg = register32({
  globalReadBufferLimit: [7, 0],
  /** User-privileged descriptors may request completion interrupts. */
  userInterruptEnable: [12, 12],
  eventLogEnable: [13, 13],
});

/** Which causes raise MSI-X vector 0. */
export const Genctrl = register32({
  softwareErrorInterrupt: [0, 0],
  haltInterrupt: [1, 1],
  eventLogInterrupt: [2, 2],
});

export const Gensts = register32({ state: [1, 0], resetType: [3, 2] });

export const DeviceState = { DISABLED: 0, ENABLED: 1, DRAINING: 2, HALTED: 3 } as const;
/** Which reset leads out of the halted state. */
export const ResetType = { SOFTWARE: 0, FLR: 1, WARM: 2, COLD: 3 } as const;

/** INTCAUSE bits, write 1 to clear. Bit 31 as an unsigned number. */
export const Intcause = {
  SOFTWARE_ERROR: 0x1,
  COMMAND: 0x2,
  OCCUPANCY: 0x4,
  PERFMON: 0x8,
  HALT: 0x10,
  EVENT_LOG: 0x20,
  HANDLES_REVOKED: 0x8000_0000,
  ALL: 0x8000_003f,
} as const;

/** CMD, write only. A write while CMDSTS.active is set is software error 0x52 and is dropped. */
export const CmdReg = register32({
  operand: [19, 0],
  command: [24, 20],
  interrupt: [31, 31],
});

export const CmdstsReg = register32({ error: [7, 0], result: [23, 8], active: [31, 31] });
export const CMDSTS_ACTIVE = 0x8000_0000;

export const DsaCommand = {
  ENABLE_DEVICE: 1,
  DISABLE_DEVICE: 2,
  DRAIN_ALL: 3,
  ABORT_ALL: 4,
  RESET_DEVICE: 5,
  ENABLE_WQ: 6,
  DISABLE_WQ: 7,
  DRAIN_WQ: 8,
  ABORT_WQ: 9,
  RESET_WQ: 10,
  DRAIN_PASID: 11,
  ABORT_PASID: 12,
  REQUEST_INTERRUPT_HANDLE: 13,
  RELEASE_INTERRUPT_HANDLE: 14,
} as const;

const COMMAND_NAMES: Readonly<Partial<Record<number, string>>> = nameByValue(DsaCommand);

/** `ENABLE_WQ`, or `command 31` for a number that is no command. */
export function commandName(command: number): string {
  return COMMAND_NAMES[command] ?? `command ${command}`;
}

/** Operand of DISABLE_WQ, DRAIN_WQ, ABORT_WQ and RESET_WQ: a mask within a group of 16 WQs. */
export const CmdWqMask = register32({ mask: [15, 0], group: [19, 16] });

/** The WQ numbers such an operand names, ascending. */
export function wqsOfMask(operand: number): number[] {
  const { mask, group } = CmdWqMask.decode(operand);
  const bits = Array.from({ length: 16 }, (_, bit) => bit).filter((bit) => (mask >>> bit) & 1);
  return bits.map((bit) => group * 16 + bit);
}

/** Operand for one WQ. */
export function wqMaskOperand(wq: number): number {
  return CmdWqMask.encode({ mask: 1 << (wq & 15), group: wq >>> 4 });
}

/** CMDSTS error codes. */
export const CmdError = {
  SUCCESS: 0x00,
  INVALID_COMMAND: 0x01,
  INVALID_WQ_INDEX: 0x02,
  HARDWARE_ERROR: 0x03,
  DEVICE_ALREADY_ENABLED: 0x10,
  CONFIGURATION_ERROR: 0x11,
  BUS_MASTER_DISABLED: 0x12,
  PASID_NOT_ENABLED: 0x13,
  WQ_SIZES_OUT_OF_RANGE: 0x14,
  /** A WQ or an engine is in several groups. */
  GROUP_MEMBERSHIP: 0x15,
  /** A group has WQs but no engine, or engines but no WQ. */
  GROUP_INCOMPLETE: 0x16,
  /** More read buffers are reserved than exist. */
  GROUP_READ_BUFFERS: 0x17,
  GROUP_FLAGS: 0x18,
  DEVICE_NOT_ENABLED: 0x20,
  WQ_ALREADY_ENABLED: 0x21,
  WQ_SIZE: 0x22,
  WQ_PRIORITY: 0x23,
  WQ_MODE: 0x24,
  WQ_BLOCK_ON_FAULT: 0x25,
  WQ_PASID_ENABLE: 0x26,
  WQ_MAX_BATCH: 0x27,
  WQ_MAX_TRANSFER: 0x28,
  DISABLE_DEVICE_NOT_ENABLED: 0x31,
  WQ_NOT_ENABLED: 0x32,
  INVALID_INTERRUPT_INDEX: 0x41,
  NO_INTERRUPT_HANDLE: 0x42,
} as const;

const CMD_ERROR_NAMES: Readonly<Partial<Record<number, string>>> = nameByValue(CmdError);

/** `WQ_SIZE`, or `error 0x7f` for a code that is not defined. */
export function cmdErrorName(error: number): string {
  return CMD_ERROR_NAMES[error] ?? `error 0x${error.toString(16)}`;
}

/**
 * SWERR, four 64-bit words; word 2 is the fault address, word 3 reserved. The first error latches,
 * a later one only sets `overflow`. Writing 1 to bits 1:0 of word 0 clears.
 */
export const Swerr0 = register64({
  valid: [0, 0],
  overflow: [1, 1],
  descriptorValid: [2, 2],
  wqIndexValid: [3, 3],
  batch: [4, 4],
  faultOnWrite: [5, 5],
  privileged: [6, 6],
  error: [15, 8],
  wqIndex: [23, 16],
  operation: [39, 32],
  pasid: [59, 40],
});
export const Swerr1 = register64({ batchIndex: [15, 0], invalidFlags: [63, 32] });

/** SWERR error codes beyond the completion status codes. */
export const SwerrCode = { PCI_CONFIGURATION: 0x51, COMMAND_WHILE_ACTIVE: 0x52 } as const;

/** EVLCFG word 0; `basePage` is the ring's address >> 12. */
export const Evlcfg0 = register64({
  pasidEnable: [0, 0],
  privileged: [1, 1],
  basePage: [63, 12],
});
/** EVLCFG word 1; `size` counts entries, 64 to 65535. */
export const Evlcfg1 = register64({ size: [15, 0], pasid: [35, 16] });
/** EVLSTATUS: software owns `head`, hardware `tail`; `interruptPending` is write 1 to clear. */
export const Evlstatus = register64({
  head: [15, 0],
  tail: [47, 32],
  interruptPending: [62, 62],
});

function nameByValue(values: Readonly<Record<string, number>>): Record<number, string> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [value, name]));
}
