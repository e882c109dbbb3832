/** What kernel entries take, in nanoseconds of virtual time. Plausible, not measured. */
export const KERNEL_NS = {
  /** Entry and exit of a system call. */
  SYSCALL: 200,
  /** The same with the dispatch and argument copy of an ioctl. */
  IOCTL: 500,
  /** Longest wait for a function's outstanding requests before a reset, and how often to look. */
  FLR_PENDING: 1_000_000,
  FLR_POLL: 100_000,
  /** What a function may take after a function level reset (PCIe 6.6.2: 100 ms). */
  FLR: 100_000_000,
} as const;
