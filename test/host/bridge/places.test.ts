import test from 'ava';
import { Clients, WELL } from './clients.ts';

const clients = new Clients();
test.after.always(() => {
  clients.remove();
});

const READ = `
static char text[4096];
__attribute__((unused)) static const char *read_at(int at, const char *path) {
  const int fd = openat(at, path, O_RDONLY); CHECK(fd >= 0);
  const ssize_t got = read(fd, text, sizeof(text) - 1); CHECK(got >= 0);
  text[got] = 0; close(fd);
  return text;
}
__attribute__((unused)) static int entries(const char *path, char names[][256]) {
  DIR *directory = opendir(path); CHECK(directory != NULL);
  int count = 0;
  for (struct dirent *e; (e = readdir(directory)) != NULL;) {
    if (e->d_name[0] != '.') strcpy(names[count++], e->d_name);
  }
  closedir(directory);
  return count;
}
`;

test('sysfs leads from a PCI address to the cdev, by every call', (t) => {
  const program = clients.build(
    'sysfs',
    READ,
    `static int any(const struct dirent *e) { return e->d_name[0] != '.'; }
     int main(void) {
       static char names[64][256];
       char path[PATH_MAX], link[PATH_MAX];
       CHECK(entries("/sys/bus/pci/devices", names) == 2 && strncmp(names[0], "0000:00:0", 9) == 0);
       const char *home = "/sys/bus/pci/devices/0000:00:01.0";
       const int at = open(home, O_RDONLY | O_DIRECTORY); CHECK(at >= 0);
       CHECK(strcmp(read_at(at, "vendor"), "0x8086\\n") == 0);
       CHECK(strcmp(read_at(AT_FDCWD, "/sys//bus/./pci/devices/0000:00:01.0/device"), "0x0b25\\n") == 0);
       CHECK(strtoul(read_at(at, "class"), NULL, 16) == 0x088000);
       unsigned long start, last, flags;
       CHECK(sscanf(read_at(at, "resource"), "%lx %lx %lx", &start, &last, &flags) == 3);
       CHECK(last - start == 0xffff && (flags & 0x100200) == 0x100200);
       ssize_t n = readlink("/sys/bus/pci/devices/0000:00:01.0/iommu_group", link, sizeof(link));
       CHECK(n > 0); link[n] = 0;
       CHECK(strcmp(strrchr(link, '/'), "/0") == 0);
       n = readlinkat(at, "driver", link, sizeof(link)); CHECK(n > 0); link[n] = 0;
       CHECK(strcmp(strrchr(link, '/'), "/vfio-pci") == 0);
       CHECK(realpath(home, path) != NULL);
       CHECK(strcmp(path, "/sys/devices/pci0000:00/0000:00:01.0") == 0);
       char *subsystem = realpath("/sys/bus/pci/devices/0000:00:01.0/subsystem", NULL);
       CHECK(strcmp(subsystem, "/sys/bus/pci") == 0);
       CHECK(entries("/sys/bus/pci/devices/0000:00:01.0/vfio-dev/", names) == 1);
       CHECK(strcmp(names[0], "vfio0") == 0);
       unsigned major, minor;
       CHECK(sscanf(read_at(at, "vfio-dev/vfio0/dev"), "%u:%u", &major, &minor) == 2);
       struct stat st; struct statx stx;
       const int device = open("/dev/vfio/devices/vfio0", O_RDWR);
       CHECK(fstat(device, &st) == 0 && S_ISCHR(st.st_mode));
       CHECK(st.st_rdev == (dev_t)((major << 8) | minor));
       CHECK(stat("/dev/vfio/devices/vfio0", &st) == 0 && S_ISCHR(st.st_mode));
       CHECK(statx(AT_FDCWD, "/dev/iommu", 0, STATX_BASIC_STATS, &stx) == 0 && S_ISCHR(stx.stx_mode));
       CHECK(lstat("/sys/bus/pci/devices/0000:00:01.0/driver", &st) == 0 && S_ISLNK(st.st_mode));
       CHECK(fstatat(at, "vendor", &st, 0) == 0 && S_ISREG(st.st_mode));
       CHECK(access("/dev/vfio/devices/vfio0", R_OK | W_OK) == 0);
       CHECK(access("/dev/vfio/devices/vfio7", F_OK) == -1 && errno == ENOENT);
       CHECK(access("/sys/bus/pci/devices/0000:00:1f.0", F_OK) == -1 && errno == ENOENT);
       struct dirent **list;
       CHECK(scandir("/dev/vfio", &list, any, alphasort) == 4);
       CHECK(strcmp(list[1]->d_name, "1") == 0 && strcmp(list[3]->d_name, "vfio") == 0);
       CHECK(strcmp(list[2]->d_name, "devices") == 0 && entries("/sys/class/vfio", names) == 2);
       CHECK(entries("/sys/kernel/iommu_groups/0/devices", names) == 1);
       CHECK(entries("/sys/class/vfio-dev", names) == 2 && entries("/sys/class/iommu", names) == 1);
       FILE *file = fopen("/sys/kernel/iommu_groups/0/reserved_regions", "r");
       CHECK(file != NULL && fgets(path, sizeof(path), file) != NULL);
       CHECK(strstr(path, "0x00000000fee00000 0x00000000feefffff msi") != NULL);
       fclose(file);
       /* Relative to a directory, and from within it. */
       const int nodes = open("/dev/vfio/devices", O_RDONLY | O_DIRECTORY);
       const int second = openat(nodes, "vfio1", O_RDWR);
       CHECK(fstat(second, &st) == 0 && S_ISCHR(st.st_mode) && (st.st_rdev & 0xff) == 1);
       CHECK(chdir("/sys/class/vfio-dev/vfio1/device") == 0 && getcwd(path, sizeof(path)) != NULL);
       CHECK(strcmp(path, "/sys/devices/pci0000:00/0000:00:02.0") == 0);
       CHECK(strcmp(read_at(AT_FDCWD, "numa_node"), "-1\\n") == 0);
       CHECK(chdir("/dev") == 0 && (close(open("iommu", O_RDWR)) == 0));
       unsigned char config[4096];
       const int space = openat(at, "config", O_RDONLY);
       CHECK(read(space, config, sizeof(config)) == 4096 && config[0] == 0x86 && config[1] == 0x80);
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program, [], 2), WELL);
});

test('/proc: pins and locks of a process, and the failure points of its threads', (t) => {
  const program = clients.build(
    'proc',
    READ,
    `static long value(const char *path, const char *name) {
       FILE *file = fopen(path, "r"); CHECK(file != NULL);
       char line[256]; long found = -1;
       while (fgets(line, sizeof(line), file) != NULL) {
         if (strncmp(line, name, strlen(name)) == 0) found = atol(line + strlen(name));
       }
       fclose(file);
       return found;
     }
     static int fd;
     static int make(void) {
       struct { uint32_t size, flags, id; } a = {12, 0, 0};
       return ioctl(fd, 0x3b81, &a) == 0 ? (int)a.id : -errno;
     }
     static void *other(void *own) { CHECK(make() > 0); return own; }
     int main(void) {
       char path[64];
       fd = open("/dev/iommu", O_RDWR); CHECK(fd >= 0);
       snprintf(path, sizeof(path), "/proc/self/task/%d/fail-nth", getpid());
       const int nth = open(path, O_RDWR); CHECK(nth >= 0);
       struct stat st; CHECK(fstat(nth, &st) == 0 && S_ISREG(st.st_mode));
       char left[8] = "";
       CHECK(pread(nth, left, sizeof(left), 0) == 2 && strcmp(left, "0\\n") == 0);
       CHECK(pwrite(nth, "x", 1, 0) == -1 && errno == EINVAL);
       CHECK(pwrite(nth, "99999999999", 11, 0) == -1 && errno == ERANGE);
       CHECK(pwrite(nth, "1", 1, 0) == 1);
       pthread_t thread; pthread_create(&thread, NULL, other, NULL); pthread_join(thread, NULL);
       CHECK(make() < 0);
       CHECK(pread(nth, left, sizeof(left), 0) == 2 && strcmp(left, "0\\n") == 0 && make() > 0);
       FILE *stream = fopen("/proc/thread-self/fail-nth", "r+"); CHECK(stream != NULL);
       CHECK(fputs("0x7", stream) >= 0 && fflush(stream) == 0);
       CHECK(pread(nth, left, sizeof(left), 0) == 2 && strcmp(left, "7\\n") == 0);
       CHECK(pwrite(nth, "0", 1, 0) == 1);
       fclose(stream);
       /* Pages that are pinned count; here only a device pins. */
       const int device = open("/dev/vfio/devices/vfio0", O_RDWR);
       struct { uint32_t argsz, flags; int32_t fd; uint32_t id; uint64_t t; } bind = {24, 0, fd, 0, 0};
       CHECK(ioctl(device, 0x3b76, &bind) == 0);
       const uint32_t ioas = (uint32_t)make();
       struct { uint32_t argsz, flags, pt; } attach = {12, 0, ioas};
       CHECK(ioctl(device, 0x3b77, &attach) == 0);
       const long before = value("/proc/self/status", "VmPin:");
       void *p = mmap(NULL, 40960, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       struct { uint32_t size, flags, ioas, reserved; uint64_t address, length, iova; } m =
           {40, 6, ioas, 0, (uintptr_t)p, 40960, 0};
       CHECK(ioctl(fd, 0x3b85, &m) == 0);
       snprintf(path, sizeof(path), "/proc/%d/status", getpid());
       CHECK(value("/proc/self/status", "VmPin:") == before + 40);
       CHECK(value(path, "VmPin:") == before + 40 && value(path, "VmLck:") >= 0);
       CHECK(value(path, "Threads:") == 1);
       const pid_t child = fork();
       if (child == 0) _exit(value("/proc/self/status", "VmPin:") == before && value(path, "VmPin:") == before + 40 ? 0 : 1);
       int status; CHECK(waitpid(child, &status, 0) == child && status == 0);
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program), WELL);
});

test('debugfs of a kernel that can be told to fail; without it there is none of ours', (t) => {
  const program = clients.build(
    'debugfs',
    READ,
    `int main(int count, char **arguments) {
       (void)count;
       const int fd = open("/sys/kernel/debug/failslab/ignore-gfp-wait", O_WRONLY);
       if (arguments[1][0] == 'n') {
         CHECK(fd == -1 && (errno == ENOENT || errno == EACCES));
         CHECK(open("/proc/self/fail-nth", O_RDWR) == -1 && errno == ENOENT);
         return 0;
       }
       CHECK(write(fd, "N", 1) == 1);
       DIR *debugfs = opendir("/sys/kernel/debug/"); CHECK(debugfs != NULL);
       int found = 0;
       for (struct dirent *e; (e = readdir(debugfs)) != NULL;) {
         char name[300];
         if (strncmp(e->d_name, "fail", 4) != 0) continue;
         snprintf(name, sizeof(name), "%s/verbose", e->d_name);
         const int verbose = openat(dirfd(debugfs), name, O_WRONLY);
         CHECK(verbose >= 0 && write(verbose, "0", 1) == 1);
         found++;
       }
       CHECK(found == 2);
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program, ['yes']), WELL);
  t.deepEqual(clients.run(program, ['no'], 1, false), WELL);
});

test('many threads that look at their status do not fill the tree', (t) => {
  const program = clients.build(
    'threads',
    `static char directory[PATH_MAX];
     static void *look(void *none) {
       (void)none;
       char link[40], text[64];
       const int fd = open("/proc/thread-self/status", O_RDONLY);
       CHECK(fd >= 0 && read(fd, text, sizeof(text)) == sizeof(text));
       snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
       const ssize_t length = readlink(link, directory, sizeof(directory) - 1);
       CHECK(length > 0);
       directory[length] = 0;
       /* .../task/TID/status */
       for (int up = 0; up < 2; up++) *strrchr(directory, '/') = 0;
       CHECK(strstr(directory, "/tree/proc/") != NULL);
       close(fd);
       return NULL;
     }
     int main(void) {
       const int fd = open("/dev/iommu", O_RDWR);
       struct { uint32_t size, flags, id; } alloc = {12, 0, 0};
       CHECK(fd >= 0 && ioctl(fd, 0x3b81, &alloc) == 0);
       for (int n = 0; n < 300; n++) {
         pthread_t thread;
         CHECK(pthread_create(&thread, NULL, look, NULL) == 0 && pthread_join(thread, NULL) == 0);
       }
       DIR *made = opendir(directory); CHECK(made != NULL);
       int count = 0;
       for (struct dirent *e; (e = readdir(made)) != NULL;) count += e->d_name[0] != '.';
       CHECK(count > 0 && count <= 256);
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program), WELL);
});
