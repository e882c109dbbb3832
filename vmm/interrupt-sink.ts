import { DELIVERY_MODE, decodeMsi } from '../devices/spec/msi.ts';
import type { Task } from '../host/syscall.ts';
import { vmm as ev } from '../trace/catalogue/vmm.ts';
import type { Tracer } from '../trace/tracer.ts';
import type { PendingInterrupts } from './interrupts.ts';
import type { Event } from './threads.ts';

/** The way of an interrupt message to the vCPU, and the vCPU's sleep (KVM's irqfd and halt). */
export class InterruptSink {
  readonly #name: string;
  readonly #pending: PendingInterrupts;
  readonly #kick: Event;
  readonly #trace: Tracer;
  #halted = false;

  constructor(name: string, pending: PendingInterrupts, kick: Event, trace: Tracer) {
    this.#name = name;
    this.#pending = pending;
    this.#kick = kick;
    this.#trace = trace;
  }

  /**
   * A DWORD `data` written to `address`: posted to the vCPU when it is a fixed or lowest-priority
   * message in compatibility format, dropped otherwise. The caller owes a `wakeUp`.
   */
  message(what: () => string, address: number, data: number): void {
    const msi = decodeMsi(address, data);
    if (msi === undefined) return;
    if (msi.deliveryMode !== DELIVERY_MODE.FIXED && msi.deliveryMode !== DELIVERY_MODE.LOWEST)
      return;
    const { on } = this.#trace;
    const values = { vm: this.#name, vector: msi.vector, what: on ? what() : '' };
    using _span = this.#trace.span(ev.msi, values);
    this.#pending.post(msi.vector);
  }

  /** Wakes the vCPU if it sleeps and has something to do. */
  *wakeUp(): Task {
    if (this.#halted && this.#pending.any) {
      this.#halted = false;
      yield* this.#kick.signal();
    }
  }

  /** The vCPU's hlt: returns once an interrupt is pending. */
  *halt(): Task {
    while (!this.#pending.any) {
      this.#halted = true;
      yield* this.#kick.wait();
      this.#halted = false;
    }
  }

  /** The vCPU's pause: returns after `ns` nanoseconds, or earlier once an interrupt is pending. */
  *pause(ns: number): Task {
    if (this.#pending.any) return;
    this.#halted = true;
    yield* this.#kick.waitAtMost(ns);
    this.#halted = false;
  }
}
