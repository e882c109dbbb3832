import type { Tracer } from '../trace/tracer.ts';

const VECTORS = 256;
/** Vectors below are exceptions: a message with one of them is an APIC error and is dropped. */
const FIRST_VECTOR = 16;

/** The interrupt request register of the vCPU's local APIC: 256 vectors, the highest taken first. */
export class PendingInterrupts {
  readonly #pending = new Uint8Array(VECTORS);
  readonly #space: string;
  readonly #trace: Tracer;
  #count = 0;

  /** @param name the VM's name; causes travel in the trace space '<name> irq' */
  constructor(name: string, trace: Tracer) {
    this.#space = `${name} irq`;
    this.#trace = trace;
  }

  get any(): boolean {
    return this.#count > 0;
  }

  /** A fixed interrupt arrives. One that is pending already is merged with it. */
  post(vector: number): void {
    if (vector < FIRST_VECTOR || vector >= VECTORS) return;
    this.#trace.mark(this.#space, vector);
    if (this.#pending[vector] === 1) return;
    this.#pending[vector] = 1;
    this.#count++;
  }

  /** Takes the highest pending vector, or -1. */
  take(): number {
    if (this.#count === 0) return -1;
    const vector = this.#pending.lastIndexOf(1);
    this.#pending[vector] = 0;
    this.#count--;
    this.#trace.adopt(this.#space, vector);
    return vector;
  }
}
