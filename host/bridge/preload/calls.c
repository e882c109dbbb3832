/*
 * The calls of libc through which a program reaches its devices. Each looks whether it is about a
 * device file, and otherwise is the call that it wraps.
 */
#define _GNU_SOURCE
#include "client.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
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
    return vsva_is_device(path) ? vsva_open(path, flags) : NEXT(name)(__VA_ARGS__, flags, mode);

EXPORT int open(const char *path, int flags, ...) { OPEN_BODY(open, path) }
EXPORT int open64(const char *path, int flags, ...) { OPEN_BODY(open64, path) }
EXPORT int openat(int at, const char *path, int flags, ...) { OPEN_BODY(openat, at, path) }
EXPORT int openat64(int at, const char *path, int flags, ...) { OPEN_BODY(openat64, at, path) }

/* The same calls, as fortified programs make them. */
EXPORT int __open_2(const char *path, int flags) { return open(path, flags); }
EXPORT int __open64_2(const char *path, int flags) { return open64(path, flags); }
EXPORT int __openat_2(int at, const char *path, int flags) { return openat(at, path, flags); }
EXPORT int __openat64_2(int at, const char *path, int flags) { return openat64(at, path, flags); }

EXPORT int ioctl(int fd, unsigned long command, ...) {
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (vsva_enabled() && fd >= 0 && (IOCTL_TYPE(command) == VFIO_TYPE || vsva_marked_file(fd) != 0)) {
        const uint32_t file = vsva_file_of(fd);
        if (file != 0) {
            vsva_mark(fd);
            return vsva_ioctl(file, fd, command, argument);
        }
    }
    return NEXT(ioctl)(fd, command, argument);
}

EXPORT ssize_t read(int fd, void *buffer, size_t count) {
    const uint32_t file = vsva_marked_file(fd);
    return file == 0 ? NEXT(read)(fd, buffer, count)
                     : vsva_transfer(VSVA_OP_READ, file, fd, buffer, count, 0);
}

EXPORT ssize_t __read_chk(int fd, void *buffer, size_t count, size_t room) {
    if (count > room) abort();
    return read(fd, buffer, count);
}

EXPORT ssize_t write(int fd, const void *buffer, size_t count) {
    const uint32_t file = vsva_marked_file(fd);
    return file == 0 ? NEXT(write)(fd, buffer, count)
                     : vsva_transfer(VSVA_OP_WRITE, file, fd, buffer, count, 0);
}

EXPORT ssize_t pread(int fd, void *buffer, size_t count, off_t position) {
    const uint32_t file = vsva_marked_file(fd);
    return file == 0 ? NEXT(pread)(fd, buffer, count, position)
                     : vsva_transfer(VSVA_OP_PREAD, file, fd, buffer, count, position);
}

EXPORT ssize_t pread64(int fd, void *buffer, size_t count, off64_t position) {
    return pread(fd, buffer, count, position);
}

EXPORT ssize_t pwrite(int fd, const void *buffer, size_t count, off_t position) {
    const uint32_t file = vsva_marked_file(fd);
    return file == 0 ? NEXT(pwrite)(fd, buffer, count, position)
                     : vsva_transfer(VSVA_OP_PWRITE, file, fd, buffer, count, position);
}

EXPORT ssize_t pwrite64(int fd, const void *buffer, size_t count, off64_t position) {
    return pwrite(fd, buffer, count, position);
}

EXPORT void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset) {
    const uint32_t file = (flags & MAP_ANONYMOUS) != 0 ? 0 : vsva_marked_file(fd);
    if (file == 0) return NEXT(mmap)(address, length, prot, flags, fd, offset);
    vsva_mmap(file, fd, length, prot, flags, offset);
    return MAP_FAILED;
}

EXPORT void *mmap64(void *address, size_t length, int prot, int flags, int fd, off64_t offset) {
    return mmap(address, length, prot, flags, fd, offset);
}

EXPORT int close(int fd) {
    if (vsva_is_internal(fd)) {
        errno = EBADF;
        return -1;
    }
    const bool ours = vsva_marked_file(fd) != 0;
    if (ours) vsva_unmark(fd);
    const int result = NEXT(close)(fd);
    if (ours) vsva_settle();
    return result;
}

/* `fd` is a copy of `old`, and took the place of another file if `replaced`. */
static int copied(int old, int fd, bool replaced) {
    if (fd < 0 || fd == old) return fd;
    vsva_unmark(fd);
    if (vsva_marked_file(old) != 0) vsva_mark(fd);
    if (replaced) vsva_settle();
    return fd;
}

