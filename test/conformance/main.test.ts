import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import { makefileFlags } from './build.ts';
import { DEFINES, definesFor } from './defines.ts';
import { reserveHugePages } from './huge-pages.ts';
import { parseOptions, UsageError } from './options.ts';
import { openTree, TreeError } from './tree.ts';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));

function run(...args: readonly string[]): { status: number | null; out: string; err: string } {
  const result = spawnSync(process.execPath, [MAIN, ...args], { encoding: 'utf8' });
  return { status: result.status, out: result.stdout, err: result.stderr };
}

/** A folder with these files in it. */
function folder(t: ExecutionContext, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'tree-'));
  t.teardown(() => {
    rmSync(root, { recursive: true });
  });
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  }
  return root;
}

const TREE = {
  Makefile: '# x\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\nEXTRAVERSION =\nNAME = Opossum\n',
  'tools/testing/selftests/iommu/iommufd.c': 'this is not C',
  'tools/testing/selftests/iommu/iommufd_fail_nth.c': '',
  'tools/testing/selftests/iommu/Makefile': 'CFLAGS += -O2 $(KHDR_INCLUDES)\nLDLIBS += -lcap\n',
  'tools/testing/selftests/kselftest.h': '',
  'tools/testing/selftests/kselftest_harness.h': '',
  'drivers/iommu/iommufd/iommufd_test.h': '',
  'include/uapi/linux/types.h': '',
  'include/uapi/asm-generic/errno.h': '',
  'arch/x86/include/uapi/asm/types.h': '',
  'arch/x86/entry/syscalls/syscall_64.tbl': '0\tcommon\tread\tsys_read\n',
};

test('a tree tells its release; one without the tests is refused', (t) => {
  const { release, version } = openTree(folder(t, TREE));
  t.is(release, '6.12');
  t.is(version, '6.12.7');
  const without = Object.fromEntries(
    Object.entries(TREE).filter(([path]) => !path.endsWith('iommufd.c')),
  );
  t.throws(() => openTree(folder(t, without)), { instanceOf: TreeError, message: /iommufd\.c/ });
  const nameless = { ...TREE, Makefile: 'VERSION =\nPATCHLEVEL =\n' };
  t.throws(() => openTree(folder(t, nameless)), { instanceOf: TreeError, message: /VERSION/ });
});

test('a tree without the tests, or whose tests do not build: one line and exit code 2', (t) => {
  const none = run('--kernel', folder(t, {}));
  t.is(none.status, 2);
  t.regex(none.err, /^conformance: .* has no tools\/testing\/selftests\/iommu\/iommufd\.c\n$/);
  const broken = run('--kernel', folder(t, TREE));
  t.is(broken.status, 2);
  t.regex(broken.err, /conformance: cannot build: .*error/);
  t.is(run('--kernel', '/nowhere').status, 2);
});

test('wrong usage: one line and exit code 2; help: exit code 0', (t) => {
  for (const args of [['--nonsense'], ['--only', '('], ['--timeout', '0'], ['extra']]) {
    const { status, err, out } = run(...args);
    t.is(status, 2, args.join(' '));
    t.regex(err, /^conformance: .+\n$/);
    t.is(out, '');
  }
  const help = run('--help');
  t.is(help.status, 0);
  t.regex(help.out, /--kernel/);
});

test('README is about all cases of the default kernel', (t) => {
  t.throws(() => parseOptions(['--check-readme', '--only', 'x']), { instanceOf: UsageError });
  t.throws(() => parseOptions(['--update-readme', '--kernel', 'x']), { instanceOf: UsageError });
  t.is(parseOptions(['--timeout', '1.5']).timeoutMs, 1500);
});

test('a name is given to the compiler only where the tests use it and the headers lack it', (t) => {
  const [first, second] = DEFINES;
  const uses = `${first!.name} ${second!.name}`;
  t.deepEqual(definesFor(uses, `#define ${second!.name} 1`), [first!]);
  t.deepEqual(definesFor('nothing', ''), []);
  for (const { reason } of DEFINES) t.not(reason, '');
});

test("flags come from the tests' own Makefile", (t) => {
  const makefile = 'CFLAGS += -Wall -O2\nCFLAGS += $(KHDR_INCLUDES)\nLDLIBS += -lcap\n';
  t.deepEqual(makefileFlags(makefile), { cflags: ['-Wall', '-O2'], libs: ['-lcap'] });
});

test('huge pages: each run has its own, and gives back no more than these', (t) => {
  const root = folder(t, {
    pages: '3\n',
    plenty: 'HugePages_Free:  300\n',
    enough: 'HugePages_Free: 100\n',
    few: 'HugePages_Free: 2\n',
  });
  const pages = join(root, 'pages');
  const count = (): string => readFileSync(pages, 'latin1').trim();
  {
    using plenty = reserveHugePages({ pages, meminfo: join(root, 'plenty') });
    t.is(plenty.shortage, undefined);
    t.is(count(), '3');
  }
  {
    using first = reserveHugePages({ pages, meminfo: join(root, 'enough') });
    t.is(first.shortage, undefined);
    t.is(count(), '75');
    const second = reserveHugePages({ pages, meminfo: join(root, 'few') });
    t.is(second.shortage, 'of 72 huge pages that cases need 2 are free');
    t.is(count(), '147');
    second[Symbol.dispose]();
    second[Symbol.dispose]();
    t.is(count(), '75');
  }
  t.is(count(), '3');
  using none = reserveHugePages({ pages: join(root, 'x', 'y'), meminfo: join(root, 'few') });
  t.is(none.shortage, 'of 72 huge pages that cases need 2 are free: ENOENT');
  using free = reserveHugePages({ pages: join(root, 'x', 'y'), meminfo: join(root, 'enough') });
  t.is(free.shortage, undefined, 'somebody else has reserved them');
});
