/*
 * The calls of libc through which a program reaches its devices. Each looks whether it is about a
 * device file, and otherwise is the call that it wraps.
 */
#define _GNU_SOURCE
#include "client.h"
#include "window.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define IOCTL_TYPE(request) (((request) >> 8) & 0xffu)
#define VFIO_TYPE 0x3bu

/* The next definition of a function that this library wraps. */
#define NEXT(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(&name) next;                                                             \
        if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name);                               \
        next;                                                                                      \
    })

#define OPEN_BODY(name, ...)                                                                       \
    mode_t mode = 0;                                                                               \
    if ((flags & (O_CREAT | __O_TMPFILE)) != 0) {                                                  \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode = va_arg(rest, mode_t);                                                               \
        va_end(rest);                                                                              \
    }                                                                                              \
    struct vsva_route route;                                                                       \
    const char *real = vsva_route(at, path, &route);                                               \
    if (route.place == VSVA_PLACE_DEVICE) return vsva_open(real, flags);                           \
    if ((flags & O_ACCMODE) != O_RDONLY) {                                                         \
        const char *attribute = vsva_attribute(&route);                                            \
        if (attribute != NULL) return vsva_open(attribute, flags);                                 \
    }                                                                                              \
    if ((flags & O_CREAT) != 0 && vsva_follow(at, path, &route)) {                                 \
        return vsva_open(route.path, flags);                                                       \
    }                                                                                              \
    const int fd = NEXT(name)(__VA_ARGS__, flags, mode);                                           \
    const bool missing = fd < 0 && errno == ENOENT;                                                \
    return missing && vsva_follow(at, path, &route) ? vsva_open(route.path, flags) : fd;

EXPORT int open(const char *path, int flags, ...) {
    const int at = AT_FDCWD;
    OPEN_BODY(open, real)
}
EXPORT int open64(const char *path, int flags, ...) {
    const int at = AT_FDCWD;
    OPEN_BODY(open64, real)
}
EXPORT int creat(const char *path, mode_t mode) {
    return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
EXPORT int creat64(const char *path, mode_t mode) {
    return open64(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
EXPORT int openat(int at, const char *path, int flags, ...) { OPEN_BODY(openat, at, real) }
EXPORT int openat64(int at, const char *path, int flags, ...) { OPEN_BODY(openat64, at, real) }

/* The same calls, as fortified programs make them. */
EXPORT int __open_2(const char *path, int flags) { return open(path, flags); }
EXPORT int __open64_2(const char *path, int flags) { return open64(path, flags); }
EXPORT int __openat_2(int at, const char *path, int flags) { return openat(at, path, flags); }
EXPORT int __openat64_2(int at, const char *path, int flags) { return openat64(at, path, flags); }

/* What the kernel does with any descriptor before the file's own ioctl is asked. */
static bool is_general(unsigned long command) {
    return command == FIOCLEX || command == FIONCLEX || command == FIONBIO || command == FIOASYNC;
}

EXPORT int ioctl(int fd, unsigned long command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    uint32_t file = vsva_marked_file(fd);
    if (IOCTL_TYPE(command) != VFIO_TYPE) file = vsva_checked_file(fd);
    /* A descriptor that came by a way that nobody watches. */
    else if (file == 0 && vsva_enabled()) file = vsva_look(fd);
    if (file != 0 && !is_general(command)) {
        const int result = vsva_ioctl(file, fd, (unsigned)command, argument);
        if (result != VSVA_NOT_OURS) return result;
    }
    return NEXT(ioctl)(fd, command, argument);
}

#define TRANSFER(name, arguments, op, position)                                                    \
    const uint32_t file = vsva_checked_file(fd);                                                   \
    if (file == 0) return NEXT(name) arguments;                                                    \
    const ssize_t moved = vsva_transfer(op, file, fd, buffer, count, position);                    \
    return moved == VSVA_NOT_OURS ? NEXT(name) arguments : moved;

EXPORT ssize_t read(int fd, void *buffer, size_t count) {
    TRANSFER(read, (fd, buffer, count), VSVA_OP_READ, 0)
}
EXPORT ssize_t write(int fd, const void *buffer, size_t count) {
    TRANSFER(write, (fd, buffer, count), VSVA_OP_WRITE, 0)
}
EXPORT ssize_t pread(int fd, void *buffer, size_t count, off_t position) {
    TRANSFER(pread, (fd, buffer, count, position), VSVA_OP_PREAD, position)
}
EXPORT ssize_t pwrite(int fd, const void *buffer, size_t count, off_t position) {
    TRANSFER(pwrite, (fd, buffer, count, position), VSVA_OP_PWRITE, position)
}
EXPORT ssize_t pread64(int fd, void *buffer, size_t count, off64_t position) {
    return pread(fd, buffer, count, position);
}
EXPORT ssize_t pwrite64(int fd, const void *buffer, size_t count, off64_t position) {
    return pwrite(fd, buffer, count, position);
}

/* The same calls, as fortified programs make them. */
EXPORT ssize_t __read_chk(int fd, void *buffer, size_t count, size_t room) {
    if (count > room) abort();
    return read(fd, buffer, count);
}
EXPORT ssize_t __pread_chk(int fd, void *buffer, size_t count, off_t position, size_t room) {
    if (count > room) abort();
    return pread(fd, buffer, count, position);
}
EXPORT ssize_t __pread64_chk(int fd, void *buffer, size_t count, off64_t position, size_t room) {
    if (count > room) abort();
    return pread(fd, buffer, count, position);
}

/* One part after the other, as the kernel does for files that know no vectors. */
static ssize_t vector(enum vsva_op op, uint32_t file, int fd, const struct iovec *parts, int count,
                      off_t position) {
    ssize_t done = 0;
    if (count < 0 || count > IOV_MAX) {
        errno = EINVAL;
        return -1;
    }
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len == 0 && count > 1) continue;
        const ssize_t moved =
            vsva_transfer(op, file, fd, parts[i].iov_base, parts[i].iov_len, position + done);
        if (moved < 0) return done > 0 ? done : moved;
        done += moved;
        if ((size_t)moved < parts[i].iov_len) break;
    }
    return done;
}

#define VECTOR(name, arguments, op, position)                                                      \
    const uint32_t file = vsva_checked_file(fd);                                                   \
    if (file == 0) return NEXT(name) arguments;                                                    \
    const ssize_t moved = vector(op, file, fd, parts, count, position);                            \
    return moved == VSVA_NOT_OURS ? NEXT(name) arguments : moved;

EXPORT ssize_t readv(int fd, const struct iovec *parts, int count) {
    VECTOR(readv, (fd, parts, count), VSVA_OP_READ, 0)
}
EXPORT ssize_t writev(int fd, const struct iovec *parts, int count) {
    VECTOR(writev, (fd, parts, count), VSVA_OP_WRITE, 0)
}
EXPORT ssize_t preadv(int fd, const struct iovec *parts, int count, off_t position) {
    VECTOR(preadv, (fd, parts, count, position), VSVA_OP_PREAD, position)
}
EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t position) {
    VECTOR(pwritev, (fd, parts, count, position), VSVA_OP_PWRITE, position)
}
EXPORT ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t position) {
    return preadv(fd, parts, count, position);
}
EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t position) {
    return pwritev(fd, parts, count, position);
}

