/** What the driver's work takes, in nanoseconds of virtual time. Plausible, not measured. */
export const INTEL_NS = {
  /** First pause of a poll; it doubles up to POLL_MAX. */
  POLL: 100,
  POLL_MAX: 3200,
  /** From the interrupt handler to its thread. */
  THREAD: 1000,
  /** Taking one page request from the queue and delivering it. */
  PAGE_REQUEST: 300,
} as const;
