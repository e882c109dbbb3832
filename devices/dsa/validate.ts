import { DsaStatus } from '../spec/dsa/completion.ts';
import { COMPLETION_ALIGNMENT, DESCRIPTOR_LIST_ALIGNMENT } from '../spec/dsa/descriptor.ts';
import { CrcFlag, DescriptorFlag as F, Opcode, rejectedFlags } from '../spec/dsa/opcodes.ts';
import type { Work } from './work.ts';

const CRC_SEED_ALIGNMENT = 4n;
const MIN_BATCH = 2;

/** What the device, beyond the work queue, has to say about a descriptor. */
export interface Rules {
  /** OPCAP. */
  readonly opcap: bigint;
  /** PASID capability: privileged mode is enabled. */
  readonly privilegedEnabled: () => boolean;
  /** GENCFG: users may ask for completion interrupts. */
  readonly userInterrupts: () => boolean;
  /** Whether a descriptor of that PASID (or none) may raise the vector. */
  readonly interruptAllowed: (handle: number, pasid: number) => boolean;
}

/**
 * Judges a descriptor before anything is translated: 0, or its status. Order: operation, flags,
 * reserved fields, privilege, record alignment, interrupt handle, sizes, alignment, overlap.
 */
export function validate(work: Work, rules: Rules): number {
  const { opcode } = work.descriptor;
  if (!isSupported(work, rules)) return DsaStatus.UNSUPPORTED_OPCODE;
  const invalid = invalidFlags(work, rules);
  if (invalid !== 0) {
    work.invalidFlags = invalid;
    return DsaStatus.INVALID_FLAGS;
  }
  if (work.reserved) return DsaStatus.RESERVED_NOT_ZERO;
  const { pasid, privileged } = work.client;
  if (privileged && pasid >= 0 && !rules.privilegedEnabled()) return DsaStatus.PRIVILEGE;
  if (!hasRecordAligned(work)) return DsaStatus.COMPLETION_ALIGNMENT;
  if (work.has(F.REQUEST_INTERRUPT) && !mayInterrupt(work, rules)) {
    return DsaStatus.INTERRUPT_HANDLE;
  }
  if (opcode === Opcode.NOOP || opcode === Opcode.DRAIN) return 0;
  return opcode === Opcode.BATCH ? validateBatch(work) : validateData(work);
}

/** Whether the record could be written where the descriptor says. */
export function hasRecordAligned(work: Work): boolean {
  if (!work.has(F.COMPLETION_VALID)) return true;
  return work.descriptor.completion % BigInt(COMPLETION_ALIGNMENT) === 0n;
}

/**
 * Whether the descriptor's interrupt handle may be raised. Through an IMS portal handles name entries
 * of interrupt message storage, and there are none.
 */
export function mayInterrupt(work: Work, rules: Rules): boolean {
  const { ims, pasid } = work.client;
  return !ims && rules.interruptAllowed(work.descriptor.interruptHandle, pasid);
}

function isSupported(work: Work, rules: Rules): boolean {
  const { opcode } = work.descriptor;
  const inBatch = work.batchIndex >= 0;
  if (inBatch && (opcode === Opcode.BATCH || opcode === Opcode.DRAIN)) return false;
  return (((rules.opcap & work.client.config.opConfig) >> BigInt(opcode)) & 1n) === 1n;
}

function invalidFlags(work: Work, rules: Rules): number {
  const { opcode, flags } = work.descriptor;
  let invalid = rejectedFlags(opcode, flags);
  if (work.batchIndex < 0) invalid |= flags & F.FENCE;
  if (!work.has(F.COMPLETION_VALID))
    invalid |= flags & (F.REQUEST_COMPLETION | F.REQUEST_INTERRUPT);
  if (work.client.config.blockOnFault === 0) invalid |= flags & F.BLOCK_ON_FAULT;
  const permitted = work.client.supervisor || rules.userInterrupts();
  if (!permitted) invalid |= flags & F.REQUEST_INTERRUPT;
  return invalid;
}

function validateBatch(work: Work): number {
  const { size, source } = work.descriptor;
  if (size < MIN_BATCH || size > 2 ** work.client.config.maxBatchShift) {
    return DsaStatus.DESCRIPTOR_COUNT;
  }
  const aligned = source % BigInt(DESCRIPTOR_LIST_ALIGNMENT) === 0n;
  return aligned ? 0 : DsaStatus.DESCRIPTOR_LIST_ALIGNMENT;
}

function validateData(work: Work): number {
  const { opcode, size, source, destination, crcSeedAddress } = work.descriptor;
  if (size === 0 || size > 2 ** work.client.config.maxTransferShift) return DsaStatus.TRANSFER_SIZE;
  const seedInMemory = work.isCrc && work.has(CrcFlag.READ_SEED);
  if (seedInMemory && crcSeedAddress % CRC_SEED_ALIGNMENT !== 0n) {
    return DsaStatus.OPERAND_ALIGNMENT;
  }
  // A CRC is of the bytes as they were, so its copy may not run over its own source.
  if (opcode !== Opcode.COPY_CRC) return 0;
  const length = BigInt(size);
  const apart = source + length <= destination || destination + length <= source;
  return apart ? 0 : DsaStatus.OVERLAP;
}
