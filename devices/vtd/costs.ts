/** What the unit's own work takes, in nanoseconds of virtual time. Plausible, not measured. */
export const VTD_NS = {
  /** Fetching and carrying out one invalidation descriptor. */
  DESCRIPTOR: 100,
  /** How long a function may take to answer an ATS invalidate request before ITE is raised. */
  INVALIDATE_TIMEOUT: 10_000_000,
} as const;
