/** Huge pages for the cases that map them: reserved while the suites run, given back after. */
import { readFileSync, writeFileSync } from 'node:fs';

const PAGES = '/proc/sys/vm/nr_hugepages';
const MEMINFO = '/proc/meminfo';
/** The largest case maps 128 MiB in pages of 2 MiB; some for what a case leaves to be freed. */
const NEEDED = 72;

export interface HugePages extends Disposable {
  /** Why there are too few; undefined when there are enough. */
  readonly shortage: string | undefined;
}

/** Reserves what is missing, if this user may. */
export function reserveHugePages(
  files: { readonly pages: string; readonly meminfo: string } = {
    pages: PAGES,
    meminfo: MEMINFO,
  },
): HugePages {
  let before: number | undefined;
  const shortage = ((): string | undefined => {
    const free = freePages(files.meminfo);
    if (free >= NEEDED) return undefined;
    const wanted = `${NEEDED} huge pages`;
    try {
      const had = Number(readFileSync(files.pages, 'latin1'));
      writeFileSync(files.pages, String(had + NEEDED - free));
      before = had;
    } catch (error) {
      return `${wanted} cannot be reserved: ${(error as NodeJS.ErrnoException).code ?? 'error'}`;
    }
    const got = freePages(files.meminfo);
    return got >= NEEDED ? undefined : `of ${wanted} only ${got} could be reserved`;
  })();
  return {
    shortage,
    [Symbol.dispose]() {
      if (before === undefined) return;
      try {
        writeFileSync(files.pages, String(before));
      } catch {
        // As it was allowed a moment ago, somebody has taken the right away: theirs to restore.
      }
      before = undefined;
    },
  };
}

function freePages(meminfo: string): number {
  try {
    return Number(/^HugePages_Free:\s*(\d+)/m.exec(readFileSync(meminfo, 'latin1'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
