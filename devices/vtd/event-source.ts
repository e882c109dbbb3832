import { EVENT_CONTROL } from '../spec/vtd/registers.ts';
import type { RegisterFile } from './registers.ts';

/**
 * One of the unit's three interrupt sources (fault, invalidation completion, page request): status
 * bits, mask and pending bit, and a message (VT-d spec 5.1.6, 7.4). The message registers follow
 * the control register: data, address, upper address.
 */
export class EventSource {
  readonly #registers: RegisterFile;
  readonly #status: number;
  readonly #statusMask: number;
  readonly #control: number;
  readonly #send: (address: number, data: number) => void;

  /**
   * @param status offset of the status register, `statusMask` its bits that raise the event
   * @param control offset of the control register
   * @param send delivers the message
   * @param exists whether the unit has the source at all; if not, its registers read 0
   */
  constructor(
    registers: RegisterFile,
    status: number,
    statusMask: number,
    control: number,
    send: (address: number, data: number) => void,
    exists = true,
  ) {
    this.#registers = registers;
    this.#status = status;
    this.#statusMask = statusMask;
    this.#control = control;
    this.#send = send;
    if (!exists) return;
    registers.set(control, EVENT_CONTROL.IM);
    registers.writable(control, EVENT_CONTROL.IM);
    registers.onWrite(control, () => this.#sendIfUnmasked());
    registers.writable(control + 4, 0xffff);
    registers.writable(control + 8, 0xffff_fffc);
    registers.writable(control + 12, 0xffff_ffff);
  }

  /** A condition came true. Raises the event unless a status bit was set already. */
  raise(bits: number): void {
    const registers = this.#registers;
    const status = registers.get(this.#status);
    registers.set(this.#status, status | bits);
    if ((status & this.#statusMask) !== 0) return;
    registers.set(this.#control, registers.get(this.#control) | EVENT_CONTROL.IP);
    this.#sendIfUnmasked();
  }

  /** Clears status bits; with the last of them the pending bit goes. */
  clear(bits: number): void {
    const registers = this.#registers;
    const status = registers.get(this.#status) & ~bits;
    registers.set(this.#status, status);
    if ((status & this.#statusMask) !== 0) return;
    registers.set(this.#control, registers.get(this.#control) & ~EVENT_CONTROL.IP);
  }

  #sendIfUnmasked(): void {
    const registers = this.#registers;
    const control = registers.get(this.#control);
    if ((control & EVENT_CONTROL.IM) !== 0 || (control & EVENT_CONTROL.IP) === 0) return;
    registers.set(this.#control, control & ~EVENT_CONTROL.IP);
    const upper = registers.get(this.#control + 12);
    const address = upper * 2 ** 32 + registers.get(this.#control + 8);
    this.#send(address, registers.get(this.#control + 4));
  }
}
