/** Huge pages for the cases that map them: reserved while the suites run, given back after. */
import { readFileSync, writeFileSync } from 'node:fs';

const PAGES = '/proc/sys/vm/nr_hugepages';
const MEMINFO = '/proc/meminfo';
/** The largest case maps 128 MiB in pages of 2 MiB; some for what a case leaves to be freed. */
const NEEDED = 72;
/** So many that several runs at a time have enough. */
const PLENTY = 4 * NEEDED;

export interface HugePages extends Disposable {
  /** Why there are too few; undefined when there are enough. */
  readonly shortage: string | undefined;
}

/**
 * Reserves them, if this user may. Always its own and no more than these are given back, so that two
 * runs at a time do not take them from each other; where very many are free already, none.
 */
export function reserveHugePages(
  files: { readonly pages: string; readonly meminfo: string } = { pages: PAGES, meminfo: MEMINFO },
): HugePages {
  let added = 0;
  let refused = '';
  if (freePages(files.meminfo) < PLENTY) {
    try {
      const before = reserved(files.pages);
      writeFileSync(files.pages, String(before + NEEDED));
      added = Math.max(0, reserved(files.pages) - before);
    } catch (error) {
      refused = `: ${(error as NodeJS.ErrnoException).code ?? 'error'}`;
    }
  }
  const free = freePages(files.meminfo);
  const short = `of ${NEEDED} huge pages that cases need ${free} are free${refused}`;
  return {
    shortage: free >= NEEDED ? undefined : short,
    [Symbol.dispose]() {
      if (added === 0) return;
      try {
        writeFileSync(files.pages, String(Math.max(0, reserved(files.pages) - added)));
      } catch {
        // As it was allowed a moment ago, somebody has taken the right away: theirs to restore.
      }
      added = 0;
    },
  };
}

function reserved(path: string): number {
  return Number(readFileSync(path, 'latin1'));
}

function freePages(meminfo: string): number {
  try {
    return Number(/^HugePages_Free:\s*(\d+)/m.exec(readFileSync(meminfo, 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
