/** Operations of the accelerator and the descriptor flags each of them accepts. */

export const Opcode = {
  NOOP: 0x00,
  BATCH: 0x01,
  DRAIN: 0x02,
  MEMMOVE: 0x03,
  FILL: 0x04,
  COMPARE: 0x05,
  COMPARE_PATTERN: 0x06,
  CREATE_DELTA: 0x07,
  APPLY_DELTA: 0x08,
  DUALCAST: 0x09,
  TRANSLATION_FETCH: 0x0a,
  CRCGEN: 0x10,
  COPY_CRC: 0x11,
  DIF_CHECK: 0x12,
  DIF_INSERT: 0x13,
  DIF_STRIP: 0x14,
  DIF_UPDATE: 0x15,
  DIX_GENERATE: 0x17,
  CACHE_FLUSH: 0x20,
} as const;
export type Opcode = (typeof Opcode)[keyof typeof Opcode];

const NAMES: Readonly<Partial<Record<number, string>>> = Object.fromEntries(
  Object.entries(Opcode).map(([name, opcode]) => [opcode, name]),
);

/** `MEMMOVE`, or `opcode 0x7f` for a number that is no operation. */
export function opcodeName(opcode: number): string {
  return NAMES[opcode] ?? `opcode 0x${opcode.toString(16).padStart(2, '0')}`;
}

/** The OPCAP (or op-config) value of a list of operations: bit n = opcode n. 256 bits. */
export function opcap(opcodes: readonly number[]): bigint {
  return opcodes.reduce((bits, opcode) => bits | (1n << BigInt(opcode & 0xff)), 0n);
}

/** Descriptor flags (24 bits). Bits from 16 on mean something else for each operation. */
export const DescriptorFlag = {
  /** Batch members only: wait for all earlier members. */
  FENCE: 1 << 0,
  BLOCK_ON_FAULT: 1 << 1,
  /** CRAV: the completion record address is valid. */
  COMPLETION_VALID: 1 << 2,
  /** RCR: write a completion record on success too. */
  REQUEST_COMPLETION: 1 << 3,
  /** RCI: raise the completion interrupt. */
  REQUEST_INTERRUPT: 1 << 4,
  COMPLETION_STEERING: 1 << 5,
  CHECK_RESULT: 1 << 7,
  CACHE_CONTROL: 1 << 8,
  ADDRESS1_TC: 1 << 9,
  ADDRESS2_TC: 1 << 10,
  ADDRESS3_TC: 1 << 11,
  COMPLETION_TC: 1 << 12,
  STRICT_ORDER: 1 << 13,
  DESTINATION_READBACK: 1 << 14,
  DESTINATION_STEERING: 1 << 15,
} as const;

/** CRCGEN and COPY_CRC: where the seed is and how data and value are transformed. */
export const CrcFlag = {
  READ_SEED: 1 << 16,
  BYPASS_INVERSION: 1 << 17,
  BYPASS_REFLECTION: 1 << 18,
} as const;

export const DrainFlag = {
  READBACK1_VALID: 1 << 16,
  READBACK2_VALID: 1 << 17,
  SUPPRESS_TC_A: 1 << 18,
  SUPPRESS_TC_B: 1 << 19,
} as const;

export const DualcastFlag = { DESTINATION2_STEERING: 1 << 16 } as const;

const F = DescriptorFlag;
const EVERY =
  F.COMPLETION_VALID |
  F.REQUEST_COMPLETION |
  F.REQUEST_INTERRUPT |
  F.COMPLETION_STEERING |
  F.COMPLETION_TC;
const READ = EVERY | F.FENCE | F.BLOCK_ON_FAULT;
const TC12 = F.ADDRESS1_TC | F.ADDRESS2_TC;
const DESTINATION = F.STRICT_ORDER | F.DESTINATION_READBACK | F.DESTINATION_STEERING;
const WRITE = READ | F.CACHE_CONTROL | DESTINATION;
const MOVE = WRITE | TC12;
const CRC = CrcFlag.READ_SEED | CrcFlag.BYPASS_INVERSION | CrcFlag.BYPASS_REFLECTION;
const DRAIN =
  DrainFlag.READBACK1_VALID |
  DrainFlag.READBACK2_VALID |
  DrainFlag.SUPPRESS_TC_A |
  DrainFlag.SUPPRESS_TC_B;

