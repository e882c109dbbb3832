// `--trace PATH.vsva` and `vsva trace`, as a user runs them.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileOf, MINUTES, refused, shell, succeeded, type T, test, vsva } from './processes.ts';

/** A recording of a small run, and its JSON lines. */
async function record(t: T, ...more: string[]): Promise<string> {
  const { path } = fileOf(t, 9000);
  const trace = join(t.context.folder, 'run.vsva');
  succeeded(t, await vsva(['run', path, '--mem', '64M', '--quiet', '--trace', trace, ...more]));
  return trace;
}

const lines = (text: string): string[] => text.trimEnd().split('\n');

test.serial(
  'what is recorded is what JSON lines keep, and the same again byte for byte',
  async (t) => {
    t.timeout(2 * MINUTES);
    const trace = await record(t);
    const { path } = fileOf(t, 9000);
    const json = join(t.context.folder, 'run.jsonl');
    succeeded(t, await vsva(['run', path, '--mem', '64M', '--quiet', '--trace', json]));
    const cat = await vsva(['trace', 'cat', trace, '--json']);
    succeeded(t, cat);
    t.is(cat.stdout, readFileSync(json, 'utf8'));
    const bytes = readFileSync(trace);
    await record(t);
    t.true(bytes.equals(readFileSync(trace)));
  },
);

