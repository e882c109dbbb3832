import test from 'ava';
import { ACCELERATOR, Clients, WELL } from './clients.ts';

const clients = new Clients();
test.after.always(() => {
  clients.remove();
});

test('the accelerator copies between every kind of buffer of a real program', (t) => {
  const program = clients.build(
    'buffers',
    ACCELERATOR,
    `#define BYTES 12288
     static char data[BYTES] __attribute__((aligned(4096)));
     static struct dsa dsa;
     static char *anonymous(int flags) {
       char *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
       CHECK(p != MAP_FAILED); return p;
     }
     int main(void) {
       open_dsa(&dsa, "/dev/vfio/devices/vfio0");
       char stack[BYTES] __attribute__((aligned(4096)));
       int memory = memfd_create("buffer", 0); CHECK(memory >= 0 && ftruncate(memory, BYTES) == 0);
       char *file = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
       char *alias = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
       CHECK(file != MAP_FAILED && alias != MAP_FAILED);
       char *buffers[] = {anonymous(MAP_PRIVATE), anonymous(MAP_SHARED), file, data, stack,
                          aligned_alloc(4096, BYTES)};
       enum { COUNT = sizeof(buffers) / sizeof(*buffers) };
       uint64_t iova[COUNT];
       struct record *record = (struct record *)anonymous(MAP_PRIVATE);
       const uint64_t record_iova = map_at(&dsa, record, BYTES, 1);
       for (int n = 0; n < COUNT; n++) {
         CHECK((iova[n] = map_at(&dsa, buffers[n], BYTES, 1)) != UINT64_MAX);
       }
       for (int from = 0; from < COUNT; from++) for (int to = 0; to < COUNT; to++) {
         if (from == to) continue;
         for (int n = 0; n < BYTES; n++) buffers[from][n] = (char)(n * 7 + from * 31 + to + (n >> 8));
         memset(buffers[to], 0x55, BYTES);
         CHECK(copy(&dsa, record, record_iova, iova[from] + 1, iova[to] + 3, BYTES - 5) == 1);
         CHECK(memcmp(buffers[from] + 1, buffers[to] + 3, BYTES - 5) == 0);
         CHECK(buffers[to][2] == 0x55 && buffers[to][BYTES - 2] == 0x55);
         if (to == 2) CHECK(memcmp(alias, file, BYTES) == 0);
       }
       for (int n = 0; n < COUNT; n++) CHECK(unmap_at(&dsa, iova[n], BYTES) == 0);
       CHECK((copy(&dsa, record, record_iova, iova[0], iova[1], 64) & 0x7f) == 3);
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program), WELL);
});

test('after fork the parent has the pinned pages, and a child may submit', (t) => {
  const program = clients.build(
    'fork',
    ACCELERATOR,
    `int main(void) {
       static struct dsa dsa;
       open_dsa(&dsa, "/dev/vfio/devices/vfio0");
       char *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       struct record *record = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
       const uint64_t iova = map_at(&dsa, p, 8192, 1), done = map_at(&dsa, record, 4096, 1);
       strcpy(p, "parent");
       int go[2]; CHECK(pipe(go) == 0);
       const pid_t child = fork();
       if (child == 0) {
         char byte; CHECK(read(go[0], &byte, 1) == 1);
         strcpy(p, "child!");
         CHECK(copy(&dsa, record, done, iova, iova + 4096, 64) == 1);
         CHECK(p[4096] == 0 && strcmp(p, "child!") == 0);
         CHECK(munmap((void *)dsa.portal, 0x20000) == 0);
         _exit(0);
       }
       strcpy(p, "father"); /* copy on write: the pinned page stays the parent's */
       CHECK(write(go[1], "x", 1) == 1);
       int status; CHECK(waitpid(child, &status, 0) == child && status == 0);
       CHECK(strcmp(p + 4096, "father") == 0 && strcmp(p, "father") == 0);
       CHECK(copy(&dsa, record, done, iova + 4096, iova + 64, 64) == 1 && strcmp(p + 64, "father") == 0);
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program), WELL);
});

