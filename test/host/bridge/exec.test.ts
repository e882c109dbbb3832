import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';

const VSVA = 'vmm/cli/vsva.js';
const directory = mkdtempSync(join(tmpdir(), 'vsva-bridge-test-'));
test.after.always(() => rmSync(directory, { recursive: true, force: true }));

const PRELUDE = `
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
struct alloc { uint32_t size, flags, id; };
struct map { uint32_t size, flags, ioas, reserved; uint64_t address, length, iova; };
struct destroy { uint32_t size, id; };
#define CHECK(x) do { if (!(x)) return __LINE__; } while (0)
static uint32_t ioas(int fd) {
  struct alloc a = {.size = sizeof(a)};
  return ioctl(fd, 0x3b81, &a) == 0 ? a.id : 0;
}
`;

function build(name: string, body: string, ...flags: string[]): string {
  const source = join(directory, `${name}.c`);
  const program = join(directory, name);
  writeFileSync(source, `${PRELUDE}\nint main(void) {\n#line 1\n${body}\nreturn 0; }\n`);
  execFileSync('gcc', ['-Wno-unused', ...flags, '-o', program, source]);
  return program;
}

function exec(...args: readonly string[]): { status: number | null; stderr: string } {
  const options = { encoding: 'utf8', timeout: 60_000 } as const;
  const { status, stderr } = spawnSync(process.execPath, [VSVA, 'exec', ...args], options);
  return { status, stderr };
}

function left(trace: string): unknown {
  const last = readFileSync(trace, 'utf8').trim().split('\n').at(-1)!;
  const { objects, pins, pasidEntries, fds } = JSON.parse(last) as Record<string, unknown>;
  return { objects, pins, pasidEntries, fds };
}

const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };

test('IOAS objects on real buffers, and bad pointers', (t) => {
  const program = build(
    'objects',
    `int fd = open("/dev/iommu", O_RDWR); CHECK(fd >= 0);
     struct stat st; CHECK(fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev != 0);
     uint32_t id = ioas(fd); CHECK(id == 1);
     void *p = mmap(0, 65536, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
     struct map m = {sizeof(m), 6, id, 0, (uintptr_t)p, 65536, 0};
     CHECK(ioctl(fd, 0x3b85, &m) == 0 && m.iova != 0);
     CHECK(ioctl(fd, 0x3b81, (void *)8) == -1 && errno == EFAULT);
     void *hidden = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
     CHECK(ioctl(fd, 0x3b81, hidden) == -1 && errno == EFAULT);
     struct alloc *fixed = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
     fixed->size = sizeof(*fixed); mprotect(fixed, 4096, PROT_READ);
     CHECK(ioctl(fd, 0x3b81, fixed) == -1 && errno == EFAULT && fixed->id == 0);
     CHECK(ioas(fd) == 2);
     struct destroy d = {sizeof(d), 99};
     CHECK(ioctl(fd, 0x3b80, &d) == -1 && errno == ENOENT);
     CHECK(close(fd) == 0 && close(fd) == -1 && errno == EBADF);`,
  );
  const trace = join(directory, 'objects.jsonl');
  t.is(exec('--trace', trace, '--', program).status, 0);
  t.deepEqual(left(trace), NOTHING);
});

test('dup, fork and the end of a child: the file lives as long as any copy', (t) => {
  const program = build(
    'copies',
    `int fd = open("/dev/iommu", O_RDWR); CHECK(fd >= 0);
     int copy = dup(fd); close(fd); CHECK(ioas(copy) == 1);
     int status; pid_t child = fork();
     if (child == 0) { _exit(ioas(copy) == 2 && close(copy) == 0 ? 0 : 1); }
     CHECK(waitpid(child, &status, 0) == child && status == 0);
     CHECK(ioas(copy) == 3);
     child = fork();
     if (child == 0) { ioas(copy); raise(SIGKILL); }
     CHECK(waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL);
     CHECK(ioas(copy) == 5);
     raise(SIGKILL);`,
  );
  const trace = join(directory, 'copies.jsonl');
  t.is(exec('--trace', trace, '--', program).status, 128 + 9);
});

test('a program that cannot be preloaded: one line, exit code 2', (t) => {
  const { status, stderr } = exec('--', build('static', '', '-static'));
  t.is(status, 2);
  t.regex(stderr, /^vsva: .*statically linked.*\n$/);
  t.is(exec('--', join(directory, 'nothing')).status, 127);
});

test("the exit status is the program's, and other programs notice nothing", (t) => {
  t.is(exec('--', 'sh', '-c', 'exit 37').status, 37);
});

test('fault queue and eventfd are polled natively; a device is bound and read', (t) => {
  const program = build(
    'events',
    `int fd = open("/dev/iommu", O_RDWR); CHECK(fd >= 0);
     struct { uint32_t size, flags, id, fd; } f = {16, 0, 0, 0};
     CHECK(ioctl(fd, 0x3b8e, &f) == 0 && (fcntl(f.fd, F_GETFD) & FD_CLOEXEC) != 0);
     struct pollfd p = {.fd = f.fd, .events = POLLIN | POLLOUT};
     CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLOUT);
     char bytes[40];
     CHECK(read(f.fd, bytes, 40) == 0 && read(f.fd, bytes, 39) == -1 && errno == ESPIPE);
     int device = open("/dev/vfio/devices/vfio0", O_RDWR); CHECK(device >= 0);
     struct { uint32_t argsz, flags; int32_t fd; uint32_t id; uint64_t t; } bind = {24, 0, fd};
     CHECK(ioctl(device, 0x3b76, &bind) == 0);
     uint32_t id = 0;
     CHECK(pread(device, &id, 4, 7ULL << 40) == 4 && id == 0x0b258086);
     int event = eventfd(0, EFD_NONBLOCK);
     struct { uint32_t argsz, flags, index, start, count; int32_t fd; } set =
         {24, 4 | 32, 2, 0, 1, event};
     CHECK(ioctl(device, 0x3b6e, &set) == 0);
     set.flags = 1 | 32;
     CHECK(ioctl(device, 0x3b6e, &set) == 0);
     p.fd = event; p.events = POLLIN;
     CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLIN);
     uint64_t count = 0; CHECK(read(event, &count, 8) == 8 && count == 1);`,
  );
  const trace = join(directory, 'events.jsonl');
  t.is(exec('--trace', trace, '--', program).status, 0);
  t.deepEqual(left(trace), NOTHING);
});

test('two programs share one host, beside a client that connects and sends rubbish', async (t) => {
  const socket = join(directory, 'socket');
  const host = spawn(process.execPath, [VSVA, 'host', '--listen', socket], { stdio: 'pipe' });
  try {
    let output = '';
    await new Promise<void>((resolve) => {
      host.stdout.on('data', (data: Buffer) => {
        output += data.toString();
        if (output.includes('listening')) resolve();
      });
    });
    t.is(statSync(socket).mode & 0o777, 0o600);
    const rubbish = connect(socket);
    rubbish.on('error', () => undefined);
    rubbish.write(Buffer.alloc(5000, 0x5a));
    const program = build('shared', `int fd = open("/dev/iommu", O_RDWR); return ioas(fd);`);
    t.is(exec('--join', socket, '--', program).status, 1);
    t.is(exec('--join', socket, '--', program).status, 1);
    rubbish.destroy();
  } finally {
    host.kill('SIGKILL');
  }
});