EXPORT void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset) {
    const uint32_t file = (flags & MAP_ANONYMOUS) != 0 ? 0 : vsva_checked_file(fd);
    if (file != 0) return vsva_window_map(file, fd, address, length, prot, flags, offset);
    if ((flags & MAP_FIXED) != 0) vsva_leave((uintptr_t)address, length, -1, true);
    void *place = NEXT(mmap)(address, length, prot, flags, fd, offset);
    if (place != MAP_FAILED) vsva_windows_gone((uintptr_t)place, length);
    return place;
}

EXPORT void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset) {
    return mmap(address, length, prot, flags, fd, offset);
}

/* Before a descriptor goes: whether the engine has to hear of it. */
static bool goes(int fd) {
    if (vsva_marked_file(fd) == 0 || vsva_is_guest()) return false;
    vsva_unmark(fd);
    return true;
}

EXPORT int close(int fd) {
    if (vsva_is_internal(fd) && !vsva_is_guest()) {
        errno = EBADF;
        return -1;
    }
    const bool ours = goes(fd);
    const int result = NEXT(close)(fd);
    if (ours) vsva_settle();
    return result;
}

/* `fd` is a copy of `old`, and took the place of another file if `replaced`. */
static int copied(int old, int fd, bool replaced) {
    if (fd >= 0 && fd != old && vsva_marked_file(old) != 0 && !vsva_is_guest()) vsva_look(fd);
    if (replaced) vsva_settle();
    return fd;
}

EXPORT int dup(int old) {
    return copied(old, NEXT(dup)(old), false);
}

