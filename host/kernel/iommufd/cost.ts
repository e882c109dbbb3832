/** Virtual nanoseconds that iommufd's own work takes; what drivers and devices do costs extra. */
export const COST = {
  /** Finding and pinning, or unpinning, one page of a process. */
  PIN_PAGE: 20,
  /** Fixed part of an ioctl that changes objects. */
  IOCTL: 300,
  /** Delivering a page request group to the fault queue. */
  DELIVER: 200,
} as const;
