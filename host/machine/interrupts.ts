import type { Clock } from '../../devices/clock.ts';
import { DELIVERY_MODE, decodeMsi, encodeMsi } from '../../devices/spec/msi.ts';
import { host } from '../../trace/catalogue/host.ts';
import type { Tracer } from '../../trace/tracer.ts';
import { MACHINE_NS } from './costs.ts';

/** Vectors below 0x20 are exceptions; 0xff is the spurious one (SDM 6.2, 10.9). */
const FIRST_VECTOR = 0x20;
const LAST_VECTOR = 0xfe;
const DESTINATIONS = 256;

/** An interrupt that was allocated, and the message that raises it. */
export interface Interrupt {
  /** Its id for `free`: destination * 256 + vector. */
  readonly vector: number;
  readonly address: number;
  readonly data: number;
}

interface Line {
  readonly name: string;
  readonly handler: () => void;
}

/** The processors' local APICs: they take messages and call handlers. */
export class InterruptController {
  readonly #lines = new Map<number, Line>();
  readonly #clock: Clock;
  readonly #trace: Tracer;

  constructor(clock: Clock, trace: Tracer) {
    this.#clock = clock;
    this.#trace = trace;
  }

  /** How many interrupts are allocated. */
  get allocated(): number {
    return this.#lines.size;
  }

  /**
   * The lowest free vector of the first processor that has one. `handler` must not block; it wakes
   * threads. RangeError when all are taken.
   */
  allocate(name: string, handler: () => void): Interrupt {
    for (let destination = 0; destination < DESTINATIONS; destination++) {
      for (let vector = FIRST_VECTOR; vector <= LAST_VECTOR; vector++) {
        const id = destination * 256 + vector;
        if (this.#lines.has(id)) continue;
        this.#lines.set(id, { name, handler });
        return { vector: id, ...encodeMsi({ destination, vector }) };
      }
    }
    throw new RangeError('no interrupt vector is free');
  }

  /** `vector` as `allocate` gave it. Messages already on their way are dropped. */
  free(vector: number): void {
    this.#lines.delete(vector);
  }

  /**
   * A DWORD write of `data` into the interrupt window. Messages that name no allocated vector, or
   * another delivery mode than fixed or lowest priority, are dropped.
   */
  deliver(address: number, data: number): void {
    const message = decodeMsi(address, data);
    if (message === undefined) return;
    if (message.deliveryMode > DELIVERY_MODE.LOWEST) return;
    const id = message.destination * 256 + message.vector;
    const line = this.#lines.get(id);
    if (line === undefined) return;
    this.#clock.after(MACHINE_NS.INTERRUPT, () => {
      if (this.#lines.get(id) !== line) return;
      using _span = this.#trace.span(host.interrupt, { vector: id, handler: line.name });
      line.handler();
    });
  }
}