#define REPLACE(name, arguments)                                                                   \
    if (fd != old && vsva_is_internal(fd) && !vsva_is_guest()) {                                   \
        errno = EBUSY;                                                                             \
        return -1;                                                                                 \
    }                                                                                              \
    /* What is not open replaces nothing. */                                                       \
    const bool replaced = fd != old && vsva_marked_file(fd) != 0 &&                                \
                          RAW(SYS_fcntl, old, F_GETFD) >= 0 && goes(fd);                           \
    return copied(old, NEXT(name) arguments, replaced);

EXPORT int dup2(int old, int fd) { REPLACE(dup2, (old, fd)) }
EXPORT int dup3(int old, int fd, int flags) { REPLACE(dup3, (old, fd, flags)) }

#define FCNTL(name)                                                                                \
    va_list rest;                                                                                  \
    va_start(rest, command);                                                                       \
    void *argument = va_arg(rest, void *);                                                         \
    va_end(rest);                                                                                  \
    int result = NEXT(name)(fd, command, argument);                                                \
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) result = copied(fd, result, false);      \
    if (command == F_GETFL && result >= 0) result = opened_for(fd, result);                        \
    return result;

/* A connection can always be read and written; the file that it stands for perhaps not. */
static int opened_for(int fd, int flags) {
    const uint32_t file = vsva_checked_file(fd);
    return file == 0 ? flags : (flags & ~O_ACCMODE) | vsva_access_mode(file);
}

EXPORT int fcntl(int fd, int command, ...) { FCNTL(fcntl) }
EXPORT int fcntl64(int fd, int command, ...) { FCNTL(fcntl64) }

EXPORT int close_range(unsigned first, unsigned last, int flags) {
    const bool plain = !vsva_enabled() || (flags & CLOSE_RANGE_CLOEXEC) != 0 || first > last;
    if (plain || vsva_is_guest()) return NEXT(close_range)(first, last, flags);
    bool ours = false;
    unsigned known;
    while ((known = vsva_next_known(first, last)) != UINT32_MAX) {
        const bool spared = vsva_is_internal((int)known);
        const unsigned end = spared ? known - 1 : known;
        ours |= goes((int)known);
        if (first <= end && known > 0 && NEXT(close_range)(first, end, flags) < 0) return -1;
        first = known + 1;
    }
    const int result = first <= last ? NEXT(close_range)(first, last, flags) : 0;
    if (ours) vsva_settle();
    return result;
}

EXPORT void closefrom(int first) {
    if (vsva_enabled()) close_range(first < 0 ? 0 : (unsigned)first, ~0u, 0);
    else NEXT(closefrom)(first);
}

/* Descriptors that came with a message may be ours. */
static ssize_t received(ssize_t got, const struct msghdr *message) {
    if (got < 0 || !vsva_enabled() || vsva_is_guest()) return got;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR((struct msghdr *)(uintptr_t)message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= part->cmsg_len; at += sizeof(int)) {
            int fd;
            memcpy(&fd, (char *)part + at, sizeof(fd));
            vsva_look(fd);
        }
    }
    return got;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    return received(NEXT(recvmsg)(fd, message, flags), message);
}

EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags,
                    struct timespec *timeout) {
    const int got = NEXT(recvmmsg)(fd, messages, count, flags, timeout);
    for (int i = 0; i < got; i++) received(0, &messages[i].msg_hdr);
    return got;
}

/* Programs that make the calls by number. */
EXPORT long syscall(long number, ...) {
    va_list rest;
    va_start(rest, number);
    long a[6];
    for (int i = 0; i < 6; i++) a[i] = va_arg(rest, long);
    va_end(rest);
    const int fd = (int)a[0];
    if (vsva_enabled()) {
        switch (number) {
        case SYS_open: return open((const char *)a[0], (int)a[1], (mode_t)a[2]);
        case SYS_openat: return openat(fd, (const char *)a[1], (int)a[2], (mode_t)a[3]);
        case SYS_ioctl: return ioctl(fd, (unsigned long)a[1], a[2]);
        case SYS_read: return read(fd, (void *)a[1], (size_t)a[2]);
        case SYS_write: return write(fd, (const void *)a[1], (size_t)a[2]);
        case SYS_pread64: return pread(fd, (void *)a[1], (size_t)a[2], a[3]);
        case SYS_pwrite64: return pwrite(fd, (const void *)a[1], (size_t)a[2], a[3]);
        case SYS_readv: return readv(fd, (const struct iovec *)a[1], (int)a[2]);
        case SYS_writev: return writev(fd, (const struct iovec *)a[1], (int)a[2]);
        case SYS_mmap:
            return (long)mmap((void *)a[0], (size_t)a[1], (int)a[2], (int)a[3], (int)a[4], a[5]);
        case SYS_munmap: return munmap((void *)a[0], (size_t)a[1]);
        case SYS_close: return close(fd);
        case SYS_close_range: return close_range((unsigned)a[0], (unsigned)a[1], (int)a[2]);
        case SYS_dup: return dup(fd);
        case SYS_dup2: return dup2(fd, (int)a[1]);
        case SYS_dup3: return dup3(fd, (int)a[1], (int)a[2]);
        case SYS_fcntl: return fcntl(fd, (int)a[1], a[2]);
        case SYS_fstat: return fstat(fd, (struct stat *)a[1]);
        default: break;
        }
    }
    return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* A child that has been waited for has closed its files. */
static pid_t waited(pid_t child) {
    if (child > 0) vsva_settle();
    return child;
}

EXPORT pid_t wait(int *status) { return waited(NEXT(wait)(status)); }

EXPORT pid_t waitpid(pid_t pid, int *status, int options) {
    return waited(NEXT(waitpid)(pid, status, options));
}

EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage) {
    return waited(NEXT(wait4)(pid, status, options, usage));
}

