/** Who a process acts for, and which privileges it has (struct cred). */
export interface Credentials {
  /** Pins are charged to the user of that number. */
  uid: number;
  /** CAP_IPC_LOCK: RLIMIT_MEMLOCK does not bind it. */
  ipcLock: boolean;
  /** CAP_SYS_RESOURCE. */
  sysResource: boolean;
}

/** Every privilege there is. */
export function rootCredentials(): Credentials {
  return { uid: 0, ipcLock: true, sysResource: true };
}
