/** What a hardware model needs of time: the one virtual clock (ARCHITECTURE.md). */
export interface Clock {
  /** Virtual nanoseconds since power-on. */
  readonly now: number;
  /**
   * Calls `action` once, `ns` from now (an integer >= 0); first in, first out at equal times, never
   * before `after` returned. The current trace cause is captured and restored for the call.
   */
  after(ns: number, action: () => void): void;
}
