/** Compiles a tree's iommu selftests, unmodified, against that tree's headers. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { CACHE } from './cache.ts';
import { definesFor } from './defines.ts';
import { exportHeaders, HEADER_FLAGS } from './headers.ts';
import type { KernelTree, SuiteName } from './tree.ts';
import { SUITES, TreeError, testsOf, text } from './tree.ts';

/** What tools/testing/selftests/lib.mk adds to every test's flags. */
const COMMON_FLAGS = ['-D_GNU_SOURCE='];
/** Where the tests find the harness, by whichever name they include it. */
const HARNESS = 'tools/testing/selftests';
const HINTS: readonly (readonly [RegExp, string])[] = [
  [/sys\/capability\.h|-lcap\b/, 'install libcap-dev'],
  [/gcc: not found|ENOENT/, 'install gcc and libc6-dev'],
];

export interface Built {
  /** Paths of the programs. */
  readonly programs: Readonly<Record<SuiteName, string>>;
  /** Names given to the compiler, `NAME=VALUE`. */
  readonly defines: readonly string[];
}

/** @throws TreeError with the compiler's first complaint */
export function buildSuites(tree: KernelTree, say: (text: string) => void): Built {
  const { cflags, libs } = makefileFlags(text(testsOf(tree), 'Makefile'));
  const defines = definesFor(testSources(tree), headerSources(tree)).map(
    ({ name, value }) => `${name}=${value}`,
  );
  const flags = [...cflags, ...COMMON_FLAGS, ...HEADER_FLAGS, ...defines.map((one) => `-D${one}`)];
  const hash = createHash('sha256').update([...flags, ...libs].join(' '));
  hash.update(testSources(tree)).update(headerSources(tree));
  const directory = join(CACHE, `built-${tree.version}-${hash.digest('hex').slice(0, 16)}`);
  const programs = Object.fromEntries(SUITES.map((suite) => [suite, join(directory, suite)]));
  const missing = SUITES.filter((suite) => !existsSync(programs[suite]!));
  if (missing.length > 0) {
    const include = exportHeaders(tree, join(directory, 'include'));
    const search = include.flatMap((path) => ['-isystem', path]);
    for (const suite of missing) {
      say(`building ${suite} of Linux ${tree.version}`);
      const source = join(testsOf(tree), `${suite}.c`);
      const harness = ['-I', join(tree.root, HARNESS)];
      compile([...flags, ...search, ...harness, source, ...libs], programs[suite]!);
    }
  }
  return { programs: programs as Built['programs'], defines };
}

/** The flags of a selftest's Makefile that are written there, not made up by make. */
export function makefileFlags(makefile: string): { cflags: string[]; libs: string[] } {
  const words = (name: string): string[] =>
    [...makefile.matchAll(new RegExp(`^${name}\\s*\\+?:?=\\s*(.*)$`, 'gm'))]
      .flatMap(([, value]) => value!.trim().split(/\s+/))
      .filter((word) => word.startsWith('-'));
  return { cflags: words('CFLAGS'), libs: words('LDLIBS') };
}

function compile(args: readonly string[], output: string): void {
  mkdirSync(join(output, '..'), { recursive: true });
  const fresh = `${output}.${process.pid}`;
  const result = spawnSync('gcc', [...args, '-o', fresh], { encoding: 'utf8' });
  if (result.status === 0) {
    renameSync(fresh, output);
    return;
  }
  const said = result.error?.message ?? result.stderr;
  const line = said.split('\n').find((each) => /error|cannot find|ENOENT/.test(each)) ?? said;
  const hint = HINTS.find(([pattern]) => pattern.test(said))?.[1];
  throw new TreeError(`cannot build: ${line.trim()}${hint === undefined ? '' : `: ${hint}`}`);
}

function testSources(tree: KernelTree): string {
  const directory = testsOf(tree);
  const names = readdirSync(directory).filter((name) => /\.[ch]$/.test(name));
  const harness = ['kselftest.h', 'kselftest_harness.h'].map((name) => `${HARNESS}/${name}`);
  return [
    ...names.sort().map((name) => text(directory, name)),
    ...harness.map((path) => text(tree.root, path)),
  ].join('\n');
}

function headerSources({ root }: KernelTree): string {
  const uapi = ['include/uapi/linux', 'include/uapi/asm-generic', 'arch/x86/include/uapi/asm'];
  const files = uapi.flatMap((path) =>
    readdirSync(join(root, path))
      .filter((name) => name.endsWith('.h'))
      .sort()
      .map((name) => join(root, path, name)),
  );
  const own = join(root, 'drivers/iommu/iommufd/iommufd_test.h');
  return [own, ...files].map((path) => readFileSync(path, 'utf8')).join('\n');
}
