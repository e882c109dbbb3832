/** The program's descriptor is a real one: whatever is done to it, the file behaves as Linux's. */
import { join } from 'node:path';
import test from 'ava';
import { CLEAN, Host, Programs } from './programs.ts';

const programs = new Programs();
const host = new Host(join(programs.directory, 'socket'));

test.before(() => host.until('listening'));
test.after.always(() => {
  host.process.kill('SIGKILL');
  programs.remove();
});

/** Runs a program that exits 0 when all is well, and sees that the host holds nothing after it. */
const check = test.macro({
  title: (given) => given ?? '',
  exec: async (t, body: string) => {
    const name = t.title.replace(/\W+/g, '-');
    const program = programs.build(name, body);
    const before = host.leftovers.length;
    const { status, signal, stderr } = await host.run(program);
    t.deepEqual({ status, signal, stderr }, { status: 0, signal: null, stderr: '' });
    await host.idle(before);
    t.deepEqual([...new Set(host.leftovers)], [CLEAN]);
  },
});

test.serial(
  'dup, dup2, dup3 and F_DUPFD are the same file; the last close ends it',
  check,
  `int fd = open("/dev/iommu", O_RDWR); CHECK(fd >= 0 && ioas(fd) == 1);
   int a = dup(fd), b = dup2(fd, 40), c = dup3(fd, 41, O_CLOEXEC), d = fcntl(fd, F_DUPFD, 50),
       e = fcntl(fd, F_DUPFD_CLOEXEC, 60);
   CHECK(b == 40 && c == 41 && d == 50 && e == 60 && dup2(fd, fd) == fd);
   CHECK(dup3(fd, fd, 0) == -1 && errno == EINVAL);
   CHECK((fcntl(b, F_GETFD) & FD_CLOEXEC) == 0 && (fcntl(c, F_GETFD) & FD_CLOEXEC) != 0);
   CHECK((fcntl(d, F_GETFD) & FD_CLOEXEC) == 0 && (fcntl(e, F_GETFD) & FD_CLOEXEC) != 0);
   close(fd); close(a);
   CHECK(ioas(b) == 2 && ioas(c) == 3 && ioas(d) == 4 && ioas(e) == 5);
   CHECK(ioctl(fd, 0x3b81, 0) == -1 && errno == EBADF);
   int other = open("/dev/iommu", O_RDWR); CHECK(ioas(other) == 1);
   CHECK(dup2(other, b) == b && ioas(b) == 2);
   int null = open("/dev/null", O_RDWR); CHECK(dup2(null, c) == c && write(c, "x", 1) == 1);
   CHECK(dup2(1234, d) == -1 && errno == EBADF && ioas(d) == 6);
   close(d); close(e);
   CHECK(close(d) == -1 && errno == EBADF);`,
);

test.serial(
  'numbers that are used again for other files are other files',
  check,
  `for (int i = 0; i < 50; i++) {
     int fd = open("/dev/iommu", O_RDWR); CHECK(fd == 3 && ioas(fd) == 1);
     if (i % 2) CHECK(close(fd) == 0); else CHECK(fclose(fdopen(fd, "r+")) == 0);
     int plain = open("/dev/zero", O_RDWR); CHECK(plain == 3);
     char byte = 1; CHECK(read(plain, &byte, 1) == 1 && byte == 0);
     CHECK(ioctl(plain, 0x3b81, &byte) == -1 && errno == ENOTTY);
     close(plain);
   }`,
);

test.serial(
  'close_range and closefrom close the files and spare what the library needs',
  check,
  `int fd = open("/dev/iommu", O_RDWR); CHECK(ioas(fd) == 1);
   int far = fcntl(fd, F_DUPFD, 1000); CHECK(far == 1000);
   CHECK(close_range(4, ~0u, 0) == 0 && fcntl(far, F_GETFD) == -1 && errno == EBADF);
   CHECK(ioas(fd) == 2);
   CHECK(close_range(3, 3, 0) == 0 && fcntl(fd, F_GETFD) == -1);
   fd = open("/dev/iommu", O_RDWR); CHECK(ioas(fd) == 1);
   closefrom(3); CHECK(fcntl(fd, F_GETFD) == -1);
   fd = open("/dev/iommu", O_RDWR); CHECK(fd == 3 && ioas(fd) == 1);
   for (int i = 4; i < 2000; i++) close(i);
   CHECK(ioas(fd) == 2);
   CHECK(close_range(10, 5, 0) == -1 && errno == EINVAL);
   CHECK(close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) == 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
   CHECK(ioas(fd) == 3);`,
);

