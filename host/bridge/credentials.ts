import { readFileSync } from 'node:fs';
import type { Credentials } from '../kernel/credentials.ts';

const PAGE_BYTES = 4096;
const CAP_IPC_LOCK = 1n << 14n;
const CAP_SYS_RESOURCE = 1n << 24n;

/** What a real process may do now; nothing once it has ended. */
export function credentialsOf(pid: number): Credentials {
  const status = readProc(pid, 'status');
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  return {
    uid: Number(/^Uid:\s*(\d+)/m.exec(status)?.[1] ?? -1),
    ipcLock: (effective & CAP_IPC_LOCK) !== 0n,
    sysResource: (effective & CAP_SYS_RESOURCE) !== 0n,
  };
}

/** RLIMIT_MEMLOCK of a real process in pages. */
export function lockLimitOf(pid: number): number {
  const soft = /^Max locked memory\s+(\d+|unlimited)/m.exec(readProc(pid, 'limits'))?.[1] ?? '0';
  return soft === 'unlimited' ? Infinity : Math.floor(Number(soft) / PAGE_BYTES);
}

function readProc(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch {
    return '';
  }
}
