/** A tree's uAPI headers for user programs: what `make headers` does, as far as the tests need it. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { KernelTree } from './tree.ts';
import { text } from './tree.ts';

/** Words and headers of the kernel's own; the first are empty, the second have nothing in them. */
export const HEADER_FLAGS: readonly string[] = ['-D__EXPORTED_HEADERS__=', '-D__user='];
const KERNEL_ONLY = ['linux/compiler.h', 'linux/compiler_types.h'];

const SYSCALLS = 'arch/x86/entry/syscalls/syscall_64.tbl';
const SYSCALL = /^(\d+)\s+(?:common|64)\s+(\w+)/gm;

/**
 * Writes what the tree has only by rules of its Makefiles into `directory`.
 *
 * @returns the directories to search, in order
 */
export function exportHeaders({ root }: KernelTree, directory: string): string[] {
  const put = (path: string, content: string): void => {
    const file = join(directory, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
  };
  const own = join(root, 'arch/x86/include/uapi');
  const generic = join(root, 'include/uapi');
  const theirs = new Set(readdirSync(join(own, 'asm')));
  for (const name of readdirSync(join(generic, 'asm-generic'))) {
    if (name.endsWith('.h') && !theirs.has(name)) {
      put(`asm/${name}`, `#include <asm-generic/${name}>\n`);
    }
  }
  for (const name of KERNEL_ONLY) put(name, '');
  const numbers = [...text(root, SYSCALLS).matchAll(SYSCALL)];
  put('asm/unistd_64.h', numbers.map(([, n, name]) => `#define __NR_${name!} ${n!}\n`).join(''));
  return [directory, own, generic];
}
