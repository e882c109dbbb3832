/** How things end: the program, the engine, the broker; and what cannot begin. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { BuildError, buildTools, type Tools } from '../../../host/bridge/build.ts';
import { checkPrivileges, checkProgram, ProgramError } from '../../../host/bridge/program.ts';
import { finish, Host, Programs, vsva } from './programs.ts';

const programs = new Programs();
test.after.always(() => {
  programs.remove();
});

/** Says "ready", then calls until that fails, and says with which errno. */
let patient = '';
test.before(() => {
  patient = programs.build(
    'patient',
    `signal(SIGHUP, SIG_IGN);
     int fd = open("/dev/iommu", O_RDWR); CHECK(ioas(fd) == 1);
     puts("ready"); fflush(stdout);
     for (int i = 0; i < 2000; i++) {
       if (ioas(fd) == 0) { printf("errno %d\\n", errno); return 3; }
       usleep(5000);
     }`,
  );
});

/** An empty directory for temporary files, which has to be empty again at the end. */
function temporary(name: string): string {
  const directory = join(programs.directory, name);
  mkdirSync(directory);
  return directory;
}

/** The broker of an engine: its only child but for a program under way. */
function childOf(pid: number, name: string): number {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1');
      if (stat.includes(`(${name})`) && Number(stat.split(') ')[1]!.split(' ')[1]) === pid) {
        return Number(entry);
      }
    } catch {
      // It has ended meanwhile.
    }
  }
  return -1;
}

const gone = async (condition: () => boolean): Promise<boolean> => {
  for (let i = 0; i < 3000 && !condition(); i++) await new Promise((done) => setTimeout(done, 10));
  return condition();
};

test("the program's exit status, also when a signal ended it; nothing is left in /tmp", async (t) => {
  const TMPDIR = temporary('status');
  const killed = programs.build('killed', 'open("/dev/iommu", O_RDWR); raise(SIGTERM);');
  t.is((await finish(vsva(['exec', '--', killed], { TMPDIR }))).status, 128 + 15);
  const exits = programs.build('exits', 'return 37;');
  t.is((await finish(vsva(['exec', '--', exits], { TMPDIR }))).status, 37);
  t.deepEqual(readdirSync(TMPDIR), []);
});

test('an interrupt from the terminal ends the program, whose status counts', async (t) => {
  const TMPDIR = temporary('interrupt');
  const careful = programs.build(
    'careful',
    `struct sigaction a = {.sa_handler = stop}; sigaction(SIGINT, &a, NULL);
     int fd = open("/dev/iommu", O_RDWR); CHECK(ioas(fd) == 1);
     puts("ready"); fflush(stdout); while (!stopped) pause();
     CHECK(ioas(fd) == 2); return 12;`,
    { before: 'static volatile int stopped; static void stop(int n) { stopped = n; }' },
  );
  // A group of its own, as a shell gives it.
  const child = vsva(['exec', '--', careful], { TMPDIR }, true);
  const done = finish(child);
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  process.kill(-child.pid!, 'SIGINT');
  t.is((await done).status, 12);
  t.deepEqual(readdirSync(TMPDIR), []);
});

test('the engine is killed: EIO for the program, and nothing is left', async (t) => {
  const TMPDIR = temporary('engine');
  const child = vsva(['exec', '--', patient], { TMPDIR });
  let output = '';
  child.stdout?.on('data', (data: Buffer) => (output += data.toString()));
  t.true(await gone(() => output === 'ready\n'));
  child.kill('SIGKILL');
  t.true(await gone(() => output === 'ready\nerrno 5\n'), output);
  t.true(await gone(() => readdirSync(TMPDIR).length === 0));
});

test('the broker is killed: the program gets SIGHUP, the engine says so and ends', async (t) => {
  const TMPDIR = temporary('broker');
  const sleeper = programs.build(
    'sleeper',
    'CHECK(open("/dev/iommu", O_RDWR) >= 0); puts("ready"); fflush(stdout); pause();',
  );
  const child = vsva(['exec', '--', sleeper], { TMPDIR });
  const done = finish(child);
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  process.kill(childOf(child.pid!, 'broker'), 'SIGKILL');
  const { status, stderr } = await done;
  t.is(status, 1);
  t.is(stderr, 'vsva: the broker of the bridge has ended\n');
  t.deepEqual(readdirSync(TMPDIR), []);
});

test('the broker of a host is killed: the host says so at once, though everybody sleeps', async (t) => {
  const host = new Host(join(programs.directory, 'orphan'));
  await host.until('listening');
  const sleeper = programs.build(
    'orphan-sleeper',
    `int fd = open("/dev/iommu", O_RDWR); CHECK(ioas(fd) == 1);
     struct pollfd p = {.fd = fd, .events = POLLPRI};
     puts("ready"); fflush(stdout);
     CHECK(poll(&p, 1, 60000) == 1 && (p.revents & POLLHUP) != 0);
     for (int i = 0; i < 3000 && ioas(fd) != 0; i++) usleep(10000);
     return errno == EIO ? 5 : 6;`,
  );
  const child = host.start(sleeper);
  const done = finish(child);
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  const ended = new Promise((resolve) => host.process.once('exit', resolve));
  process.kill(childOf(host.process.pid!, 'broker'), 'SIGKILL');
  t.is(await ended, 1);
  t.is(host.errors, 'vsva: the broker of the bridge has ended\n');
  t.is((await done).status, 5);
});

