/** What things take on the machine, in nanoseconds of virtual time. Plausible, not measured. */
export const MACHINE_NS = {
  /** From the message on the bus to the first instruction of the handler. */
  INTERRUPT: 500,
  /** An ATS invalidate request on its way to the function. */
  DEVICE_INVALIDATE: 300,
  /** A page group response on its way to the function. */
  PAGE_RESPONSE: 300,
} as const;
