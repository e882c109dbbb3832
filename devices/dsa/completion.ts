import { type CompletionInit, DsaStatus, encodeCompletion } from '../spec/dsa/completion.ts';
import { DescriptorFlag as F } from '../spec/dsa/opcodes.ts';
import type { Work } from './work.ts';

/**
 * Whether a finished descriptor leaves a record: on request after success, and after anything else
 * whenever there is a place for it.
 */
export function leavesRecord(work: Work): boolean {
  if (!work.has(F.COMPLETION_VALID)) return false;
  return work.has(F.REQUEST_COMPLETION) || work.status !== DsaStatus.SUCCESS;
}

/** The 32 bytes of a finished descriptor's record. */
export function completionRecord(work: Work): Uint8Array {
  const record: CompletionInit = {
    status: work.status,
    faultOnWrite: work.faultOnWrite,
    result: work.result,
    bytesCompleted: work.completed,
    faultAddress: work.faultAddress,
    invalidFlags: work.invalidFlags,
  };
  return encodeCompletion(work.isCrc && isCounted(work) ? { ...record, crc: work.crc } : record);
}

/** Whether data was processed, so that the record's operation-specific part has a meaning. */
function isCounted(work: Work): boolean {
  return work.status !== DsaStatus.INVALID_FLAGS;
}