test('a host that is ended removes its socket; those who joined get EIO', async (t) => {
  const host = new Host(join(programs.directory, 'ended'));
  await host.until('listening');
  const child = host.start(patient);
  const done = finish(child);
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  host.process.kill('SIGTERM');
  const { status, stdout } = await done;
  t.deepEqual({ status, stdout: stdout.slice(-8) }, { status: 3, stdout: 'errno 5\n' });
  t.true(await gone(() => !readdirSync(programs.directory).includes('ended')));
});

test('a socket in use, a stale one, and something else in its place', async (t) => {
  const path = join(programs.directory, 'taken');
  const host = new Host(path);
  await host.until('listening');
  const second = await finish(vsva(['host', '--listen', path]));
  t.is(second.status, 1);
  t.is(second.stderr, `vsva: cannot listen at ${path}: a host is already listening there\n`);

  // The first one still serves, and its socket is there.
  const program = programs.build('one', 'return ioas(open("/dev/iommu", O_RDWR));');
  t.is((await finish(vsva(['exec', '--join', path, '--', program]))).status, 1);
  host.process.kill('SIGKILL');
  t.true(await gone(() => !readdirSync(programs.directory).includes('taken')));

  const stale = join(programs.directory, 'stale');
  const server = createServer().listen(stale);
  await new Promise((resolve) => server.once('listening', resolve));
  const kept = join(programs.directory, 'kept');
  // Closing removes the path, so that it is put back: a socket without anybody behind it.
  renameSync(stale, kept);
  await new Promise((resolve) => server.close(resolve));
  const third = new Host(kept);
  await third.until('listening');
  t.is((await third.run(program)).status, 1);
  third.process.kill('SIGKILL');

  const file = join(programs.directory, 'file');
  writeFileSync(file, 'mine');
  const refused = await finish(vsva(['host', '--listen', file]));
  t.is(refused.status, 1);
  t.regex(refused.stderr, /^vsva: cannot listen at .*: there is something that is not a socket\n$/);
  t.is(readFileSync(file, 'utf8'), 'mine');
  const long = join(programs.directory, 'x'.repeat(120));
  const tooLong = await finish(vsva(['host', '--listen', long]));
  t.is(tooLong.status, 1);
  t.regex(tooLong.stderr, /too long for a socket's path\n$/);
  const none = await finish(vsva(['exec', '--join', long, '--', program]));
  t.is(none.status, 1);
  t.regex(none.stderr, /^vsva: no host listens at /);
});

/** A broker that says so of every file. */
function tools({ raises }: { readonly raises: boolean }): Tools {
  return { library: '', broker: raises ? '/bin/true' : '/bin/false' };
}

test('the broker sees the capabilities of a file', (t) => {
  const { broker } = buildTools();
  const asked = (file: string): number | null =>
    spawnSync(broker, ['--privileged', join(programs.directory, file)]).status;
  programs.build('raised', '');
  t.is(asked('raised'), 1);
  t.is(asked('none'), 1);
  const raise = programs.build(
    'raise',
    `const uint32_t raised[5] = {0x02000001, 1u << 13}; /* CAP_NET_RAW, effective */
     return setxattr(arguments[1], "security.capability", raised, sizeof(raised), 0) == 0 ? 0 : 1;`,
    { before: '#include <sys/xattr.h>' },
  );
  // Only root can: everybody else's file stays as it was.
  const done = spawnSync(raise, [join(programs.directory, 'raised')]).status === 0;
  t.is(asked('raised'), done ? 0 : 1);
});

test('programs that cannot be served, and those that are not there', async (t) => {
  const code = (name: string): unknown =>
    t.throws(() => checkProgram(name), { instanceOf: ProgramError }).exitCode;
  const fixed = programs.build('static', '', { flags: ['-static'] });
  t.is(code(fixed), 2);
  const set = join(programs.directory, 'set-uid');
  copyFileSync('/bin/true', set);
  chmodSync(set, 0o4755);
  t.is(code(set), 2);
  const plain = join(programs.directory, 'plain');
  writeFileSync(plain, '#!/bin/sh\n', { mode: 0o644 });
  t.is(code(plain), 126);
  t.is(code('no-such-program-anywhere'), 127);
  const capable = programs.build('capable', '');
  const script = join(programs.directory, 'script');
  writeFileSync(script, `#!${capable}\n`, { mode: 0o755 });
  for (const name of [capable, script]) {
    // As a user without privileges, whom the capabilities of a file would give some.
    t.notThrows(() => checkPrivileges(tools({ raises: false }), name, 1000));
    const error = t.throws(() => checkPrivileges(tools({ raises: true }), name, 1000), {
      instanceOf: ProgramError,
    });
    t.is(error.exitCode, 2);
    t.is(error.message, `${name} has file capabilities: nothing can be preloaded into it`);
    t.notThrows(() => checkPrivileges(tools({ raises: true }), name, 0));
  }
  const { status, stderr } = await finish(vsva(['exec', '--', fixed]));
  t.is(status, 2);
  t.regex(stderr, /^vsva: .*\/static is statically linked: nothing can be preloaded into it\n$/);
  t.is((await finish(vsva(['exec', '--', '/no/such']))).status, 127);
});

test('without gcc one line says that it is needed', (t) => {
  const path = process.env['PATH'];
  process.env['PATH'] = programs.directory;
  try {
    const error = t.throws(() => buildTools(temporary('cache')), { instanceOf: BuildError });
    t.is(error.message, 'gcc is missing: the bridge for real programs is built with it');
  } finally {
    process.env['PATH'] = path;
  }
});