EXPORT int waitid(idtype_t type, id_t id, siginfo_t *info, int options) {
    const int result = NEXT(waitid)(type, id, info, options);
    waited(result == 0 ? 1 : 0);
    return result;
}

EXPORT int fstat(int fd, struct stat *into) {
    const int result = NEXT(fstat)(fd, into);
    const uint32_t file = result == 0 && S_ISSOCK(into->st_mode) ? vsva_checked_file(fd) : 0;
    return file == 0 ? result : vsva_stat(file, NULL, into);
}

EXPORT int fstat64(int fd, struct stat64 *into) {
    return fstat(fd, (struct stat *)into);
}

#define STAT_BODY(name, type, ...)                                                                 \
    struct vsva_route route;                                                                       \
    const char *real = vsva_route(at, path, &route);                                               \
    if (route.place != VSVA_PLACE_DEVICE) return NEXT(name)(__VA_ARGS__);                          \
    memset(into, 0, sizeof(*into));                                                                \
    return vsva_stat(0, real, (type *)into);

EXPORT int stat(const char *path, struct stat *into) {
    const int at = AT_FDCWD;
    STAT_BODY(stat, struct stat, real, into)
}
EXPORT int stat64(const char *path, struct stat64 *into) {
    const int at = AT_FDCWD;
    STAT_BODY(stat64, struct stat, real, into)
}
EXPORT int lstat(const char *path, struct stat *into) {
    const int at = AT_FDCWD;
    STAT_BODY(lstat, struct stat, real, into)
}
EXPORT int lstat64(const char *path, struct stat64 *into) {
    const int at = AT_FDCWD;
    STAT_BODY(lstat64, struct stat, real, into)
}

EXPORT int fstatat(int at, const char *path, struct stat *into, int flags) {
    if (path[0] == 0 && (flags & AT_EMPTY_PATH) != 0 && vsva_marked_file(at) != 0) {
        return fstat(at, into);
    }
    STAT_BODY(fstatat, struct stat, at, real, into, flags)
}

EXPORT int fstatat64(int at, const char *path, struct stat64 *into, int flags) {
    return fstatat(at, path, (struct stat *)into, flags);
}

EXPORT int statx(int at, const char *path, int flags, unsigned mask, struct statx *into) {
    const bool empty = path[0] == 0 && (flags & AT_EMPTY_PATH) != 0;
    const uint32_t file = empty ? vsva_marked_file(at) : 0;
    struct stat plain = {0};
    if (file == 0) {
        struct vsva_route route;
        const char *real = vsva_route(at, path, &route);
        if (route.place != VSVA_PLACE_DEVICE) return NEXT(statx)(at, real, flags, mask, into);
        if (vsva_stat(0, real, &plain) < 0) return -1;
    } else if (vsva_stat(file, NULL, &plain) < 0) {
        return -1;
    }
    memset(into, 0, sizeof(*into));
    into->stx_mask = STATX_BASIC_STATS;
    into->stx_mode = (uint16_t)plain.st_mode;
    into->stx_nlink = 1;
    into->stx_blksize = (uint32_t)plain.st_blksize;
    into->stx_ino = plain.st_ino;
    into->stx_dev_major = major(plain.st_dev);
    into->stx_dev_minor = minor(plain.st_dev);
    into->stx_rdev_major = major(plain.st_rdev);
    into->stx_rdev_minor = minor(plain.st_rdev);
    return 0;
}
