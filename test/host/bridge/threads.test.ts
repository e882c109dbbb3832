/** Threads, forks among threads, and signals in the middle of calls. */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CLEAN, finish, Host, Programs } from './programs.ts';

const programs = new Programs();
const host = new Host(join(programs.directory, 'socket'));

test.before(() => host.until('listening'));
test.after.always(() => {
  host.process.kill('SIGKILL');
  programs.remove();
});

const check = test.macro({
  title: (given) => given ?? '',
  exec: async (t, before: string, body: string) => {
    const program = programs.build(t.title.replace(/\W+/g, '-'), body, { before });
    const earlier = host.leftovers.length;
    const { status, signal, stderr } = await host.run(program);
    t.deepEqual({ status, signal, stderr }, { status: 0, signal: null, stderr: '' });
    await host.idle(earlier);
    t.deepEqual([...new Set(host.leftovers)], [CLEAN]);
  },
});

const WORKER = `
static int fd;
static void *work(void *given) {
  for (int i = 0; i < 200; i++) {
    uint32_t id = ioas(fd); CHECK(id != 0 && destroy(fd, id) == 0);
    CHECK(destroy(fd, 0x7fffffff) == -1 && errno == ENOENT);
  }
  return given;
}
static void start(pthread_t *threads, int n) {
  for (int i = 0; i < n; i++) CHECK(pthread_create(&threads[i], NULL, work, &threads[i]) == 0);
}
static void join(pthread_t *threads, int n) {
  void *result;
  for (int i = 0; i < n; i++) CHECK(pthread_join(threads[i], &result) == 0 && result == &threads[i]);
}
`;

test.serial(
  'threads call at once, and a forked child of a program with threads goes on',
  check,
  WORKER,
  `fd = open("/dev/iommu", O_RDWR);
   pthread_t threads[8]; start(threads, 8);
   for (int i = 0; i < 10; i++) {
     pid_t child = fork();
     if (child == 0) {
       pthread_t more[2]; start(more, 2); join(more, 2);
       uint32_t id = ioas(fd); CHECK(id != 0 && destroy(fd, id) == 0);
       _exit(0);
     }
     CHECK(ended(child) == 0);
   }
   join(threads, 8);
   uint32_t id = ioas(fd); CHECK(destroy(fd, id) == 0);`,
);

test.serial(
  'signals in the middle of calls: handlers run, make calls themselves, and nothing is lost',
  check,
  `static int fd; static volatile int handled;
   static void handler(int number) {
     const int saved = errno;
     uint32_t id = ioas(fd); CHECK(id != 0 && destroy(fd, id) == 0);
     CHECK(ioctl(fd, 0x3bff, NULL) == -1);
     handled++; errno = saved;
   }`,
  `fd = open("/dev/iommu", O_RDWR);
   for (int restart = 0; restart < 2; restart++) {
     struct sigaction action = {.sa_handler = handler, .sa_flags = restart ? SA_RESTART : 0};
     sigaction(SIGALRM, &action, NULL);
     struct itimerval every = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
     setitimer(ITIMER_REAL, &every, NULL);
     handled = 0;
     for (int i = 0; handled < 20 || i < 500; i++) {
       uint32_t id = ioas(fd); CHECK(id != 0);
       errno = 0; CHECK(destroy(fd, id) == 0 && errno == 0);
     }
     setitimer(ITIMER_REAL, &never, NULL);
   }`,
);

test.serial(
  'an argument that goes away during the call: an errno, not a crash',
  check,
  `static char *page; static volatile int over;
   static void *toggle(void *none) {
     while (!over) {
       mprotect(page, 4096, PROT_NONE); mprotect(page, 4096, PROT_READ); mprotect(page, 4096, 3);
       munmap(page, 4096);
       CHECK(mmap(page, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page);
     }
     return NULL;
   }`,
  `int fd = open("/dev/iommu", O_RDWR); pthread_t thread; int faults = 0;
   page = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
   CHECK(pthread_create(&thread, NULL, toggle, NULL) == 0);
   for (int i = 0; i < 2000; i++) {
     /* The size is found or not, as the page is at that moment. */
     const int result = ioctl(fd, 0x3b81, page);
     CHECK(result == -1 && (errno == EFAULT || errno == EINVAL));
     faults += errno == EFAULT;
   }
   over = 1; pthread_join(thread, NULL);
   CHECK(ioas(fd) != 0);`,
);

