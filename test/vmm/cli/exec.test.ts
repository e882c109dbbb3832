// `vsva exec` and `vsva host`: what they refuse, and how they end when they are told to.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Broker } from '../../../host/bridge/broker.ts';
import { buildTools } from '../../../host/bridge/build.ts';
import { checkServer, ProgramError } from '../../../host/bridge/program.ts';
import { Recording } from '../../../trace/record/reader.ts';
import { ENTRY, ending, environment, MINUTES, type T, test, vsva } from './processes.ts';

const REFUSALS: [what: string, args: string[], code: number, message: RegExp][] = [
  ['no program', ['exec'], 2, /missing required argument 'PROGRAM'/],
  ['a directory', ['exec', '--', '/tmp'], 126, /\/tmp is a directory/],
  [
    'options of the host that is joined',
    ['exec', '--join', '/nope', '--trace', 't.vsva', '--mem', '64M', '--no-selftest', '--', 'true'],
    2,
    /--mem, --no-selftest, --trace cannot go with --join: options of vsva host/,
  ],
  ['no host', ['exec', '--join', '/nope/x', '--', 'true'], 1, /no host listens at \/nope\/x/],
  ['no socket', ['host'], 2, /required option '--listen <SOCKET>'/],
  [
    'nowhere to listen',
    ['host', '--listen', '/nope/x'],
    1,
    /\/nope\/x: there is no such directory/,
  ],
  ['a kernel without iommufd', ['host', '--kernel', '6.1'], 2, /iommufd since 6\.2/],
  ['an unknown layer', ['trace', 'grep', 'x', '--layer', 'foo'], 2, /layers are guest, vmm, host/],
];

for (const [what, args, code, message] of REFUSALS) {
  test(`refused in one line: ${what}`, async (t) => {
    t.timeout(MINUTES);
    const { status, stdout, stderr } = await vsva(args);
    t.regex(stderr, /^vsva: [^\n]+\n$/);
    t.regex(stderr, message);
    t.is(stdout, '');
    t.is(status, code);
  });
}

for (const command of ['exec', 'host']) {
  test(`${command} --bug list needs nothing else`, async (t) => {
    t.timeout(MINUTES);
    const { status, stdout, stderr } = await vsva([command, '--bug', 'list']);
    t.is(stderr, '');
    t.is(status, 0);
    t.regex(stdout, /^\S+ {2,}\S/);
  });
}

test('a script counts by its interpreter, as a shell has it', async (t) => {
  t.timeout(MINUTES);
  const { folder } = t.context;
  const script = (name: string, first: string): string => {
    const path = join(folder, name);
    writeFileSync(path, `${first}\n`, { mode: 0o755 });
    return path;
  };
  const missing = await vsva(['exec', '--', script('missing', '#!/nope/sh')]);
  t.regex(missing.stderr, /^vsva: \S+missing: its interpreter \/nope\/sh is not there\n$/);
  t.is(missing.status, 127);
  const plain = join(folder, 'plain');
  writeFileSync(plain, '');
  chmodSync(plain, 0o666);
  mkdirSync(join(folder, 'directory'));
  const inner = await vsva(['exec', '--', script('inner', `#!${join(folder, 'directory')}`)]);
  t.regex(inner.stderr, /its interpreter \S+ is not a file/);
  t.is(inner.status, 126);
});

test("only a user's own host is joined, and one that answers", async (t) => {
  const { folder } = t.context;
  const socket = join(folder, 'socket');
  const tools = buildTools();
  const refusal = (user?: number): string =>
    t.throws(() => checkServer(tools, socket, user), { instanceOf: ProgramError }).message;
  t.regex(refusal(), /no host listens at/);
  const broker = new Broker(tools, { socket });
  const ended = new Promise((resolve) => setTimeout(resolve, 200));
  t.notThrows(() => checkServer(tools, socket));
  const other = (process.geteuid?.() ?? 0) + 1;
  t.is(refusal(other), `the host at ${socket} belongs to another user`);
  process.kill(broker.pid, 'SIGKILL');
  await ended;
  t.regex(refusal(), /has ended: start one/);
  broker[Symbol.dispose]();
});

/** Started, and everything it prints until it ends. */
function begin(t: T, args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [ENTRY, ...args], {
    cwd: t.context.folder,
    env: environment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

function isWhole(path: string): boolean {
  const recording = Recording.open(path);
  try {
    return recording.about.whole;
  } finally {
    recording.close();
  }
}

for (const [signal, number] of [
  ['SIGTERM', 15],
  ['SIGHUP', 1],
] as const) {
  test(`${signal} to exec alone is the program's, and the recording is whole`, async (t) => {
    t.timeout(MINUTES);
    const trace = join(t.context.folder, 'trace.vsva');
    const script =
      'trap "exit 42" TERM; exec 3<>/dev/iommu; echo ready; while :; do sleep 0.1; done';
    const child = begin(t, ['exec', '--trace', trace, '--', 'sh', '-c', script]);
    const ended = ending(child);
    await once(child.stdout!, 'data');
    child.kill(signal);
    const { status, stderr } = await ended;
    t.is(stderr, '');
    t.is(status, signal === 'SIGTERM' ? 42 : 128 + number);
    t.true(isWhole(trace));
  });
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`host ends in order at ${signal}: exit code 0, a whole recording`, async (t) => {
    t.timeout(MINUTES);
    const trace = join(t.context.folder, 'trace.vsva');
    const socket = join(t.context.folder, 'socket');
    const host = begin(t, ['host', '--trace', trace, '--listen', socket]);
    const ended = ending(host);
    await once(host.stdout!, 'data');
    const client = begin(t, [
      'exec',
      '--join',
      socket,
      '--',
      'sh',
      '-c',
      'exec 3<>/dev/iommu; cat',
    ]);
    const joined = await ending(client);
    t.is(joined.status, 0);
    host.kill(signal);
    const { status, stdout, stderr } = await ended;
    t.is(stderr, '');
    t.regex(stdout, /^listening at .*\nidle: 0 objects/);
    t.is(status, 0);
    t.true(isWhole(trace));
  });
}

test('SIGTERM to exec --join alone is passed on', async (t) => {
  t.timeout(MINUTES);
  const socket = join(t.context.folder, 'socket');
  const host = begin(t, ['host', '--listen', socket]);
  t.teardown(() => host.kill('SIGKILL'));
  await once(host.stdout!, 'data');
  const script = 'trap "exit 42" TERM; echo ready; while :; do sleep 0.1; done';
  const child = begin(t, ['exec', '--join', socket, '--', 'sh', '-c', script]);
  const ended = ending(child);
  await once(child.stdout!, 'data');
  child.kill('SIGTERM');
  t.is((await ended).status, 42);
});
