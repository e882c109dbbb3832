import { type CompletionStatus, CPL } from '../pci/fabric.ts';
import { TLB } from './iotlb.ts';

// Constant to the compiler only when they are here.
const { SUCCESS } = CPL;

/** Beside TLB bits in `word`, where the IOTLB has the high part of a frame number. */
const PRIVILEGED = 1;
const UNTRANSLATED_ONLY = 2;
const HIGH_FRAME = 0xf_ffff;

/**
 * What came of a request; one object, overwritten by each. An answer is a frame number and one
 * word, so that a hit stores little.
 */
export class TranslationResult {
  /** 0, or the fault reason code, recorded or not. */
  fault = 0;
  /** Frame number of the 4 KiB page asked for. */
  pfn = 0;
  status: CompletionStatus = CPL.SUCCESS;
  #word = 12 << TLB.SHIFT;

  /** log2 of the bytes that the translation covers. */
  get shift(): number {
    return this.#word >>> TLB.SHIFT;
  }

  get read(): boolean {
    return (this.#word & TLB.R) !== 0;
  }

  get write(): boolean {
    return (this.#word & TLB.W) !== 0;
  }

  /** The ATS N flag: the No Snoop attribute may not be used. */
  get noSnoop(): boolean {
    return (this.#word & TLB.SNOOP) !== 0;
  }

  /** The request was made, and answered, in privileged mode. */
  get priv(): boolean {
    return (this.#word & PRIVILEGED) !== 0;
  }

  get untranslatedOnly(): boolean {
    return (this.#word & UNTRANSLATED_ONLY) !== 0;
  }

  /** `word` holds TLB bits and the size, as the IOTLB does; its low 20 bits do not count. */
  answer(pfn: number, word: number, priv: boolean): void {
    this.fault = 0;
    this.status = SUCCESS;
    this.pfn = pfn;
    this.#word = priv ? (word & ~HIGH_FRAME) | PRIVILEGED : word & ~HIGH_FRAME;
  }

  /** The answer just given holds for untranslated requests only. */
  onlyUntranslated(): void {
    this.#word |= UNTRANSLATED_ONLY;
  }
}
