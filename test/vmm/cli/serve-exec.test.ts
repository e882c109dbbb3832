import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Recording } from '../../../trace/record/reader.ts';
import { RawViewer } from '../../trace/stream/rig.ts';
import { MINUTES, type T, test, vsva } from './processes.ts';
import { serving } from './serving.ts';

/** Makes an IOAS, waits for a line on standard input if it is told to, and ends with 7. */
const PROGRAM = `
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>
int main(int argc, char **argv)
{
  char byte;
  uint32_t alloc[3] = { 12 };
  int fd = open("/dev/iommu", O_RDWR);
  if (fd < 0 || ioctl(fd, _IO(';', 0x81), alloc) < 0) return 1;
  if (argc > 1 && read(0, &byte, 1) < 0) return 2;
  return 7;
}
`;

function program(t: T): string {
  const path = join(t.context.folder, 'program');
  writeFileSync(`${path}.c`, PROGRAM);
  execFileSync('gcc', ['-o', path, `${path}.c`]);
  return path;
}

test('a real program is streamed; its trace stays until Ctrl-C; the exit code is its own', async (t) => {
  t.timeout(2 * MINUTES);
  const path = program(t);
  const kept = join(t.context.folder, 'exec.vsva');
  const server = await serving(t, ['serve', '--port', '0', '--', 'exec', '--trace', kept, path]);
  const viewer = new RawViewer(t, server.url);
  const hello = await viewer.type('hello');
  t.is(hello.mode, 'exec');
  t.deepEqual(hello.granted, ['pause', 'resume', 'seek']);
  await viewer.subscribe();
  await server.says('its trace is still served');
  const end = await viewer.until(
    (message) => message.type === 'status' && message.state === 'ended',
  );
  t.is(end['reason'] as string, `${path} ended with 7`);
  t.true(viewer.events.some(({ name }) => name === 'iommufd:object_new'));
  t.is((await viewer.ask({ type: 'step', unit: 'event' }))['code'], 'not_supported');
  t.is((await viewer.ask({ type: 'seek', seq: 1 }))['seq'], 1);
  const { status } = await server.stop();
  t.is(status, 7);
  t.is((await viewer.closed).code, 1001);
  const recording = Recording.open(kept);
  t.is(recording.about.events, viewer.events.length);
  recording.close();
});

test('while the program runs Ctrl-C is for the program; viewers are served meanwhile', async (t) => {
  t.timeout(2 * MINUTES);
  const server = await serving(t, ['serve', '--port', '0', '--', 'exec', program(t), 'wait'], {
    input: true,
  });
  const viewer = new RawViewer(t, server.url);
  await viewer.subscribe({ names: ['object_new'] });
  await viewer.until((message) => message.type === 'events' && message.count > 0);
  server.child.kill('SIGINT');
  t.is((await viewer.ask({ type: 'seek', seq: 1 }))['seq'], 1);
  server.child.stdin?.end('\n');
  await server.says('ended with 7; its trace is still served');
  t.is((await server.stop()).status, 7);
});

test('a program that cannot be served is refused before anybody is', async (t) => {
  t.timeout(MINUTES);
  const { status, stdout, stderr } = await vsva([
    'serve',
    '--port',
    '0',
    '--',
    'exec',
    '/etc/passwd',
  ]);
  t.is(status, 126);
  t.is(stdout, '');
  t.regex(stderr, /^vsva: [^\n]+\n$/);
});
