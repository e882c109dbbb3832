import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { SysfsNode } from '../kernel/sysfs.ts';

/** A file of the tree; `mode` are permission bits. */
export function file(bytes: string | Uint8Array, mode = 0o444): SysfsNode {
  return { kind: 'file', bytes, mode };
}

/** A private directory in which absolute paths of the simulated system are real files. */
export class PrivateTree {
  readonly root: string;
  readonly #made = new Set<string>();

  constructor(root: string) {
    this.root = root;
  }

  /** Makes what is not there yet, or has other bytes now. Directories on the way are made too. */
  put(path: string, node: SysfsNode): void {
    const place = join(this.root, path);
    if (!this.#made.has(path))
      mkdirSync(node.kind === 'directory' ? place : dirname(place), RECURSIVE);
    this.#made.add(path);
    if (node.kind === 'directory') return;
    // A reader sees the old or the new, never half of it.
    const fresh = `${place}.new`;
    if (node.kind === 'link') symlinkSync(node.to, fresh);
    else writeFileSync(fresh, node.bytes, { mode: node.mode });
    renameSync(fresh, place);
  }

  /** Takes a path and all below it away. */
  remove(path: string): void {
    let known = false;
    for (const made of this.#made) {
      if (made !== path && !made.startsWith(`${path}/`)) continue;
      this.#made.delete(made);
      known = true;
    }
    if (known) rmSync(join(this.root, path), { recursive: true, force: true });
  }
}

const RECURSIVE = { recursive: true, mode: 0o755 } as const;
