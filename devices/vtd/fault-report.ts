import { vtd } from '../../trace/catalogue/vtd.ts';
import type { Tracer } from '../../trace/tracer.ts';
import { type AddressType, AT, type CompletionStatus, CPL } from '../pci/fabric.ts';
import { ridToString } from '../spec/pci.ts';
import { describeFault, FAULTS, recordsOnTranslationRequest } from '../spec/vtd/faults.ts';
import type { UnitConfig } from './config.ts';
import type { FaultLog, FaultRecord } from './fault-log.ts';

/** Of a request that was blocked, what its record does not say. */
interface Blocked {
  /** `read`, `translation` and the like. */
  readonly request: string;
  readonly status: CompletionStatus;
  /** A structure on the way has FPD set. */
  readonly fpd: boolean;
}

const ANSWERS: Readonly<Record<CompletionStatus, string>> = {
  [CPL.SUCCESS]: 'no translation',
  [CPL.UNSUPPORTED_REQUEST]: 'UR',
  [CPL.COMPLETER_ABORT]: 'CA',
};

/** Records and tells of the memory and page requests that were blocked (VT-d spec 7.1.3, 7.2). */
export class FaultReport {
  readonly #config: UnitConfig;
  readonly #faults: FaultLog;
  readonly #trace: Tracer;

  constructor(parts: { config: UnitConfig; faults: FaultLog; trace: Tracer }) {
    this.#config = parts.config;
    this.#faults = parts.faults;
    this.#trace = parts.trace;
  }

  /** FPD keeps qualified faults out of the log; `mayRecord` false those that can be recovered. */
  report(fault: FaultRecord, blocked: Blocked, mayRecord: boolean): void {
    const { code, sid, pasid, page } = fault;
    const silent = blocked.fpd && FAULTS.get(code)?.qualified === true;
    const recorded = mayRecord && !silent && this.#faults.record(fault);
    if (!this.#trace.on) return;
    this.#trace.emit(vtd.fault, {
      unit: this.#config.name,
      sid: ridToString(sid),
      pasid,
      address: page * 4096,
      request: blocked.request,
      code,
      reason: describeFault(code),
      answer: ANSWERS[blocked.status],
      recorded: recorded ? 1 : 0,
    });
  }
}

/** What a translation request that meets a fault is answered (VT-d spec 7.1.3, table). */
export function atsStatus(fault: number): CompletionStatus {
  const reply = FAULTS.get(fault)?.tr;
  if (reply === 'UR') return CPL.UNSUPPORTED_REQUEST;
  return reply === 'CA' ? CPL.COMPLETER_ABORT : CPL.SUCCESS;
}

/** Whether a fault is recorded: of translation requests, only what cannot be recovered. */
export function isRecorded(fault: number, isAts: boolean): boolean {
  return !isAts || recordsOnTranslationRequest(fault);
}

/** `read`, `write` or `translation`. */
export function requestText(type: AddressType, write: boolean): string {
  if (type !== AT.UNTRANSLATED) return 'translation';
  return write ? 'write' : 'read';
}
