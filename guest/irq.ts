/** Interrupt vectors: who asked for which, and what runs when one is taken. */
import { encodeMsi, type MsiMessage } from '../devices/spec/msi.ts';
import { guest } from '../trace/catalogue/guest.ts';
import type { Tracer } from '../trace/tracer.ts';
import type { Cpu } from './cpu.ts';
import { GuestError } from './errno.ts';

/** The first vector that is free for devices, and the first beyond. */
const FIRST_VECTOR = 0x30;
const VECTOR_LIMIT = 0xf0;

/** APIC id of the only vCPU. */
const BOOT_APIC_ID = 0;

interface Action {
  readonly name: string;
  /** Runs with interrupts off and may not block: it wakes a thread (a threaded interrupt). */
  readonly handler: () => void;
}

/** An allocated vector, with the message a device must send to raise it. */
export interface IrqLine extends MsiMessage {
  readonly vector: number;
}

export class Interrupts {
  readonly #cpu: Cpu;
  readonly #trace: Tracer;
  readonly #vm: string;
  readonly #actions = new Map<number, Action>();
  #next = FIRST_VECTOR;

  constructor(cpu: Cpu, trace: Tracer, vm: string) {
    this.#cpu = cpu;
    this.#trace = trace;
    this.#vm = vm;
  }

  /** Gives `name` a vector of its own. Throws GuestError ENOSPC when none is left. */
  allocate(name: string, handler: () => void): IrqLine {
    if (this.#next >= VECTOR_LIMIT) throw new GuestError('ENOSPC', `no vector left for ${name}`);
    const vector = this.#next++;
    this.#actions.set(vector, { name, handler });
    return { vector, ...encodeMsi({ destination: BOOT_APIC_ID, vector }) };
  }

  /**
   * Takes every pending interrupt. A vector nobody asked for is acknowledged and ignored. The CPU
   * may leave the cause of the injection in `trace.cause` while it hands a vector over.
   */
  dispatch(): void {
    for (let taken = 0; taken < 256; taken++) {
      this.#trace.cause = 0;
      const vector = this.#cpu.takeInterrupt();
      if (vector < 0) break;
      const action = this.#actions.get(vector);
      const handler = action?.name ?? 'spurious';
      using _span = this.#trace.span(guest.interrupt, { vm: this.#vm, vector, handler });
      action?.handler();
    }
    this.#trace.cause = 0;
  }
}
