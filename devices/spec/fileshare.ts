/**
 * The VMM's file share: a small emulated PCI function (no DMA, no interrupt) through which a guest
 * reads one host file and writes output files, a window at a time. Our own device.
 *
 * BAR0: registers, 4 KiB. BAR2: the window, plain memory that the guest loads and stores directly.
 * A command completes before the store to COMMAND does.
 */
export const FILESHARE_VENDOR = 0x1234;
export const FILESHARE_DEVICE = 0x5656;
/** Class 0x018000: mass storage, other. */
export const FILESHARE_CLASS = 0x01_8000;
export const FILESHARE_REGISTERS_BYTES = 0x1000;
export const FILESHARE_WINDOW_BYTES = 0x10_0000;
export const FILESHARE_REG = {
  /** u32 RO: FILESHARE_MAGIC */
  MAGIC: 0x00,
  /** u32 WO: FILESHARE_COMMAND */
  COMMAND: 0x04,
  /** u32 RO: FILESHARE_STATUS of the last command */
  STATUS: 0x08,
  /** u64 RO: bytes in the input file */
  FILE_SIZE: 0x10,
  /** u64 RW: byte offset in the file of the next command */
  OFFSET: 0x18,
  /** u32 RW: bytes to move, at most the window */
  LENGTH: 0x20,
  /** u32 RW: which output file (the guest process's number) */
  OUTPUT: 0x24,
} as const;
/** "vsfs" */
export const FILESHARE_MAGIC = 0x7366_7376;
/** READ: file to window. WRITE: window to output, which grows as needed up to the input's size. */
export const FILESHARE_COMMAND = { READ: 1, WRITE: 2 } as const;
export const FILESHARE_STATUS = { OK: 0, OUT_OF_RANGE: 1, BAD_COMMAND: 2, BAD_OUTPUT: 3 } as const;
