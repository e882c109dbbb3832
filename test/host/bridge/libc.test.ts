/** What libc does by itself, or for old programs: still on the simulated kernel. */
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

/** Runs a program, and looks whether all was given back. */
const runs = test.macro<[string, string, string?]>(async (t, name, body, before = '') => {
  const times = host.leftovers.length;
  const program = programs.build(name, body, { before });
  const { status, stderr } = await host.run(program);
  t.deepEqual({ status, stderr }, { status: 0, stderr: '' });
  await host.idle(times);
  t.is(host.leftovers.at(-1), CLEAN);
});

test.serial(
  'a program started with no environment at all, in each of the ways to start one',
  runs,
  'bare',
  `if (count > 1) {
     CHECK(getenv("KEPT") == NULL);
     int fd = open("/dev/iommu", O_RDWR); CHECK(fd >= 0);
     return ioas(fd) == 1 ? 7 : 8;
   }
   CHECK(close(open("/dev/iommu", O_RDWR)) == 0);
   char *const self = arguments[0], *const list[] = {self, "again", NULL}, *const none[] = {NULL};
   setenv("KEPT", "1", 1);
   for (int way = 0; way < 9; way++) {
     pid_t child;
     if (way == 0) CHECK(posix_spawn(&child, self, NULL, NULL, list, none) == 0);
     else if (way == 1) CHECK(posix_spawnp(&child, self, NULL, NULL, list, NULL) == 0);
     else if ((child = way == 2 ? vfork() : fork()) == 0) {
       if (way <= 3) execve(self, list, none);
       if (way == 4) execvpe(self, list, none);
       if (way == 5) fexecve(open(self, O_RDONLY), list, none);
       if (way == 6) execle(self, self, "again", NULL, none);
       clearenv();
       if (way == 7) execl(self, self, "again", NULL);
       execvp(self, list);
       _exit(9);
     }
     int status = ended(child); CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
   }`,
);

test.serial(
  'a preload and a server of its own stay as a program sets them',
  runs,
  'own',
  `if (count > 1) {
     CHECK(strncmp(getenv("VSVA_SOCKET"), "/nowhere", 9) == 0);
     return strstr(getenv("LD_PRELOAD"), ":/none.so") != NULL ? 7 : 8;
   }
   CHECK(close(open("/dev/iommu", O_RDWR)) == 0);
   char *const list[] = {arguments[0], "again", NULL};
   char *const with[] = {"VSVA_SOCKET=/nowhere", "LD_PRELOAD=/none.so", NULL};
   pid_t child = fork();
   if (child == 0) {
     CHECK(close(2) == 0); /* where the loader says what it thinks of /none.so */
     execve(arguments[0], list, with);
   }
   int status = ended(child); CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);`,
);

test.serial(
  'stat as programs linked before glibc 2.33 call it',
  runs,
  'old',
  `struct stat st;
   CHECK(old_stat(1, "/dev/iommu", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev != 0);
   const dev_t device = st.st_rdev;
   CHECK(old_lstat(1, "/dev/vfio/vfio", &st) == 0 && S_ISCHR(st.st_mode));
   CHECK(old_fstatat(1, AT_FDCWD, "/dev/iommu", &st, 0) == 0 && st.st_rdev == device);
   int fd = open("/dev/iommu", O_RDWR);
   CHECK(old_fstat(1, fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == device);
   CHECK(old_fstatat(1, fd, "", &st, AT_EMPTY_PATH) == 0 && st.st_rdev == device);
   CHECK(old_fstatat(1, AT_FDCWD, "/proc", &st, 0) == 0 && S_ISDIR(st.st_mode));
   CHECK(old_stat(1, "/proc", &st) == 0 && S_ISDIR(st.st_mode));
   CHECK(old_stat(1, "/dev/vfio/77", &st) == -1 && errno == ENOENT);
   CHECK(old_fstat(1, 0, &st) == 0 && !S_ISCHR(st.st_mode));`,
  `int old_stat(int, const char *, struct stat *); int old_lstat(int, const char *, struct stat *);
   int old_fstat(int, int, struct stat *);
   int old_fstatat(int, int, const char *, struct stat *, int);
   __asm__(".symver old_stat, __xstat@GLIBC_2.2.5");
   __asm__(".symver old_lstat, __lxstat@GLIBC_2.2.5");
   __asm__(".symver old_fstat, __fxstat@GLIBC_2.2.5");
   __asm__(".symver old_fstatat, __fxstatat@GLIBC_2.4");`,
);

/** Reads and writes pinned pages by the mock's access object. */
const ACCESS = `
struct test { uint32_t size, op, id, reserved; uint64_t data[7]; };
#define TEST_IOCTL 0x3ba0
static int fd; static uint32_t space, access_id;
static void start(void) {
  fd = open("/dev/iommu", O_RDWR); CHECK(fd >= 0); space = ioas(fd); CHECK(space != 0);
  struct test domain = {sizeof(domain), 2, space}; CHECK(ioctl(fd, TEST_IOCTL, &domain) == 0);
}
static uint64_t map_block(void *block, size_t bytes) {
  struct map m = {sizeof(m), 6, space, 0, (uintptr_t)block & ~4095ul, bytes, 0};
  CHECK(ioctl(fd, 0x3b85, &m) == 0);
  return m.iova;
}
`;

test.serial(
  'a large block that is freed while it is pinned: what comes in its place is other memory',
  runs,
  'freed',
  `start();
   const size_t bytes = 1 << 20;
   char *block = malloc(bytes); memset(block, 0x11, bytes);
   const uint64_t iova = map_block(block, bytes);
   char *page = (char *)((uintptr_t)block & ~4095ul);
   free(block);
   /* The same addresses, other pages: the pins are not theirs. */
   char *fresh = mmap(page, bytes, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
   CHECK(fresh == page);
   CHECK(refs(fresh, bytes, 0) == 0 && refs(fresh, bytes, 1) == -1);`,
  `${ACCESS}
   static int refs(void *at, size_t bytes, uint32_t wanted) {
     struct test check = {sizeof(check), 4, 0, 0, {bytes, (uintptr_t)at, wanted}};
     return ioctl(fd, TEST_IOCTL, &check);
   }`,
);

test('what is freed in the ordinary way costs nothing and goes on', async (t) => {
  const program = programs.build(
    'ordinary',
    `for (int i = 0; i < 20000; i++) {
       char *p = malloc(i % 300000); p = realloc(p, (i * 7) % 400000 + 1); CHECK(p != NULL);
       free(p);
     }
     free(NULL); CHECK((arguments = realloc(NULL, 64)) != NULL); free(arguments);`,
  );
  t.is((await finish(host.start(program))).status, 0);
});