test.serial(
  'fork shares the file, exec keeps it unless FD_CLOEXEC says otherwise',
  check,
  `if (count > 1) {
     int kept = atoi(arguments[1]), gone = atoi(arguments[2]);
     CHECK(fcntl(gone, F_GETFD) == -1 && errno == EBADF);
     CHECK(ioas(kept) != 0 && close(kept) == 0);
     return 0;
   }
   int kept = open("/dev/iommu", O_RDWR), gone = open("/dev/iommu", O_RDWR | O_CLOEXEC);
   CHECK(ioas(kept) == 1 && ioas(gone) == 1);
   pid_t child = fork();
   if (child == 0) {
     CHECK(ioas(kept) == 2 && ioas(gone) == 2);
     char a[12], b[12]; sprintf(a, "%d", kept); sprintf(b, "%d", gone);
     execl("/proc/self/exe", "again", a, b, NULL); _exit(98);
   }
   CHECK(ended(child) == 0 && ioas(kept) == 4 && ioas(gone) == 3);
   child = fork();
   if (child == 0) { close(kept); close(gone); raise(SIGKILL); }
   CHECK(WTERMSIG(ended(child)) == SIGKILL && ioas(kept) == 5);
   child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
   if (child == 0) { CHECK(ioas(kept) == 6); _exit(7); }
   CHECK(WEXITSTATUS(ended(child)) == 7 && ioas(kept) == 7);`,
);

test.serial(
  'vfork and posix_spawn leave the parent its files',
  check,
  `if (count > 1) return ioas(atoi(arguments[1])) == 0 ? 1 : 0;
   int fd = open("/dev/iommu", O_RDWR), other = open("/dev/iommu", O_RDWR | O_CLOEXEC);
   CHECK(ioas(fd) == 1 && ioas(other) == 1);
   char number[12]; sprintf(number, "%d", fd);
   pid_t child = vfork();
   if (child == 0) { close(other); execl("/proc/self/exe", "again", number, NULL); _exit(98); }
   CHECK(ended(child) == 0 && ioas(fd) == 3 && ioas(other) == 2);
   char buffer[8]; CHECK(read(other, buffer, 8) == -1 && errno == EINVAL);
   char *list[] = {"again", number, NULL};
   posix_spawn_file_actions_t actions; posix_spawn_file_actions_init(&actions);
   posix_spawn_file_actions_addclose(&actions, other);
   CHECK(posix_spawn(&child, "/proc/self/exe", &actions, NULL, list, environ) == 0);
   CHECK(ended(child) == 0 && ioas(fd) == 5 && ioas(other) == 3);`,
);

test.serial(
  'SCM_RIGHTS passes the file to another process, and it lives there',
  check,
  `int pair[2]; CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
   pid_t child = fork();
   union { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(int))]; } room = {0};
   char byte; struct iovec part = {&byte, 1};
   struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room.bytes,
                      .msg_controllen = sizeof(room.bytes)};
   if (child == 0) {
     int taken = open("/dev/null", O_RDWR);
     CHECK(recvmsg(pair[1], &m, 0) == 1);
     int fd; memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
     CHECK(recv(pair[1], &byte, 1, 0) == 1);
     char buffer[8]; CHECK(read(fd, buffer, 8) == -1 && errno == EINVAL);
     CHECK(ioas(fd) == 2);
     _exit(0);
   }
   int fd = open("/dev/iommu", O_RDWR); CHECK(ioas(fd) == 1);
   struct cmsghdr *h = CMSG_FIRSTHDR(&m);
   h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_RIGHTS; h->cmsg_len = CMSG_LEN(sizeof(int));
   memcpy(CMSG_DATA(h), &fd, sizeof(fd));
   CHECK(sendmsg(pair[0], &m, 0) == 1 && close(fd) == 0 && send(pair[0], "x", 1, 0) == 1);
   CHECK(ended(child) == 0);`,
);