/** Flags each operation accepts; any other bit is status 0x11 (invalid flags). */
const ACCEPTED: Readonly<Partial<Record<number, number>>> = {
  [Opcode.NOOP]: EVERY | F.FENCE,
  [Opcode.BATCH]: EVERY | F.ADDRESS1_TC,
  [Opcode.DRAIN]: EVERY | TC12 | DRAIN,
  [Opcode.MEMMOVE]: MOVE,
  [Opcode.FILL]: WRITE | F.ADDRESS2_TC,
  [Opcode.COMPARE]: READ | F.CHECK_RESULT | TC12,
  [Opcode.COMPARE_PATTERN]: READ | F.CHECK_RESULT | F.ADDRESS1_TC,
  [Opcode.CREATE_DELTA]: MOVE | F.CHECK_RESULT | F.ADDRESS3_TC,
  [Opcode.APPLY_DELTA]: MOVE,
  [Opcode.DUALCAST]: MOVE | F.ADDRESS3_TC | DualcastFlag.DESTINATION2_STEERING,
  [Opcode.CRCGEN]: READ | F.ADDRESS1_TC | F.ADDRESS3_TC | CRC,
  [Opcode.COPY_CRC]: MOVE | F.ADDRESS3_TC | CRC,
  [Opcode.DIF_CHECK]: READ | F.ADDRESS1_TC,
  [Opcode.DIF_INSERT]: MOVE,
  [Opcode.DIF_STRIP]: MOVE,
  [Opcode.DIF_UPDATE]: MOVE,
  [Opcode.CACHE_FLUSH]: WRITE | F.ADDRESS2_TC,
};

/** Flags the operation accepts; for an operation without a rule only the common ones. */
export function acceptedFlags(opcode: number): number {
  return ACCEPTED[opcode] ?? EVERY;
}

/** The flags that make a descriptor invalid because its operation does not define them. */
export function rejectedFlags(opcode: number, flags: number): number {
  return flags & ~acceptedFlags(opcode) & 0xff_ffff;
}

const COMMON_FLAG_NAMES: Readonly<Record<string, number>> = {
  fence: F.FENCE,
  bof: F.BLOCK_ON_FAULT,
  crav: F.COMPLETION_VALID,
  rcr: F.REQUEST_COMPLETION,
  rci: F.REQUEST_INTERRUPT,
  cr_steer: F.COMPLETION_STEERING,
  check: F.CHECK_RESULT,
  cc: F.CACHE_CONTROL,
  tc1: F.ADDRESS1_TC,
  tc2: F.ADDRESS2_TC,
  tc3: F.ADDRESS3_TC,
  cr_tc: F.COMPLETION_TC,
  strict: F.STRICT_ORDER,
  readback: F.DESTINATION_READBACK,
  steer: F.DESTINATION_STEERING,
};
const OWN_FLAG_NAMES: Readonly<Partial<Record<number, Readonly<Record<string, number>>>>> = {
  [Opcode.CRCGEN]: { seed_mem: 1 << 16, no_inversion: 1 << 17, no_reflection: 1 << 18 },
  [Opcode.COPY_CRC]: { seed_mem: 1 << 16, no_inversion: 1 << 17, no_reflection: 1 << 18 },
  [Opcode.DRAIN]: { rb1: 1 << 16, rb2: 1 << 17, no_tc_a: 1 << 18, no_tc_b: 1 << 19 },
  [Opcode.DUALCAST]: { steer2: 1 << 16 },
};

/** `bof|crav|rcr`; bits without a name as hex; `none` for 0. */
export function describeFlags(opcode: number, flags: number): string {
  const names = { ...COMMON_FLAG_NAMES, ...OWN_FLAG_NAMES[opcode] };
  const known = Object.entries(names).filter(([, bit]) => (flags & bit) !== 0);
  const rest = known.reduce((bits, [, bit]) => bits & ~bit, flags & 0xff_ffff);
  const parts = known.map(([name]) => name);
  if (rest !== 0) parts.push(`0x${rest.toString(16)}`);
  return parts.length === 0 ? 'none' : parts.join('|');
}
