import { readFileSync } from 'node:fs';
import type { Credentials } from '../kernel/credentials.ts';

const PAGE_BYTES = 4096;
const CAP_IPC_LOCK = 1n << 14n;
const CAP_SYS_RESOURCE = 1n << 24n;
/** This program's, which none of its children has more of. */
const OWN_STATUS = readProc('self', 'status');

/**
 * What a real process may do now; nothing once it has ended. Its locked memory is real, so the lock
 * limit binds it as outside. The simulated host's own resources belong to whoever runs it: there,
 * only a privilege that the process gave up or that another user lacks is missing.
 */
export function credentialsOf(pid: number): Credentials {
  const status = readProc(pid, 'status');
  const uid = uidIn(status);
  const owns = uid === process.getuid?.() && !effective(OWN_STATUS, CAP_SYS_RESOURCE);
  return {
    uid,
    ipcLock: effective(status, CAP_IPC_LOCK),
    sysResource: effective(status, CAP_SYS_RESOURCE) || owns,
  };
}

function uidIn(status: string): number {
  return Number(/^Uid:\s*(\d+)/m.exec(status)?.[1] ?? -1);
}

function effective(status: string, capability: bigint): boolean {
  const set = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  return (set & capability) !== 0n;
}

/** RLIMIT_MEMLOCK of a real process in pages; undefined once it has ended. */
export function lockLimitOf(pid: number): number | undefined {
  const soft = /^Max locked memory\s+(\d+|unlimited)/m.exec(readProc(pid, 'limits'))?.[1];
  if (soft === undefined) return undefined;
  return soft === 'unlimited' ? Infinity : Math.floor(Number(soft) / PAGE_BYTES);
}

function readProc(pid: number | 'self', name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch {
    return '';
  }
}