test.serial(
  'poll, select and epoll see fault queues and device files as they are',
  check,
  `int fd = open("/dev/iommu", O_RDWR);
   struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
   CHECK(poll(&p, 1, 0) == 1 && p.revents == (POLLIN | POLLOUT));
   struct { uint32_t size, flags, id, fd; } f = {16};
   CHECK(ioctl(fd, 0x3b8e, &f) == 0);
   int queue = (int)f.fd;
   p.fd = queue; CHECK(poll(&p, 1, 0) == 1 && p.revents == POLLOUT);
   fd_set set; FD_ZERO(&set); FD_SET(queue, &set); struct timeval none = {0, 0};
   CHECK(select(queue + 1, &set, NULL, NULL, &none) == 0);
   int e = epoll_create1(0); struct epoll_event event = {.events = EPOLLIN | EPOLLET};
   CHECK(epoll_ctl(e, EPOLL_CTL_ADD, queue, &event) == 0 && epoll_wait(e, &event, 1, 0) == 0);
   int flags = fcntl(queue, F_GETFL);
   CHECK((flags & O_ACCMODE) == O_RDWR && fcntl(queue, F_SETFL, flags | O_NONBLOCK) == 0);
   char bytes[40]; CHECK(read(queue, bytes, 40) == 0);
   struct iovec parts[2] = {{bytes, 0}, {bytes, 40}};
   CHECK(readv(queue, parts, 2) == 0 && readv(queue, parts, -1) == -1 && errno == EINVAL);
   int yes = 1; CHECK(ioctl(queue, FIONBIO, &yes) == 0 && ioctl(queue, FIOCLEX) == 0);
   CHECK(lseek(queue, 0, SEEK_SET) == -1 && errno == ESPIPE);`,
);

test.serial(
  'stat, access, access modes and calls by number',
  check,
  `struct stat a, b; struct statx x;
   CHECK(stat("/dev/iommu", &a) == 0 && S_ISCHR(a.st_mode) && access("/dev/iommu", R_OK) == 0);
   CHECK(access("/dev/vfio/devices/vfio99", F_OK) == -1 && errno == ENOENT);
   int fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/iommu", O_RDONLY);
   CHECK(fd >= 0 && fstat(fd, &b) == 0 && a.st_rdev == b.st_rdev);
   CHECK(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x) == 0);
   CHECK(x.stx_rdev_major == major(a.st_rdev) && x.stx_rdev_minor == minor(a.st_rdev));
   CHECK((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY);
   struct alloc alloc = {.size = sizeof(alloc)};
   CHECK(syscall(SYS_ioctl, fd, 0x3b81, &alloc) == 0 && alloc.id == 1);
   int copy = (int)syscall(SYS_dup, fd); CHECK(syscall(SYS_close, fd) == 0 && ioas(copy) == 2);
   CHECK(syscall(SYS_write, copy, &alloc, 4) == -1 && errno == EBADF);
   CHECK(syscall(SYS_read, copy, &alloc, 4) == -1 && errno == EINVAL);
   CHECK(syscall(SYS_getpid) == getpid());
   CHECK(open("/dev/vfio/devices/vfio77", O_RDWR) == -1 && errno == ENOENT);
   int again = openat(AT_FDCWD, "/dev/iommu", O_RDWR | O_CLOEXEC | O_NONBLOCK);
   CHECK((fcntl(again, F_GETFL) & O_NONBLOCK) && (fcntl(again, F_GETFD) & FD_CLOEXEC));`,
);

test.serial(
  'arguments anywhere: heap, static, across pages, read-only, unmapped',
  check,
  `int fd = open("/dev/iommu", O_RDWR);
   static struct alloc there = {.size = sizeof(there)};
   CHECK(ioctl(fd, 0x3b81, &there) == 0 && there.id == 1);
   struct alloc *heap = malloc(sizeof(*heap)); *heap = (struct alloc){.size = sizeof(*heap)};
   CHECK(ioctl(fd, 0x3b81, heap) == 0 && heap->id == 2);
   char *pages = mmap(0, 3 * 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
   struct alloc *across = (void *)(pages + 4096 - 4); across->size = sizeof(*across);
   CHECK(ioctl(fd, 0x3b81, across) == 0 && across->id == 3);
   mprotect(pages, 4096, PROT_READ);
   struct alloc *fixed = (void *)(pages + 64);
   CHECK(ioctl(fd, 0x3b81, fixed) == -1 && errno == EINVAL);
   mprotect(pages, 4096, 3); fixed->size = sizeof(*fixed); mprotect(pages, 4096, PROT_READ);
   CHECK(ioctl(fd, 0x3b81, fixed) == -1 && errno == EFAULT && fixed->id == 0);
   munmap(pages + 8192, 4096);
   struct alloc *half = (void *)(pages + 8192 - 4); half->size = sizeof(*half);
   CHECK(ioctl(fd, 0x3b81, half) == -1 && errno == EFAULT);
   CHECK(ioctl(fd, 0x3b81, (void *)8) == -1 && errno == EFAULT);
   CHECK(ioctl(fd, 0x3b81, (void *)-8L) == -1 && errno == EFAULT);
   CHECK(ioctl(fd, 0x3b81, NULL) == -1 && errno == EFAULT);
   const uint32_t next = ioas(fd); CHECK(next >= 4);
   errno = 77; CHECK(ioas(fd) == next + 1 && errno == 77);`,
);