EXPORT int dup(int old) {
    return copied(old, NEXT(dup)(old), false);
}

EXPORT int dup2(int old, int fd) {
    if (vsva_is_internal(fd) && old != fd) vsva_forget((unsigned)fd, (unsigned)fd);
    const bool replaced = old != fd && vsva_marked_file(fd) != 0;
    return copied(old, NEXT(dup2)(old, fd), replaced);
}

EXPORT int dup3(int old, int fd, int flags) {
    if (vsva_is_internal(fd) && old != fd) vsva_forget((unsigned)fd, (unsigned)fd);
    const bool replaced = old != fd && vsva_marked_file(fd) != 0;
    return copied(old, NEXT(dup3)(old, fd, flags), replaced);
}

#define FCNTL_BODY(name)                                                                           \
    va_list rest;                                                                                  \
    va_start(rest, command);                                                                       \
    void *argument = va_arg(rest, void *);                                                         \
    va_end(rest);                                                                                  \
    const int result = NEXT(name)(fd, command, argument);                                          \
    return command == F_DUPFD || command == F_DUPFD_CLOEXEC ? copied(fd, result, false) : result;

EXPORT int fcntl(int fd, int command, ...) { FCNTL_BODY(fcntl) }
EXPORT int fcntl64(int fd, int command, ...) { FCNTL_BODY(fcntl64) }

EXPORT int close_range(unsigned first, unsigned last, int flags) {
    if (vsva_enabled() && (flags & CLOSE_RANGE_CLOEXEC) == 0) vsva_forget(first, last);
    return NEXT(close_range)(first, last, flags);
}

EXPORT void closefrom(int first) {
    if (vsva_enabled() && first >= 0) vsva_forget((unsigned)first, ~0u);
    NEXT(closefrom)(first);
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
    const uint32_t file = result == 0 ? vsva_marked_file(fd) : 0;
    return file == 0 ? result : vsva_stat(file, NULL, into);
}

EXPORT int fstat64(int fd, struct stat64 *into) {
    return fstat(fd, (struct stat *)into);
}

#define STAT_BODY(name, type, ...)                                                                 \
    if (!vsva_is_device(path)) return NEXT(name)(__VA_ARGS__);                                          \
    memset(into, 0, sizeof(*into));                                                                \
    return vsva_stat(0, path, (type *)into);

EXPORT int stat(const char *path, struct stat *into) { STAT_BODY(stat, struct stat, path, into) }
EXPORT int stat64(const char *path, struct stat64 *into) {
    STAT_BODY(stat64, struct stat, path, into)
}
EXPORT int lstat(const char *path, struct stat *into) { STAT_BODY(lstat, struct stat, path, into) }
EXPORT int lstat64(const char *path, struct stat64 *into) {
    STAT_BODY(lstat64, struct stat, path, into)
}

EXPORT int fstatat(int at, const char *path, struct stat *into, int flags) {
    if (path[0] == 0 && (flags & AT_EMPTY_PATH) != 0 && vsva_marked_file(at) != 0) {
        return fstat(at, into);
    }
    STAT_BODY(fstatat, struct stat, at, path, into, flags)
}

EXPORT int fstatat64(int at, const char *path, struct stat64 *into, int flags) {
    return fstatat(at, path, (struct stat *)into, flags);
}

EXPORT int statx(int at, const char *path, int flags, unsigned mask, struct statx *into) {
    const bool empty = path[0] == 0 && (flags & AT_EMPTY_PATH) != 0;
    const uint32_t file = empty ? vsva_marked_file(at) : 0;
    if (file == 0 && !vsva_is_device(path)) return NEXT(statx)(at, path, flags, mask, into);
    struct stat plain = {0};
    if (vsva_stat(file, file != 0 ? NULL : path, &plain) < 0) return -1;
    memset(into, 0, sizeof(*into));
    into->stx_mask = STATX_BASIC_STATS;
    into->stx_mode = (uint16_t)plain.st_mode;
    into->stx_nlink = 1;
    into->stx_blksize = (uint32_t)plain.st_blksize;
    into->stx_rdev_major = major(plain.st_rdev);
    into->stx_rdev_minor = minor(plain.st_rdev);
    return 0;
}

EXPORT int access(const char *path, int mode) {
    if (!vsva_is_device(path)) return NEXT(access)(path, mode);
    struct stat plain = {0};
    return vsva_stat(0, path, &plain);
}
