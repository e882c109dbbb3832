/** Clients that send rubbish, hang or die: they harm nobody else. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CLEAN, finish, Host, Programs } from './programs.ts';

const programs = new Programs();
const host = new Host(join(programs.directory, 'socket'));

/** A client that speaks the protocol by hand: `client SOCKET MODE VICTIM`. */
const CLIENT = `
struct request {
  uint32_t magic; uint16_t op, bytes; uint32_t pid, channel, sequence, file; int32_t fd;
  uint32_t spare_file; int32_t spare_fd; uint32_t flags; uint64_t image, args[4];
};
static struct sockaddr_un server = {.sun_family = AF_UNIX};
static uint64_t seed = 88172645463325252ull;
static uint64_t random64(void) {
  seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17; return seed;
}
static int dial(int named) {
  int fd = socket(AF_UNIX, SOCK_STREAM, 0); struct sockaddr_un any = {.sun_family = AF_UNIX};
  if (fd < 0) return -1;
  if (named) CHECK(bind(fd, (void *)&any, sizeof(any.sun_family)) == 0);
  if (connect(fd, (void *)&server, sizeof(server)) == 0) return fd;
  close(fd); return -1;
}
static int invited(int fd, uint32_t *token) {
  struct iovec part = {token, 4};
  union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(int))]; } room;
  struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room.bytes,
                     .msg_controllen = sizeof(room.bytes)};
  if (recvmsg(fd, &m, 0) != 4) return -1;
  int pipe; memcpy(&pipe, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(pipe)); return pipe;
}
static int send_frame(int pipe, struct request r, const void *data, size_t length) {
  char bytes[4096];
  r.magic = 0x61767376; r.bytes = (uint16_t)(sizeof(r) + length + 4);
  uint32_t tail = r.magic ^ r.sequence ^ r.pid ^ r.bytes;
  memcpy(bytes, &r, sizeof(r)); memcpy(bytes + sizeof(r), data, length);
  memcpy(bytes + sizeof(r) + length, &tail, 4);
  return write(pipe, bytes, r.bytes) == r.bytes ? 0 : -1;
}
`;

const CLIENT_MAIN = `
  strcpy(server.sun_path, arguments[1]);
  const char *mode = arguments[2]; const uint32_t victim = count > 3 ? atoi(arguments[3]) : 0;
  uint32_t token; int control = dial(0), pipe = invited(control, &token);
  CHECK(pipe >= 0);
  char rubbish[4096];
  for (size_t i = 0; i < sizeof(rubbish); i++) rubbish[i] = (char)random64();
  if (strcmp(mode, "rubbish") == 0) {
    for (int i = 0; i < 3000; i++) {
      size_t at = random64() % 4000, length = 1 + random64() % (4096 - at);
      if (i % 3 == 0) memcpy(rubbish + at, "vsva\\4\\0\\0\\x10", 8);
      CHECK(write(pipe, rubbish + at, length) > 0);
    }
  } else if (strcmp(mode, "half") == 0) {
    CHECK(write(pipe, "vsva\\4\\0\\0\\x10half of a request", 26) == 26);
    puts("hanging"); fflush(stdout); pause();
  } else if (strcmp(mode, "frames") == 0) {
    for (int i = 0; i < 20000; i++) {
      struct request r = {.op = random64() % 18, .pid = i % 2 ? victim : (uint32_t)getpid(),
        .channel = random64() % 4, .sequence = random64(), .file = random64() % 0x200000,
        .fd = random64() % 64, .flags = random64() & 3, .image = random64()};
      for (int k = 0; k < 4; k++) r.args[k] = random64() >> (random64() % 64);
      CHECK(send_frame(pipe, r, rubbish, random64() % 200) == 0);
    }
  } else if (strcmp(mode, "mine") == 0) {
    /* Admitted as itself, then anything at all on files of its own and of nobody. */
    int ends[2]; CHECK(pipe2(ends, O_NONBLOCK) == 0);
    struct request hello = {.op = 1, .pid = (uint32_t)getpid(), .channel = 1, .sequence = 1,
                            .image = 5, .args = {ends[1], getpid(), token}};
    CHECK(send_frame(pipe, hello, "", 0) == 0);
    struct pollfd p = {.fd = ends[0], .events = POLLIN}; CHECK(poll(&p, 1, 5000) == 1);
    int file = dial(1); struct sockaddr_un name; socklen_t length = sizeof(name);
    CHECK(getsockname(file, (void *)&name, &length) == 0);
    char digits[6] = {0}; memcpy(digits, name.sun_path + 1, 5);
    uint32_t number = (uint32_t)strtoul(digits, NULL, 16) + 1;
    struct request open = hello; open.op = 3; open.file = number; open.fd = file;
    memset(open.args, 0, sizeof(open.args)); open.args[0] = O_RDWR;
    CHECK(send_frame(pipe, open, "/dev/iommu", 10) == 0);
    for (int i = 0; i < 5000; i++) {
      struct request r = {.op = 2 + random64() % 16, .pid = hello.pid, .channel = 1,
        .sequence = (uint32_t)i, .file = i % 4 ? number : (uint32_t)random64() % 0x200000,
        .fd = file, .flags = random64() & 3, .image = 5};
      if (r.op == 2) r.op = 4;
      for (int k = 0; k < 4; k++) r.args[k] = random64() >> (random64() % 64);
      if (i % 2) r.args[0] = 0x3b80 + random64() % 0x24;
      if (i % 5 == 0) r.args[1] = (uintptr_t)rubbish;
      CHECK(send_frame(pipe, r, rubbish + random64() % 3000, random64() % 256) == 0);
    } /* and nobody reads the replies */
  } else if (strcmp(mode, "connections") == 0) {
    int open = 0;
    for (int i = 0; i < 5000; i++) open += dial(i % 2) >= 0;
    printf("%d\\n", open); fflush(stdout); pause();
  }`;

