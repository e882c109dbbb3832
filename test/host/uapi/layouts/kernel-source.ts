/**
 * The kernel's own headers, out of Debian's source package, for compilation only. They are
 * unpacked next to the other caches under node_modules and never become part of this repository.
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const KERNEL_VERSION = '6.12';
const PACKAGE = `linux-source-${KERNEL_VERSION}`;
const TARBALL = `/usr/src/${PACKAGE}.tar.xz`;
const CACHE = fileURLToPath(
  new URL('../../../../node_modules/.cache/kernel-headers/', import.meta.url),
);

/** Trees and files the checks need; a directory stands for everything in it. */
const MEMBERS = [
  'include/uapi',
  'arch/x86/include/uapi',
  'include/linux/vfio_pci_core.h',
  'drivers/iommu/iommufd/iommufd_test.h',
  'drivers/iommu/iommufd/main.c',
  'drivers/iommu/intel/iommu.h',
  'drivers/iommu/intel/pasid.h',
  'drivers/iommu/intel/prq.c',
  'drivers/dma/idxd/registers.h',
];

/** The package is not installed, or its tarball cannot be read. The message says what to do. */
export class KernelSourceError extends Error {}

export interface KernelSource {
  /** `-I` directories for the uAPI headers. */
  readonly includeDirs: readonly string[];
  /** Absolute path of a file given relative to the source tree. */
  path(file: string): string;
  /** Text of a file given relative to the source tree. */
  text(file: string): string;
}

/** @throws KernelSourceError */
export function kernelSource(tarball: string = TARBALL): KernelSource {
  if (!existsSync(tarball)) {
    throw new KernelSourceError(
      `${tarball} is missing: apt-get install --no-install-recommends ${PACKAGE}`,
    );
  }
  const { size, mtimeMs } = statSync(tarball);
  const root = join(CACHE, `${KERNEL_VERSION}-${String(size)}-${String(Math.floor(mtimeMs))}`);
  if (!MEMBERS.every((member) => existsSync(join(root, member)))) unpack(tarball, root);
  const shim = join(root, 'shim');
  return {
    includeDirs: [shim, join(root, 'arch/x86/include/uapi'), join(root, 'include/uapi')],
    path: (file) => join(root, file),
    text: (file) => readFileSync(join(root, file), 'utf8'),
  };
}

/** Unpacks beside the final place and renames, so an interrupted run leaves no half tree. */
function unpack(tarball: string, root: string): void {
  mkdirSync(CACHE, { recursive: true });
  const staging = mkdtempSync(join(CACHE, 'unpack-'));
  const members = MEMBERS.map((member) => `${PACKAGE}/${member}`);
  const args = ['-xJf', tarball, '-C', staging, '--strip-components=1', ...members];
  const result = spawnSync('tar', args, { encoding: 'utf8' });
  if (result.status !== 0) {
    rmSync(staging, { recursive: true, force: true });
    throw new KernelSourceError(
      `cannot unpack ${tarball}: ${result.error?.message ?? result.stderr}`,
    );
  }
  writeShim(staging);
  rmSync(root, { recursive: true, force: true });
  renameSync(staging, root);
}

/**
 * What `make headers_install` would do: x86 takes the generic version of every `asm/` header it
 * has none of its own for, and the headers that only the kernel has are emptied.
 */
function writeShim(root: string): void {
  const put = (file: string, text: string): void => {
    const path = join(root, 'shim', file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  };
  const own = new Set(readdirSync(join(root, 'arch/x86/include/uapi/asm')));
  for (const name of readdirSync(join(root, 'include/uapi/asm-generic'))) {
    if (!own.has(name)) put(`asm/${name}`, `#include <asm-generic/${name}>\n`);
  }
  put('linux/compiler.h', '');
  put('linux/compiler_types.h', '');
}
