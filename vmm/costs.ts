/** What the VMM's work costs, in virtual nanoseconds. */
export const COST = {
  /** A VM exit and the entry after it, with the decoding of the access between them. */
  VM_EXIT: 1000,
  /** The longest pause one exit may ask for: a hostile guest must not stop the clock for ever. */
  LONGEST_PAUSE: 1_000_000_000,
} as const;