test.serial('info, cat, grep, export', async (t) => {
  t.timeout(2 * MINUTES);
  const trace = await record(t);
  const info = await vsva(['trace', 'info', trace]);
  succeeded(t, info);
  t.regex(info.stdout, /made by {3}vsva \S+: run .*file \(seed 1, vms 1, procs 1/);
  t.regex(info.stdout, /\n {12}whole\n/);
  const events = Number(/events {4}(\d+)/.exec(info.stdout)?.[1]);

  const cat = await vsva(['trace', 'cat', trace]);
  succeeded(t, cat);
  t.is(lines(cat.stdout).length, events);
  t.regex(
    cat.stdout,
    /\n *host \[host\] +\d\.\d{9}: iommu:attach_device_pasid: device=00:01\.0 pasid=1 domain=nested#\d+ hwpt=\d+ \(#\d+ <- #\d+\)\n/,
  );
  const part = await vsva(['trace', 'cat', trace, '--seq', '5..9']);
  t.deepEqual(lines(part.stdout), lines(cat.stdout).slice(4, 9));

  const grep = await vsva(['trace', 'grep', trace, '--name', 'iommu:*_device_pasid']);
  succeeded(t, grep);
  t.deepEqual(
    lines(grep.stdout),
    lines(cat.stdout).filter((line) => / iommu:\w+_device_pasid: /.test(line)),
  );
  const count = await vsva(['trace', 'grep', trace, '--layer', 'vtd', '--pasid', '1', '--count']);
  succeeded(t, count);
  t.true(Number(count.stdout) > 10);
  const none = await vsva(['trace', 'grep', trace, 'no such words']);
  t.like(none, { status: 1, stdout: '', stderr: '' });

  const out = join(t.context.folder, 'run.pftrace');
  succeeded(t, await vsva(['trace', 'export', trace, '--perfetto', out]));
  const bytes = readFileSync(out);
  t.is(bytes[0], 0x0a, 'a packet');
  t.true(bytes.length > 50 * events);
});

test.serial('diff: nothing, or the first event that differs and what led there', async (t) => {
  t.timeout(2 * MINUTES);
  const trace = await record(t);
  const other = join(t.context.folder, 'other.vsva');
  const { path } = fileOf(t, 9000);
  const run = ['run', path, '--mem', '64M', '--quiet'];
  succeeded(t, await vsva([...run, '--seed', '2', '--trace', other]));
  const same = await vsva(['trace', 'diff', trace, trace]);
  succeeded(t, same);
  t.regex(same.stdout, /^the same: \d+ events\n$/);
  const differ = await vsva(['trace', 'diff', trace, other]);
  t.is(differ.status, 1);
  t.is(differ.stderr, '');
  t.regex(
    differ.stdout,
    /^told differently: seed 1 \| 2\n\d+ events alike, up to #\d+ \S+; then:\n- .*\n\+ .*\n {4}\w+: /,
  );
  t.regex(
    differ.stdout,
    /what led there, in both:\n {2}.*engine:power_on.*\n.*host:boot.*\n {2} *vm0-1 \[vmm\].*vmm:start/,
  );
});

test.serial('an interrupted run leaves a whole recording of what happened', async (t) => {
  t.timeout(2 * MINUTES);
  const { path } = fileOf(t, 2_000_000);
  const trace = join(t.context.folder, 'run.vsva');
  const ended = await vsva(['run', path, '--mem', '64M', '--trace', trace], { signal: 'SIGINT' });
  t.is(ended.status, 1);
  t.regex(ended.stderr, /interrupted at \d+ ns of virtual time; the events so far are in/);
  const info = await vsva(['trace', 'info', trace]);
  succeeded(t, info);
  t.regex(info.stdout, /\n {12}whole\n/);
});

test.serial('a killed run leaves a recording that is read to its last frame', async (t) => {
  t.timeout(2 * MINUTES);
  const { path } = fileOf(t, 2_000_000);
  const trace = join(t.context.folder, 'run.vsva');
  await vsva(['run', path, '--mem', '64M', '--trace', trace], { signal: 'SIGKILL' });
  if (!existsSync(trace)) return t.fail('no recording');
  const info = await vsva(['trace', 'info', trace]);
  succeeded(t, info);
  t.regex(info.stdout, /cut off: the run did not end well; \d+ bytes at the end are lost/);
});

test.serial('refusals are one line that says what to do', async (t) => {
  t.timeout(2 * MINUTES);
  const trace = await record(t);
  const at = (...args: string[]) => vsva(['trace', ...args]);
  const { folder } = t.context;
  refused(t, await at('info', join(folder, 'nothing')), 1, /cannot read \S+nothing: no such file/);
  refused(t, await at('info', folder), 1, /is not a file: name a recording|it is a directory/);
  const text = join(folder, 'text.vsva');
  writeFileSync(text, 'hello');
  refused(t, await at('cat', text), 1, /is no recording of vsva: record with `vsva run --trace/);
  const head = join(folder, 'head.vsva');
  writeFileSync(head, readFileSync(trace).subarray(0, 1000));
  refused(t, await at('cat', head), 1, /was cut off in its head \(1000 bytes\): record it again/);
  refused(
    t,
    await at('grep', trace, '--name', 'wlak'),
    2,
    /no event is named wlak: `vsva trace info --events`/,
  );
  refused(t, await at('grep', trace, '--layer', 'cellar'), 2, /cellar/);
  refused(t, await at('cat', trace, '--from', 'noon'), 2, /Write it like 1500, 12us/);
  refused(t, await at('cat', trace, '--seq', 'x'), 2, /Write it like 5, 5\.\.90/);
  refused(t, await at('export', trace), 2, /--perfetto/);
  refused(t, await at('export', trace, '--otlp', 'ftp://x'), 2, /needs an http or https address/);
  const gone = 'http://127.0.0.1:9/v1/traces';
  refused(t, await at('export', trace, '--otlp', gone), 1, /the collector at \S+ did not take/);
  const out = join(folder, 'no', 'folder');
  refused(
    t,
    await at('export', trace, '--perfetto', out),
    1,
    /cannot write \S+folder: no such file/,
  );
  refused(t, await vsva(['run', '--hits', '--quiet']), 2, /--hits needs a recording/);
  const damaged = join(folder, 'damaged.vsva');
  const bytes = readFileSync(trace);
  bytes[bytes.length - 20_000]! ^= 0xff;
  writeFileSync(damaged, bytes);
  const cat = await at('cat', damaged);
  t.is(cat.status, 1);
  t.regex(
    cat.stderr,
    /^vsva: \S+damaged\.vsva is damaged at byte \d+, at event \d+: record it again[^\n]*\n$/,
  );
});

test.serial('a pipe is no recording, and nobody waits at it', async (t) => {
  t.timeout(2 * MINUTES);
  const pipe = join(t.context.folder, 'pipe.vsva');
  execFileSync('mkfifo', [pipe]);
  const { path } = fileOf(t, 100);
  const run = ['run', path, '--mem', '64M', '--quiet'];
  refused(t, await vsva(['trace', 'info', pipe]), 1, /is not a file: name a recording/);
  refused(t, await vsva([...run, '--trace', pipe]), 1, /cannot write \S+: nobody reads the pipe/);
});

test.serial('an export does not take the place of its recording', async (t) => {
  t.timeout(MINUTES);
  const trace = await record(t);
  const before = readFileSync(trace);
  const onto = await vsva(['trace', 'export', trace, '--perfetto', trace]);
  refused(t, onto, 2, /--perfetto would overwrite the recording/);
  t.true(before.equals(readFileSync(trace)));
});

test.serial('run --otlp: the spans of a run at its end, and nothing is left behind', async (t) => {
  t.timeout(2 * MINUTES);
  const { path } = fileOf(t, 100);
  const scratch = join(t.context.folder, 'tmp');
  mkdirSync(scratch);
  const run = (url: string) =>
    vsva(['run', path, '--mem', '64M', '--quiet', '--otlp', url], { env: { TMPDIR: scratch } });
  const paths = new Set<string>();
  let bytes = 0;
  const server = createServer((request, response) => {
    paths.add(request.url ?? '');
    request.on('data', (part: Buffer) => {
      bytes += part.length;
    });
    request.on('end', () => response.writeHead(200).end('{}'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  succeeded(t, await run(url));
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  t.deepEqual([...paths], ['/v1/traces']);
  t.true(bytes > 100_000);
  const gone = await run(url);
  t.is(gone.status, 1);
  t.regex(gone.stderr, /^vsva: the collector at \S+ did not take the spans: [^\n]+\n$/);
  t.regex(gone.stdout, /^\nVerified\./);
  refused(t, await run('ftp://x'), 2, /needs an http or https address/);
  t.deepEqual(readdirSync(scratch), []);
});

test.serial('a reader that goes away ends it quietly', async (t) => {
  await record(t);
  const ended = await shell(t, '"$NODE" "$ENTRY" trace cat run.vsva | head -n 2');
  succeeded(t, ended);
  t.is(lines(ended.stdout).length, 2);
});
