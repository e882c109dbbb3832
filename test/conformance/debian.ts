/** The kernel tree that is used when none is named: Debian's source package, unpacked beside the caches. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CACHE } from './cache.ts';
import type { KernelTree } from './tree.ts';
import { MEMBERS, openTree, TreeError } from './tree.ts';

const PACKAGE = 'linux-source-6.12';
const TARBALL = `/usr/src/${PACKAGE}.tar.xz`;
const INSTALL = `apt-get install --no-install-recommends ${PACKAGE}`;

/** @throws TreeError when the package is not there and cannot be installed */
export function debianTree(say: (text: string) => void): KernelTree {
  if (!existsSync(TARBALL)) install(say);
  const { size, mtimeMs } = statSync(TARBALL);
  const root = join(CACHE, `${PACKAGE}-${size}-${Math.floor(mtimeMs)}`);
  if (!MEMBERS.every((member) => existsSync(join(root, member)))) {
    say(`unpacking ${TARBALL}`);
    unpack(root);
  }
  return openTree(root);
}

function install(say: (text: string) => void): void {
  if (process.getuid?.() !== 0) {
    throw new TreeError(`${TARBALL} is missing: run \`${INSTALL}\` as root, or name a kernel tree`);
  }
  say(`installing ${PACKAGE}`);
  const [program, ...args] = INSTALL.split(' ');
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (words: readonly string[]): string | undefined => {
    const result = spawnSync(program!, words, { encoding: 'utf8', env });
    if (result.status === 0) return undefined;
    return result.error?.message ?? result.stderr.trim().split('\n').at(-1) ?? '';
  };
  const yes = [...args, '-y'];
  const refused = apt(yes) === undefined ? undefined : (apt(['update']) ?? apt(yes));
  if (refused === undefined && existsSync(TARBALL)) return;
  const why = refused ?? `it did not bring ${TARBALL}`;
  throw new TreeError(`\`${INSTALL}\` failed (${why}): install it, or name a kernel tree`);
}

/** Unpacked aside and moved there, so that nobody sees half a tree. */
function unpack(root: string): void {
  mkdirSync(CACHE, { recursive: true });
  const staging = mkdtempSync(join(CACHE, 'unpack-'));
  const members = MEMBERS.map((member) => `${PACKAGE}/${member}`);
  const args = ['-xJf', TARBALL, '-C', staging, '--strip-components=1', ...members];
  const result = spawnSync('tar', args, { encoding: 'utf8' });
  if (result.status !== 0) {
    rmSync(staging, { recursive: true, force: true });
    const why = result.error?.message ?? result.stderr.trim().split('\n').at(-1) ?? '';
    throw new TreeError(`cannot unpack ${TARBALL}: ${why}`);
  }
  rmSync(root, { recursive: true, force: true });
  renameSync(staging, root);
}
