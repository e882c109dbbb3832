/** A kernel source tree, whole or the part of it that the iommu selftests need. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const SUITES = ['iommufd', 'iommufd_fail_nth'] as const;
export type SuiteName = (typeof SUITES)[number];

const TESTS = 'tools/testing/selftests/iommu';
const HEADERS = ['include/uapi', 'arch/x86/include/uapi'] as const;
const TEST_HEADER = 'drivers/iommu/iommufd/iommufd_test.h';

/** Not a tree that can be used; the message says why. */
export class TreeError extends Error {
  override readonly name = 'TreeError';
}

export interface KernelTree {
  readonly root: string;
  /** `6.12`: VERSION and PATCHLEVEL of its Makefile. */
  readonly release: string;
  /** `6.12.117`, for people. */
  readonly version: string;
}

/** What of a tree is needed; folders stand for all that is in them. */
export const MEMBERS: readonly string[] = [
  'Makefile',
  ...HEADERS,
  'arch/x86/entry/syscalls/syscall_64.tbl',
  TEST_HEADER,
  TESTS,
  'tools/testing/selftests/kselftest.h',
  'tools/testing/selftests/kselftest_harness.h',
];

/** @throws TreeError */
export function openTree(root: string): KernelTree {
  const needed = [...SUITES.map((suite) => `${TESTS}/${suite}.c`), TEST_HEADER, ...HEADERS];
  const missing = needed.find((path) => !existsSync(join(root, path)));
  if (missing !== undefined) throw new TreeError(`${root} has no ${missing}`);
  const makefile = text(root, 'Makefile');
  const field = (name: string): string =>
    new RegExp(`^${name}[ \\t]*=[ \\t]*(\\S*)`, 'm').exec(makefile)?.[1] ?? '';
  const [major, minor, sub] = ['VERSION', 'PATCHLEVEL', 'SUBLEVEL'].map(field);
  const release = `${major!}.${minor!}`;
  if (!/^\d+\.\d+$/.test(release)) {
    throw new TreeError(`${root}/Makefile does not tell the kernel's VERSION and PATCHLEVEL`);
  }
  const tail = sub === '' ? '' : `.${sub!}`;
  return { root, release, version: `${release}${tail}${field('EXTRAVERSION')}` };
}

/** Folder of the tests in a tree. */
export function testsOf({ root }: KernelTree): string {
  return join(root, TESTS);
}

/** Source of a file of the tree. @throws TreeError */
export function text(root: string, path: string): string {
  try {
    return readFileSync(join(root, path), 'utf8');
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new TreeError(`${root}: cannot read ${path}: ${why}`);
  }
}
