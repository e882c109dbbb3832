import { readFileSync, readlinkSync } from 'node:fs';

/** More ancestors than a terminal has between itself and a program. */
const MAX_ANCESTORS = 32;

/** A process, as far as the search for the limit looks at it. */
export interface Ancestor {
  readonly parent: number;
  /** RLIMIT_NOFILE, the soft one; Infinity for unlimited. */
  readonly soft: number;
  readonly hard: number;
  /** Node raises its own soft limit to the hard one, and its children get that. */
  readonly isNode: boolean;
}

/**
 * The soft RLIMIT_NOFILE that this process was started with, which Node has raised since and does
 * not tell: that of the nearest ancestor that has another one, if a Node below it raised it (npm is
 * one too). A limit that somebody else raised is meant.
 *
 * @param look at a process; undefined: it cannot be seen
 */
export function ownDescriptorLimit(
  pid: number = process.pid,
  look: (pid: number) => Ancestor | undefined = ancestor,
): number | undefined {
  let below = look(pid);
  if (below === undefined || below.soft !== below.hard) return below?.soft;
  const raised = below.soft;
  for (let steps = 0; steps < MAX_ANCESTORS && below.parent > 0; steps++) {
    const above = look(below.parent);
    if (above === undefined) break;
    if (above.soft !== raised) return below.isNode && above.hard === raised ? above.soft : raised;
    below = above;
  }
  return raised;
}

function ancestor(pid: number): Ancestor | undefined {
  try {
    const limits = readFileSync(`/proc/${pid}/limits`, 'latin1');
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const [, soft, hard] = /^Max open files\s+(\S+)\s+(\S+)/m.exec(limits) ?? [];
    // The name before it may hold anything, parentheses too.
    const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1];
    if (soft === undefined || hard === undefined || parent === undefined) return undefined;
    return {
      parent: Number(parent),
      soft: amount(soft),
      hard: amount(hard),
      isNode: pid === process.pid || isNode(pid),
    };
  } catch {
    return undefined;
  }
}

function isNode(pid: number): boolean {
  try {
    return /\/node(?:js)?$/.test(readlinkSync(`/proc/${pid}/exe`));
  } catch {
    return false;
  }
}

function amount(text: string): number {
  return text === 'unlimited' ? Infinity : Number(text);
}
