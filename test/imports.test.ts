// The import rules must be able to say no: each case is a small tree with one import, judged by the
// same check that CI runs.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'ava';
import { checkImports, type ImportReport, missed } from '../.ci/imports.ts';

/** Judges a tree of `files` (path to contents), beside fakes of the npm packages it may name. */
async function judge(files: Record<string, string>): Promise<ImportReport> {
  const root = mkdtempSync(join(tmpdir(), 'vsva-imports-'));
  const write = (path: string, contents: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), contents);
  };
  try {
    const dependencies: Record<string, string> = {};
    for (const name of ['ws', 'zod', 'ink', 'commander']) {
      dependencies[name] = '1.0.0';
      write(`node_modules/${name}/package.json`, JSON.stringify({ name, main: 'index.js' }));
      write(`node_modules/${name}/index.js`, '');
    }
    write('package.json', JSON.stringify({ type: 'module', dependencies }));
    for (const [path, contents] of Object.entries(files)) write(path, contents);
    return await checkImports(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

/** `from` imports `to` (a file of the tree, or a package or Node module if it has no slash). */
function importing(from: string, to: string, as = 'import'): Promise<ImportReport> {
  const isFile = to.endsWith('.ts');
  const up = '../'.repeat(from.split('/').length - 1);
  return judge({
    [from]: `${as} { a } from '${isFile ? up + to : to}';\nexport const b: typeof a = a;\n`,
    ...(isFile ? { [to]: 'export const a = 1;\n' } : {}),
  });
}

const REFUSED: readonly (readonly [from: string, to: string, rule: string])[] = [
  ['devices/spec/a.ts', 'devices/clock.ts', 'devices-spec-imports'],
  ['devices/spec/a.ts', 'trace/tracer.ts', 'devices-spec-imports'],
  ['devices/vtd/a.ts', 'host/machine/b.ts', 'devices-imports'],
  ['devices/vtd/a.ts', 'trace/stream/b.ts', 'devices-imports'],
  ['devices/vtd/a.ts', 'node:fs', 'devices-node'],
  ['devices/vtd/a.ts', 'zod', 'devices-npm'],
  ['trace/tracer.ts', 'trace/story/b.ts', 'trace-core-imports'],
  ['trace/catalogue/a.ts', 'devices/spec/b.ts', 'trace-core-imports'],
  ['trace/tracer.ts', 'fs', 'trace-core-node'],
  ['trace/story/a.ts', 'vmm/b.ts', 'trace-story-imports'],
  ['trace/story/a.ts', 'ws', 'trace-story-npm'],
  ['trace/stream/a.ts', 'host/kernel/b.ts', 'trace-stream-imports'],
  ['trace/stream/a.ts', 'ink', 'trace-stream-npm'],
  ['trace/viewer/a.ts', 'guest/b.ts', 'trace-viewer-imports'],
  ['host/machine/a.ts', 'host/uapi/b.ts', 'host-machine-imports'],
  ['host/machine/a.ts', 'host/kernel/b.ts', 'host-machine-imports'],
  ['host/uapi/a.ts', 'host/syscall.ts', 'host-uapi-imports'],
  ['host/syscall.ts', 'host/kernel/b.ts', 'host-syscall-imports'],
  ['host/kernel/a.ts', 'devices/vtd/b.ts', 'host-kernel-imports'],
  ['host/kernel/intel/a.ts', 'devices/dsa/b.ts', 'host-kernel-imports'],
  ['host/kernel/vfio/a.ts', 'devices/pci/b.ts', 'host-kernel-imports'],
  ['host/kernel/a.ts', 'devices/cpu/b.ts', 'host-kernel-imports'],
  ['host/kernel/a.ts', 'vmm/b.ts', 'host-kernel-imports'],
  ['host/kernel/a.ts', 'node:worker_threads', 'host-kernel-node'],
  ['host/bridge/a.ts', 'host/machine/b.ts', 'host-bridge-imports'],
  ['vmm/a.ts', 'host/kernel/b.ts', 'vmm-imports'],
  ['vmm/a.ts', 'guest/b.ts', 'vmm-imports'],
  ['vmm/viommu/a.ts', 'vmm/scenario/b.ts', 'vmm-imports'],
  ['vmm/a.ts', 'vmm/cli/b.ts', 'vmm-imports'],
  ['vmm/a.ts', 'node:fs', 'vmm-node'],
  ['vmm/scenario/a.ts', 'test/b.ts', 'vmm-scenario-imports'],
  ['vmm/scenario/a.ts', 'node:fs', 'vmm-scenario-node'],
  ['vmm/cli/a.ts', 'ink', 'vmm-cli-npm'],
  ['guest/a.ts', 'devices/vtd/b.ts', 'guest-imports'],
  ['guest/a.ts', 'host/uapi/b.ts', 'guest-imports'],
  ['guest/a.ts', 'vmm/b.ts', 'guest-imports'],
  ['tui/a.ts', 'vmm/scenario/b.ts', 'tui-imports'],
  ['tui/a.ts', 'commander', 'tui-npm'],
  ['attic/a.ts', 'trace/tracer.ts', 'homeless'],
];

for (const [from, to, rule] of REFUSED) {
  for (const as of ['import', 'import type']) {
    test(`refused: ${from} ${as} ${to}`, async (t) => {
      const { violations } = await importing(from, to, as);
      t.is(violations.length, 1, violations.join('\n'));
      t.true(violations[0]?.startsWith(`${rule}: ${from} -> `), violations[0]);
    });
  }
}

const ALLOWED: readonly (readonly [from: string, to: string])[] = [
  ['devices/vtd/a.ts', 'devices/spec/b.ts'],
  ['devices/dsa/a.ts', 'trace/catalogue/b.ts'],
  ['trace/stream/a.ts', 'ws'],
  ['trace/stream/a.ts', 'node:fs'],
  ['trace/story/a.ts', 'trace/tracer.ts'],
  ['host/machine/a.ts', 'devices/vtd/b.ts'],
  ['host/syscall.ts', 'host/uapi/b.ts'],
  ['host/kernel/intel/a.ts', 'devices/spec/b.ts'],
  ['host/kernel/a.ts', 'devices/memory.ts'],
  ['host/kernel/a.ts', 'host/machine/b.ts'],
  ['host/bridge/a.ts', 'host/kernel/b.ts'],
  ['vmm/a.ts', 'devices/vtd/b.ts'],
  ['vmm/a.ts', 'host/syscall.ts'],
  ['guest/a.ts', 'devices/spec/b.ts'],
  ['vmm/scenario/a.ts', 'host/kernel/b.ts'],
  ['vmm/cli/a.ts', 'vmm/scenario/b.ts'],
  ['vmm/cli/a.ts', 'commander'],
  ['vmm/cli/a.ts', 'node:fs'],
  ['tui/a.ts', 'trace/story/b.ts'],
  ['tui/a.ts', 'ink'],
  ['test/a.ts', 'host/kernel/b.ts'],
];

for (const [from, to] of ALLOWED) {
  test(`allowed: ${from} import ${to}`, async (t) => {
    const { violations, dependencies } = await importing(from, to);
    t.deepEqual(violations, []);
    t.is(dependencies, 1);
  });
}

test('a cycle is refused, also one of types', async (t) => {
  const { violations } = await judge({
    'guest/a.ts': "import type { B } from './b.ts';\nexport type A = B | 1;\n",
    'guest/b.ts': "import type { A } from './a.ts';\nexport type B = A | 2;\n",
  });
  t.true(violations.some((line) => line.startsWith('no-cycles: guest/a.ts')));
});

test('an import that leads nowhere is refused', async (t) => {
  const { violations } = await judge({ 'guest/a.ts': "import './b.ts';\n" });
  t.deepEqual(violations, ['resolvable: guest/a.ts -> ./b.ts']);
});

test('a source file that was not cruised is found', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'vsva-imports-'));
  try {
    mkdirSync(join(root, 'guest/deep'), { recursive: true });
    writeFileSync(join(root, 'guest/deep/a.ts'), '');
    writeFileSync(join(root, 'guest/b.ts'), '');
    const report = { modules: ['guest/b.ts'], dependencies: 0, violations: [] };
    t.deepEqual(missed(root, report), ['guest/deep/a.ts']);
  } finally {
    rmSync(root, { recursive: true });
  }
});
