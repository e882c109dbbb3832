/** How much RAM the guest needs: for whoever sizes the machine. */
import { ENTRIES_PER_TABLE, PAGE_SIZE } from '../../devices/spec/x86/paging.ts';
import { LOW_MEMORY_BYTES, reservedPages } from './page-alloc.ts';

const MIB = 1 << 20;

/** Pages of the kernel itself: queues, PASID directory and tables, root and context tables. */
const KERNEL_PAGES = 96;

/** Page tables of a process besides its PTE pages, with a spare root while it is moved. */
const UPPER_TABLES = 16;

/** Memory firmware keeps for itself above low memory. */
const FIRMWARE_BYTES = MIB;

/**
 * Bytes of guest RAM, in whole MiB, with which `processes` copies of the program `copy` succeed on a
 * file of `fileBytes`: each has two buffers of the file's size and a page of completion records.
 */
export function guestMemoryNeeded(fileBytes: number, processes: number): number {
  const filePages = Math.ceil(fileBytes / PAGE_SIZE);
  const promised = processes * (2 * filePages + 1);
  const tables = UPPER_TABLES + Math.ceil((2 * filePages) / ENTRIES_PER_TABLE);
  let pages = promised + KERNEL_PAGES + processes * tables;
  // What the allocator keeps back grows with the total.
  while (pages - reservedPages(pages) < promised) {
    pages += promised - (pages - reservedPages(pages));
  }
  return Math.ceil((pages * PAGE_SIZE + LOW_MEMORY_BYTES + FIRMWARE_BYTES) / MIB) * MIB;
}
