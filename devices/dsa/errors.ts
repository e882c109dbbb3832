import { device } from '../../trace/catalogue/device.ts';
import type { Tracer } from '../../trace/tracer.ts';
import { statusName } from '../spec/dsa/completion.ts';
import { Swerr0, Swerr1, SwerrCode } from '../spec/dsa/registers.ts';
import type { Work } from './work.ts';

/**
 * Error code for a submission that was dropped: queue full or off, or not of the portal's kind. The
 * specification's number for it could not be confirmed; this one is the model's.
 */
export const SWERR_DROPPED = 0x50;

const VALID = 1n;
const OVERFLOW = 2n;

/** What an error is about; fields that are not known stay 0. */
export interface SoftwareErrorInfo {
  readonly error: number;
  readonly wq?: number;
  readonly work?: Work;
  readonly faultAddress?: bigint;
  readonly faultOnWrite?: boolean;
}

/** SWERR: the first error that no completion record could hold; a later one only marks overflow. */
export class SoftwareErrors {
  readonly #words = new BigUint64Array(4);
  readonly #trace: Tracer;
  readonly #name: string;

  constructor(trace: Tracer, name: string) {
    this.#trace = trace;
    this.#name = name;
  }

  word(index: number): bigint {
    return this.#words[index] ?? 0n;
  }

  reset(): void {
    this.#words.fill(0n);
  }

  /** Software wrote `value` to word 0: ones in bits 1:0 clear. Without valid, nothing is left. */
  clear(value: bigint): void {
    this.#words[0] = this.#words[0]! & ~(value & (VALID | OVERFLOW));
    if ((this.#words[0] & VALID) === 0n) this.#words.fill(0n);
  }

  record(info: SoftwareErrorInfo): void {
    const { work, error } = info;
    const wq = info.wq ?? work?.client.wq;
    const pasid = Math.max(0, work?.client.pasid ?? 0);
    const faultAddress = info.faultAddress ?? 0n;
    this.#trace.emit(device.error, {
      device: this.#name,
      error: errorName(error),
      wq: wq ?? -1,
      pasid: work?.client.pasid ?? -1,
      address: faultAddress,
    });
    if ((this.#words[0]! & VALID) !== 0n) {
      this.#words[0] = this.#words[0]! | OVERFLOW;
      return;
    }
    this.#words[0] = Swerr0.encode({
      valid: 1,
      descriptorValid: work === undefined ? 0 : 1,
      wqIndexValid: wq === undefined ? 0 : 1,
      batch: work !== undefined && work.batchIndex >= 0 ? 1 : 0,
      faultOnWrite: info.faultOnWrite === true ? 1 : 0,
      privileged: work?.client.privileged === true ? 1 : 0,
      error,
      wqIndex: wq ?? 0,
      operation: work?.descriptor.opcode ?? 0,
      pasid,
    });
    this.#words[1] = Swerr1.encode({
      batchIndex: Math.max(0, work?.batchIndex ?? 0),
      invalidFlags: work?.invalidFlags ?? 0,
    });
    this.#words[2] = faultAddress;
  }
}

function errorName(error: number): string {
  switch (error) {
    case SWERR_DROPPED:
      return 'SUBMISSION_DROPPED';
    case SwerrCode.PCI_CONFIGURATION:
      return 'PCI_CONFIGURATION';
    case SwerrCode.COMMAND_WHILE_ACTIVE:
      return 'COMMAND_WHILE_ACTIVE';
    default:
      return statusName(error);
  }
}