const GOOD = `
  int fd = open("/dev/iommu", O_RDWR); CHECK(fd >= 0);
  char *buffer = mmap(0, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 300; i++) {
    uint32_t id = ioas(fd); CHECK(id != 0);
    struct map m = {sizeof(m), 6, id, 0, (uintptr_t)buffer, 8192, 0};
    CHECK(ioctl(fd, 0x3b85, &m) == 0 && destroy(fd, id) == 0);
    if (i % 20 == 0) { close(fd); fd = open("/dev/iommu", O_RDWR); CHECK(fd >= 0); }
  }`;

let hostile = '';
let good = '';

test.before(async () => {
  hostile = programs.build('hostile', CLIENT_MAIN, { before: CLIENT });
  good = programs.build('good', GOOD);
  await host.until('listening');
});
test.after.always(() => {
  host.process.kill('SIGKILL');
  programs.remove();
});

/** The host is still there, and holds nothing. */
const clean = test.macro(async (t, during: () => Promise<void>) => {
  const before = host.leftovers.length;
  await during();
  const { status, stderr } = await host.run(good);
  t.deepEqual({ status, stderr }, { status: 0, stderr: '' });
  await host.idle(before);
  t.is(host.leftovers.at(-1), CLEAN);
  t.is(host.errors, '');
});

for (const mode of ['rubbish', 'frames', 'mine']) {
  test.serial(`a client that sends ${mode}, beside one that does not`, clean, async () => {
    const other = host.start(good);
    const done = finish(other);
    const bad = await host.run(hostile, host.socket, mode, `${other.pid!}`);
    const { status, stderr } = await done;
    if (status !== 0) throw new Error(`the good one: ${status ?? ''} ${stderr}`);
    if (bad.status !== 0) throw new Error(`the bad one: ${bad.stderr}`);
  });
}

test.serial('a client that hangs in the middle of a request', clean, async () => {
  const child = host.start(hostile, host.socket, 'half');
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  const { status } = await host.run(good);
  child.kill('SIGKILL');
  if (status !== 0) throw new Error(`the good one: ${status ?? ''}`);
});

test.serial('thousands of connections at once, idle and as files', clean, async () => {
  const child = host.start(hostile, host.socket, 'connections');
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  const { status } = await host.run(good);
  child.kill('SIGKILL');
  if (status !== 0) throw new Error(`the good one: ${status ?? ''}`);
});

test.serial('processes that die at any moment, threads in the middle of calls', clean, async () => {
  const program = programs.build(
    'mortal',
    `for (int i = 0; i < 40; i++) {
       pid_t child = fork();
       if (child == 0) {
         fd = open("/dev/iommu", O_RDWR);
         pthread_t threads[3];
         for (int k = 0; k < 3; k++) pthread_create(&threads[k], NULL, forever, NULL);
         forever(NULL);
       }
       usleep(500 + 700 * i); kill(child, SIGKILL);
       CHECK(WTERMSIG(ended(child)) == SIGKILL);
     }`,
    {
      before: `static int fd;
        static void *forever(void *none) {
          char *buffer = mmap(0, 8192, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
          for (;;) {
            uint32_t id = ioas(fd);
            struct map m = {sizeof(m), 6, id, 0, (uintptr_t)buffer, 8192, 0};
            ioctl(fd, 0x3b85, &m);
          }
        }`,
    },
  );
  const { status, stderr } = await host.run(program);
  if (status !== 0) throw new Error(stderr);
});

test.serial('what they had is given back', async (t) => {
  const descriptors = (): number => readdirSync(`/proc/${host.process.pid!}/fd`).length;
  const before = descriptors();
  for (let i = 0; i < 5; i++) await host.run(good);
  // The engine hears of the last one's end when it hears of it.
  for (let i = 0; i < 500 && descriptors() > before; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.true(descriptors() <= before, `${descriptors()} descriptors, ${before} before`);
});
