import type { Clock } from '../clock.ts';
import { VTD_NS } from './costs.ts';

/** Invalidate requests that may be under way at once: the tag has 5 bits. */
export const MAX_ITAGS = 32;

interface Pending {
  readonly sid: number;
  /** Place in the order of issue. */
  readonly order: number;
  readonly deadline: number;
}

/**
 * ATS invalidate requests under way: tags, who owes an answer, and until when (PCIe ATS; VT-d
 * spec 6.5.2.5). One timer runs, for the oldest.
 */
export class DeviceTlbs {
  readonly #clock: Clock;
  readonly #onTimeout: (sid: number) => void;
  /** By tag. */
  readonly #pending: (Pending | null)[] = Array.from({ length: MAX_ITAGS }, () => null);
  #order = 0;
  #armed = false;

  /** @param onTimeout a function owed an answer for too long; its tag is free again */
  constructor(clock: Clock, onTimeout: (sid: number) => void) {
    this.#clock = clock;
    this.#onTimeout = onTimeout;
  }

  /** Requests issued since the beginning; those still owed are numbered below this. */
  get issued(): number {
    return this.#order;
  }

  /** Whether another request may go to a function that takes `mip` at once (0: 32). */
  accepts(sid: number, mip: number): boolean {
    let free = false;
    let toFunction = 0;
    for (const pending of this.#pending) {
      if (pending === null) free = true;
      else if (pending.sid === sid) toFunction++;
    }
    return free && toFunction < (mip === 0 ? MAX_ITAGS : mip);
  }

  /** Takes a tag for a request; call only when `accepts`. */
  issue(sid: number): number {
    const itag = this.#pending.indexOf(null);
    const deadline = this.#clock.now + VTD_NS.INVALIDATE_TIMEOUT;
    this.#pending[itag] = { sid, order: this.#order++, deadline };
    this.#arm(VTD_NS.INVALIDATE_TIMEOUT);
    return itag;
  }

  /** The function answered. False: it was owed nothing under that tag (ICE). */
  complete(sid: number, itag: number): boolean {
    const pending = this.#pending[itag] ?? null;
    if (pending?.sid !== sid) return false;
    this.#pending[itag] = null;
    return true;
  }

  /** Whether all requests numbered below `order` have been answered. */
  doneBefore(order: number): boolean {
    return this.#pending.every((pending) => pending === null || pending.order >= order);
  }

  #arm(ns: number): void {
    if (this.#armed) return;
    this.#armed = true;
    this.#clock.after(ns, () => this.#tick());
  }

  #tick(): void {
    this.#armed = false;
    const now = this.#clock.now;
    let next = Infinity;
    for (const [itag, pending] of this.#pending.entries()) {
      if (pending === null) continue;
      if (pending.deadline <= now) {
        this.#pending[itag] = null;
        this.#onTimeout(pending.sid);
      } else {
        next = Math.min(next, pending.deadline);
      }
    }
    if (next !== Infinity) this.#arm(next - now);
  }
}
