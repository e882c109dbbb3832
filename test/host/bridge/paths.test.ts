// Paths, limits and refusals as an unmodified program meets them: one program, one recorded run.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

import test from 'ava';
import { ACCELERATOR, Clients, WELL } from './clients.ts';
import { VSVA } from './programs.ts';

const clients = new Clients();
test.after.always(() => clients.remove());

const PROGRAM = `
#include <sys/resource.h>
struct map { uint32_t size, flags, ioas, reserved; uint64_t address, length, iova; };
static int opens(const char *path, int flags) {
  const int fd = open(path, flags, 0600);
  if (fd >= 0) close(fd);
  return fd >= 0 ? 0 : errno;
}
static void paths(void) {
  char link[64], second[80];
  snprintf(link, sizeof(link), "/tmp/vsva-link-%d", getpid());
  snprintf(second, sizeof(second), "%s-2", link);
  CHECK(symlink("/dev/iommu", link) == 0 && symlink(link, second) == 0);
  const int results[] = {opens("/dev/../dev/iommu", O_RDWR), opens("/dev/vfio/../iommu", O_RDWR),
    opens("/etc/../dev/iommu", O_RDWR), opens(link, O_RDWR), opens(second, O_RDWR),
    opens(link, O_RDWR | O_CREAT)};
  const int taken = opens(link, O_RDWR | O_CREAT | O_EXCL);
  unlink(link); unlink(second);
  for (unsigned i = 0; i < sizeof(results) / sizeof(*results); i++) CHECK(results[i] == 0);
  CHECK(taken == EEXIST);
  CHECK(opens("/dev/../dev/nothing", O_RDWR) == ENOENT);
  CHECK(opens("/dev/iommu", O_RDWR | O_CREAT | O_EXCL) == EEXIST);
  CHECK(opens("/dev/iommu", O_RDONLY | O_DIRECTORY) == ENOTDIR);
  CHECK(opens("/dev/vfio/99", O_RDONLY | O_DIRECTORY) == ENOENT);
  const int fd = open("/dev/iommu", O_RDWR);
  struct stat open_file, path;
  CHECK(fstat(fd, &open_file) == 0 && stat("/dev/iommu", &path) == 0);
  CHECK(open_file.st_dev == path.st_dev && open_file.st_ino == path.st_ino);
  CHECK(open_file.st_rdev == path.st_rdev && open_file.st_mode == path.st_mode);
  CHECK(open_file.st_ino != 0);
  struct stat other;
  CHECK(stat("/dev/vfio/vfio", &other) == 0 && other.st_ino != path.st_ino);
  close(fd);
}
static void attributes(void) {
  const char *device = "/sys/bus/pci/devices/0000:00:01.0";
  char name[128];
  const struct { const char *name; int flags, error; } all[] = {{"vendor", O_WRONLY, EACCES},
    {"vendor", O_RDONLY, 0}, {"driver_override", O_WRONLY | O_CREAT | O_TRUNC, EPERM},
    {"enable", O_RDWR, EPERM}, {"driver/unbind", O_WRONLY, EPERM}, {"reset", O_WRONLY, ENOENT},
    {"reset", O_WRONLY | O_CREAT, EACCES}, {"driver", O_WRONLY, EISDIR}};
  for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++) {
    snprintf(name, sizeof(name), "%s/%s", device, all[i].name);
    const int error = opens(name, all[i].flags);
    if (error != all[i].error) fprintf(stderr, "%s: %d\\n", name, error);
    CHECK(error == all[i].error);
  }
  snprintf(name, sizeof(name), "%s/vendor", device);
  CHECK(fopen(name, "w") == NULL && errno == EACCES);
  CHECK(creat(name, 0600) == -1 && errno == EACCES);
  FILE *file = fopen(name, "r");
  CHECK(file != NULL && fgets(name, sizeof(name), file) != NULL && strcmp(name, "0x8086\\n") == 0);
  fclose(file);
}
static void limit(void) {
  struct rlimit before, few;
  CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
  few = before; few.rlim_cur = 64;
  CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
  int fds[64], count = 0;
  while (count < 64 && (fds[count] = open("/dev/iommu", O_RDWR)) >= 0) count++;
  CHECK(errno == EMFILE && count >= 50 && count < 64);
  while (count > 0) CHECK(close(fds[--count]) == 0);
  CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
}
/* What is beyond the known part of a structure is looked at up to the first byte that is not 0. */
static void tail(struct dsa *d) {
  uint8_t *page = pages(8192, MAP_PRIVATE);
  CHECK(munmap(page + 4096, 4096) == 0);
  struct map *map = (struct map *)(page + 4096 - sizeof(*map) - 8);
  map->size = 100000; map->ioas = d->ioas;
  page[4095] = 1;
  CHECK(ioctl(d->iommu, 0x3b85, map) == -1 && errno == E2BIG);
  page[4095] = 0;
  CHECK(ioctl(d->iommu, 0x3b85, map) == -1 && errno == EFAULT);
}
int main(void) {
  paths(); attributes(); limit();
  struct dsa d;
  open_device(&d, "/dev/vfio/devices/vfio0");
  tail(&d);
  CHECK(map_at(&d, (void *)(uintptr_t)d.registers, 4096, 1) == UINT64_MAX && errno == EFAULT);
  CHECK(pread(d.device, &d, 4, 100LL << 40) == -1 && errno == EINVAL);
  return 0;
}
`;

interface Line {
  readonly event: string;
  readonly call?: string;
  readonly result?: string;
  readonly reason?: string;
}

test('paths, limits and tails are as Linux has them, and each refusal has its reason', (t) => {
  const program = clients.build('paths', ACCELERATOR, PROGRAM);
  const trace = `${program}.jsonl`;
  const line = [VSVA, 'exec', '--trace', trace, '--', program];
  const options = { encoding: 'utf8', timeout: 60_000 } as const;
  const { status, stderr } = spawnSync(process.execPath, line, options);
  t.is(stderr, WELL.stderr);
  t.is(status, 0);
  const told = readFileSync(trace, 'utf8')
    .trim()
    .split('\n')
    .map((text) => JSON.parse(text) as Line)
    .filter(({ result }) => result?.startsWith('-'));
  const reasons = (result: string, call?: string): string[] =>
    told.filter((one) => one.result === result && one.call === call).map((one) => one.reason ?? '');
  t.regex(reasons('-EFAULT').join('\n'), /a device's BAR is mapped, cannot be pinned/);
  t.regex(reasons('-E2BIG').join('\n'), /size 100000: non-zero bytes beyond 40/);
  t.regex(reasons('-EPERM', 'open').join('\n'), /unbind cannot be changed/);
  t.regex(reasons('-ENOTDIR', 'open').join('\n'), /is a device/);
  t.not(reasons('-EINVAL', 'pread')[0] ?? '', '');
});

test('a broker without descriptors left: EMFILE, and others go on', (t) => {
  const program = clients.build(
    'few',
    `int main(void) { int n = 0; while (n < 200 && open("/dev/iommu", O_RDWR) >= 0) n++;
     CHECK(errno == EMFILE && n >= 24); CHECK(close(20) == 0);
     CHECK(open("/dev/iommu", O_RDWR) >= 0); return 0; }`,
  );
  const shell = `ulimit -n 64; exec "$0" ${VSVA} exec -- "$1"`;
  const options = { encoding: 'utf8', timeout: 60_000 } as const;
  const { status, stderr } = spawnSync(
    '/bin/sh',
    ['-c', shell, process.execPath, program],
    options,
  );
  t.is(stderr, '');
  t.is(status, 0);
});
