import { existsSync, readFileSync } from 'node:fs';
import type { Mm } from '../kernel/mm.ts';

const PATH = /^\/proc\/(self|thread-self|\d+)(?:\/task\/(\d+))?\/(status|fail-nth)$/;
const PAGE_KIB = 4;

/** A thread of a real process. */
export interface ThreadId {
  readonly pid: number;
  readonly tid: number;
}

/** A file of a thread in /proc that the simulated kernel has a part in. */
export interface ProcessFile extends ThreadId {
  readonly name: 'status' | 'fail-nth';
  /** Where the real kernel has it, or would have it. */
  readonly real: string;
}

/** Which file of which thread a path names, as `caller` sees it; undefined: none that is there. */
export function processFile(path: string, caller: ThreadId): ProcessFile | undefined {
  const match = PATH.exec(path);
  if (match === null) return undefined;
  const [, process, task, name] = match;
  const own = process === 'self' || process === 'thread-self';
  const pid = own ? caller.pid : Number(process);
  // Without a task it is the group's leader.
  const tid = task === undefined ? (process === 'thread-self' ? caller.tid : pid) : Number(task);
  const directory = `/proc/${pid}/task/${tid}`;
  if ((process === 'thread-self' && task !== undefined) || !existsSync(directory)) return undefined;
  const real = `${task === undefined && !own ? `/proc/${pid}` : directory}/${name!}`;
  return { pid, tid, name: name as ProcessFile['name'], real };
}

/** The real status with what the simulated kernel pinned and locked for the process added. */
export function statusOf(real: string, { pinnedVm, lockedVm }: Mm): string {
  return readFileSync(real, 'latin1').replace(
    /^(VmPin|VmLck):(\s*)(\d+) kB$/gm,
    (_line, name: string, _space: string, kib: string) => {
      const pages = name === 'VmPin' ? pinnedVm : lockedVm;
      return `${name}:\t${String(Number(kib) + pages * PAGE_KIB).padStart(8)} kB`;
    },
  );
}
