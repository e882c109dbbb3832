import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import type { Credentials } from '../kernel/credentials.ts';

const PAGE_BYTES = 4096;
const CAP_IPC_LOCK = 1n << 14n;
const CAP_SYS_RESOURCE = 1n << 24n;
/** This program's, which none of its children has more of. */
const OWN_STATUS = readFileSync('/proc/self/status', 'latin1');
/** A file of /proc/PID that is read here has one page or two. */
const text = Buffer.alloc(4 * PAGE_BYTES);

/** A file of one process in /proc, read again and again: opened once, and never another process's. */
class ProcFile implements Disposable {
  readonly #path: string;
  #fd = -1;

  constructor(pid: number, name: string) {
    this.#path = `/proc/${pid}/${name}`;
  }

  /** What it says now; '' once the process has ended. */
  read(): string {
    try {
      if (this.#fd < 0) this.#fd = openSync(this.#path, 'r');
      return text.toString('latin1', 0, readSync(this.#fd, text, 0, text.length, 0));
    } catch {
      return '';
    }
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}

/** What a real process may do, as it is at each time of asking. */
export class ProcessRights implements Disposable {
  readonly #status: ProcFile;
  readonly #limits: ProcFile;

  constructor(pid: number) {
    this.#status = new ProcFile(pid, 'status');
    this.#limits = new ProcFile(pid, 'limits');
  }

  /**
   * Nothing once the process has ended. Its locked memory is real, so the lock limit binds it as
   * outside. The simulated host's own resources belong to whoever runs it: there, only a privilege
   * that the process gave up or that another user lacks is missing.
   */
  get credentials(): Credentials {
    const status = this.#status.read();
    const uid = Number(/^Uid:\s*(\d+)/m.exec(status)?.[1] ?? -1);
    const owns = uid === process.getuid?.() && !effective(OWN_STATUS, CAP_SYS_RESOURCE);
    return {
      uid,
      ipcLock: effective(status, CAP_IPC_LOCK),
      sysResource: effective(status, CAP_SYS_RESOURCE) || owns,
    };
  }

  /** RLIMIT_MEMLOCK in pages; undefined once the process has ended. */
  get lockLimit(): number | undefined {
    const soft = /^Max locked memory\s+(\d+|unlimited)/m.exec(this.#limits.read())?.[1];
    if (soft === undefined) return undefined;
    return soft === 'unlimited' ? Infinity : Math.floor(Number(soft) / PAGE_BYTES);
  }

  [Symbol.dispose](): void {
    this.#status[Symbol.dispose]();
    this.#limits[Symbol.dispose]();
  }
}

function effective(status: string, capability: bigint): boolean {
  const set = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  return (set & capability) !== 0n;
}