test.serial('threads that end give back what they took in the engine', async (t) => {
  const count = (): number => readdirSync(`/proc/${host.process.pid!}/fd`).length;
  const program = programs.build(
    'churn',
    `int fd = open("/dev/iommu", O_RDWR); char byte; CHECK(ioas(fd) == 1);
     for (int i = 0; i < 300; i++) {
       pthread_t thread; CHECK(pthread_create(&thread, NULL, once, &fd) == 0);
       CHECK(pthread_join(thread, NULL) == 0);
     }
     CHECK(write(1, "x", 1) == 1 && read(0, &byte, 1) == 0);`,
    {
      before: 'static void *once(void *fd) { CHECK(ioas(*(int *)fd) != 0); return NULL; }',
    },
  );
  const before = count();
  const child = host.start(program);
  await new Promise((resolve) => child.stdout?.once('data', resolve));
  // Memory, mappings and one reply pipe of the one thread that is left.
  t.true(count() <= before + 6, `${count()} descriptors, ${before} before`);
  child.stdin?.end();
  await new Promise((resolve) => child.once('close', resolve));
  t.is(child.exitCode, 0);
});

test.serial(
  'a program that opens none of the files has no more threads or descriptors',
  async (t) => {
    const program = programs.build(
      'bystander',
      `CHECK(errno == 0);
     int fd = open("/dev/null", O_RDWR); CHECK(fd == 3);
     close(fd); CHECK(dup(0) == 3); close(3);
     CHECK(fork() != 0 || (_exit(0), 1)); CHECK(wait(NULL) > 0);
     for (int i = 3; i < 2000; i++) if (fcntl(i, F_GETFD) != -1) printf("%d\\n", i);
     FILE *file = fopen("/proc/self/status", "r"); char line[200];
     while (fgets(line, sizeof(line), file)) if (strncmp(line, "Threads", 7) == 0) puts(line);`,
    );
    const alone = await finish(spawn(program, { stdio: ['pipe', 'pipe', 'pipe'] }));
    const bridged = await host.run(program);
    t.deepEqual(bridged, alone);
    t.is(bridged.status, 0);
  },
);

test.serial('a hundred thousand ioctls leave the engine as large as it was', async (t) => {
  const residentKib = (): number => {
    const status = readFileSync(`/proc/${host.process.pid!}/status`, 'latin1');
    return Number(/^VmRSS:\s*(\d+)/m.exec(status)![1]);
  };
  const program = programs.build(
    'soak',
    `int fd = open("/dev/iommu", O_RDWR); uint32_t id = ioas(fd); char byte;
     for (int i = 0; i < 100000; i++) {
       if (i == 30000) CHECK(write(1, "x", 1) == 1 && read(0, &byte, 1) == 1);
       if (i % 3 == 0) CHECK(destroy(fd, 0x7fffffff) == -1);
       else if (i % 3 == 1) CHECK((id = ioas(fd)) != 0);
       else CHECK(destroy(fd, id) == 0);
     }
     CHECK(write(1, "x", 1) == 1 && read(0, &byte, 1) == 1);`,
  );
  const child = host.start(program);
  const sizes: number[] = [];
  for (let i = 0; i < 2; i++) {
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    sizes.push(residentKib());
    child.stdin?.write('x');
  }
  await new Promise((resolve) => child.once('close', resolve));
  t.is(child.exitCode, 0);
  t.true(sizes[1]! < sizes[0]! + 24 * 1024, `${sizes.join(', then ')} KiB`);
});