test("pages of a dead process are an error of the copy, and the survivor's device goes on", (t) => {
  const program = clients.build(
    'dead',
    ACCELERATOR,
    `int main(void) {
       static struct dsa dsa;
       open_dsa(&dsa, "/dev/vfio/devices/vfio0");
       struct record *record = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
       const uint64_t done = map_at(&dsa, record, 8192, 1);
       int told[2]; CHECK(pipe(told) == 0);
       const pid_t child = fork();
       if (child == 0) {
         char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         strcpy(p, "mortal");
         const uint64_t iova = map_at(&dsa, p, 4096, 1);
         CHECK(copy(&dsa, record, done, iova, done + 4096, 64) == 1);
         CHECK(write(told[1], &iova, 8) == 8);
         raise(SIGKILL);
       }
       uint64_t iova; CHECK(read(told[0], &iova, 8) == 8);
       int status; CHECK(waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGKILL);
       CHECK(strcmp((char *)record + 4096, "mortal") == 0);
       CHECK(copy(&dsa, record, done, iova, done + 4096, 64) > 1);
       CHECK(copy(&dsa, record, done, done + 4096, done + 6144, 64) == 1);
       CHECK(strcmp((char *)record + 6144, "mortal") == 0);
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program), WELL);
});

test('pinned pages outlive their place in the program, and never become what comes there', (t) => {
  const program = clients.build(
    'orphans',
    ACCELERATOR,
    `#define BYTES 16384
     static struct dsa dsa;
     static struct record *record;
     static uint64_t done, probe;
     static char *window; /* mapped at probe */
     static void holds(uint64_t iova, const char *text) {
       CHECK(copy(&dsa, record, done, iova, probe, 64) == 1 && strcmp(window, text) == 0);
     }
     static void set(uint64_t iova, const char *text) {
       strcpy(window, text);
       CHECK(copy(&dsa, record, done, probe, iova, 64) == 1);
     }
     static int kind;
     static char *buffer(void) {
       if (kind == MAP_PRIVATE) return pages(BYTES, MAP_PRIVATE);
       const int memory = memfd_create("buffer", 0); CHECK(ftruncate(memory, BYTES) == 0);
       void *p = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
       CHECK(p != MAP_FAILED);
       return p;
     }
     int main(int count, char **arguments) {
       (void)count;
       kind = arguments[1][0] == 's' ? MAP_SHARED : MAP_PRIVATE;
       open_dsa(&dsa, "/dev/vfio/devices/vfio0");
       record = pages(4096, MAP_PRIVATE); window = pages(4096, MAP_PRIVATE);
       done = map_at(&dsa, record, 4096, 1); probe = map_at(&dsa, window, 4096, 1);
       /* Unmapped, and something else mapped there. */
       char *p = buffer();
       strcpy(p, "first"); strcpy(p + 8192, "third page");
       const uint64_t iova = map_at(&dsa, p, BYTES, 1);
       CHECK(munmap(p, 8192) == 0);
       char *q = mmap(p, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
       CHECK(q == p && q[0] == 0);
       strcpy(q, "second");
       holds(iova, "first");
       set(iova, "written");
       holds(iova, "written");
       CHECK(strcmp(q, "second") == 0);
       holds(iova + 8192, "third page");
       set(iova + 8192, "alive"); CHECK(strcmp(p + 8192, "alive") == 0);
       /* The new page has a number of its own. */
       const uint64_t other = map_at(&dsa, q, 8192, 1);
       holds(other, "second");
       set(other, "new"); CHECK(strcmp(q, "new") == 0);
       holds(iova, "written");
       CHECK(unmap_at(&dsa, iova, BYTES) == 0 && unmap_at(&dsa, other, 8192) == 0);
       /* Moved: the same pages at another place, which is then replaced. */
       p = buffer(); strcpy(p + 4096, "moving");
       const uint64_t moving = map_at(&dsa, p, BYTES, 1);
       char *to = pages(BYTES, MAP_PRIVATE);
       q = mremap(p, BYTES, BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, to); CHECK(q == to);
       holds(moving + 4096, "moving");
       set(moving + 4096, "moved"); CHECK(strcmp(q + 4096, "moved") == 0);
       CHECK(mmap(q, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == q);
       holds(moving + 4096, "moved");
       set(moving + 4096, "gone"); CHECK(q[4096] == 0);
       CHECK(unmap_at(&dsa, moving, BYTES) == 0);
       /* Given up: private memory is new then, shared memory is not. */
       p = buffer(); strcpy(p, "given");
       const uint64_t given = map_at(&dsa, p, BYTES, 1);
       CHECK(madvise(p, BYTES, MADV_DONTNEED) == 0);
       CHECK(strcmp(p, kind == MAP_SHARED ? "given" : "") == 0);
       holds(given, "given");
       set(given, "back"); CHECK(strcmp(p, kind == MAP_SHARED ? "back" : "") == 0);
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program, ['private']), WELL);
  t.deepEqual(clients.run(program, ['shared']), WELL);
});

test('two programs at once, each with its own device and memory', (t) => {
  const program = clients.build(
    'two',
    ACCELERATOR,
    `int main(int count, char **arguments) {
       if (count == 1) {
         pid_t children[2];
         for (int n = 0; n < 2; n++) {
           char node[] = "/dev/vfio/devices/vfio0";
           node[sizeof(node) - 2] += (char)n;
           if ((children[n] = fork()) == 0) { execl(arguments[0], arguments[0], node, NULL); _exit(98); }
         }
         for (int n = 0; n < 2; n++) {
           int status; CHECK(waitpid(children[n], &status, 0) == children[n] && status == 0);
         }
         return 0;
       }
       static struct dsa dsa;
       open_dsa(&dsa, arguments[1]);
       const char own = arguments[1][strlen(arguments[1]) - 1];
       char *p = mmap((void *)0x100000000, 65536, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
       CHECK(p != MAP_FAILED); /* the same address in both */
       struct record *record = pages(4096, MAP_PRIVATE);
       const uint64_t iova = map_at(&dsa, p, 65536, 1), done = map_at(&dsa, record, 4096, 1);
       for (int n = 0; n < 20; n++) {
         memset(p, own + n, 32768);
         memset(p + 32768, 0, 32768);
         CHECK(copy(&dsa, record, done, iova, iova + 32768, 32768) == 1);
         CHECK(memcmp(p, p + 32768, 32768) == 0);
       }
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program, [], 2), WELL);
});

test('shared memory pinned by a child that died stays what the parent maps', (t) => {
  const program = clients.build(
    'heir',
    ACCELERATOR,
    `int main(void) {
       static struct dsa dsa;
       open_dsa(&dsa, "/dev/vfio/devices/vfio0");
       struct record *record = pages(4096, MAP_PRIVATE);
       char *shared = pages(8192, MAP_SHARED);
       const uint64_t done = map_at(&dsa, record, 4096, 1);
       int told[2]; CHECK(pipe(told) == 0);
       const pid_t child = fork();
       if (child == 0) {
         const uint64_t iova = map_at(&dsa, shared, 8192, 1);
         CHECK(write(told[1], &iova, 8) == 8);
         _exit(0);
       }
       uint64_t iova; CHECK(read(told[0], &iova, 8) == 8);
       int status; CHECK(waitpid(child, &status, 0) == child && status == 0);
       strcpy(shared, "inherited");
       CHECK(copy(&dsa, record, done, iova, iova + 4096, 64) == 1);
       CHECK(strcmp(shared + 4096, "inherited") == 0);
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program), WELL);
});
