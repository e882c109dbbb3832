/*
 * Which descriptors of this process are the engine's files. What was seen is remembered, so that
 * calls on other descriptors cost nothing and calls on these no look; a descriptor that changed
 * behind the library's back is found out when the engine does not know its file any more.
 */
#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define FDS 65536
#define INTERNAL UINT32_MAX
/* Internal, and belongs to the process's memory rather than to its way to the engine. */
#define KEPT (UINT32_MAX - 1)
/* The library's own descriptors are out of the way of programs that expect the lowest numbers. */
#define INTERNAL_FD 900

static struct sockaddr_un server;
/* By descriptor: 0 not ours, INTERNAL, KEPT, or the file. */
static _Atomic uint32_t files[FDS];
static _Atomic unsigned highest;
static atomic_bool used; /* some descriptor may be ours */

long vsva_raw(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (result < 0 && result > -4096) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

bool vsva_serve_at(const char *path) {
    if (path == NULL || strlen(path) >= sizeof(server.sun_path)) return false;
    server.sun_family = AF_UNIX;
    memcpy(server.sun_path, path, strlen(path) + 1);
    return true;
}

const char *vsva_server(void) {
    return server.sun_path;
}

bool vsva_used(void) {
    return atomic_load_explicit(&used, memory_order_relaxed);
}

/* A file's connection has an autobind name, which is its number, and goes to the server. */
uint32_t vsva_file_of(int fd) {
    const int saved = errno;
    struct sockaddr_un name;
    socklen_t length = sizeof(name);
    uint32_t file = 0;
    if (getsockname(fd, (struct sockaddr *)&name, &length) == 0 && name.sun_family == AF_UNIX &&
        length == offsetof(struct sockaddr_un, sun_path) + 6 && name.sun_path[0] == 0) {
        char digits[6] = {0};
        memcpy(digits, name.sun_path + 1, 5);
        struct sockaddr_un peer;
        socklen_t size = sizeof(peer);
        memset(&peer, 0, sizeof(peer));
        if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 &&
            strncmp(peer.sun_path, server.sun_path, sizeof(peer.sun_path)) == 0) {
            file = (uint32_t)strtoul(digits, NULL, 16) + 1;
        }
    }
    errno = saved;
    return file;
}

static void put(int fd, uint32_t file) {
    if (fd < 0 || fd >= FDS) return;
    atomic_store_explicit(&files[fd], file, memory_order_relaxed);
    unsigned seen = atomic_load(&highest);
    while (file != 0 && seen < (unsigned)fd &&
           !atomic_compare_exchange_weak(&highest, &seen, (unsigned)fd)) {}
}

uint32_t vsva_marked_file(int fd) {
    if (!vsva_used() || fd < 0) return 0;
    if (fd >= FDS) return vsva_file_of(fd);
    const uint32_t file = atomic_load_explicit(&files[fd], memory_order_relaxed);
    return file >= KEPT ? 0 : file;
}

uint32_t vsva_look(int fd) {
    const uint32_t file = vsva_is_internal(fd) ? 0 : vsva_file_of(fd);
    if (file != 0) atomic_store(&used, true);
    if (!vsva_is_internal(fd)) put(fd, file);
    return file;
}

uint32_t vsva_checked_file(int fd) {
    return vsva_marked_file(fd) == 0 ? 0 : vsva_look(fd);
}

void vsva_unmark(int fd) {
    if (!vsva_is_internal(fd)) put(fd, 0);
}

bool vsva_is_internal(int fd) {
    return fd >= 0 && fd < FDS &&
           atomic_load_explicit(&files[fd], memory_order_relaxed) >= KEPT;
}

static int move_away(int fd, uint32_t what) {
    for (int low = INTERNAL_FD; fd >= 0 && low > 0; low /= 2) {
        const int high = (int)RAW(SYS_fcntl, fd, F_DUPFD_CLOEXEC, low);
        if (high < 0) continue;
        RAW(SYS_close, fd);
        fd = high;
        break;
    }
    put(fd, what);
    return fd;
}

int vsva_internal(int fd) {
    return move_away(fd, INTERNAL);
}

int vsva_keep(int fd) {
    return move_away(fd, KEPT);
}

void vsva_close_internal(int fd) {
    put(fd, 0);
    RAW(SYS_close, fd);
}

void vsva_close_all_internal(void) {
    const unsigned last = atomic_load(&highest);
    for (unsigned fd = 0; fd <= last; fd++) {
        if (fd < FDS && atomic_load(&files[fd]) == INTERNAL) vsva_close_internal((int)fd);
    }
}

unsigned vsva_next_known(unsigned from, unsigned last) {
    const unsigned most = atomic_load(&highest);
    if (last > most) last = most;
    for (unsigned fd = from; fd <= last; fd++) {
        if (atomic_load_explicit(&files[fd], memory_order_relaxed) != 0) return fd;
    }
    return UINT32_MAX;
}

int vsva_connect(bool named) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    const struct sockaddr_un any = {.sun_family = AF_UNIX};
    int result = named ? bind(fd, (const struct sockaddr *)&any, sizeof(any.sun_family)) : 0;
    while (result == 0) {
        result = connect(fd, (const struct sockaddr *)&server, sizeof(server));
        if (result == 0 || errno != EINTR) break;
        result = 0;
    }
    if (result == 0) return fd;
    RAW(SYS_close, fd);
    errno = ENXIO;
    return -1;
}

/* What an earlier image of this process, or its parent, left open. */
void vsva_look_around(void) {
    const int directory = (int)RAW(SYS_openat, AT_FDCWD, "/proc/self/fd",
                                       O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    union {
        uint64_t align;
        char bytes[2048];
    } buffer;
    long got;
    while ((got = RAW(SYS_getdents64, directory, &buffer, sizeof(buffer))) > 0) {
        for (long at = 0; at < got;) {
            const char *entry = buffer.bytes + at; /* ino, off: 8 each; reclen: 2; type: 1; name */
            uint16_t length;
            memcpy(&length, entry + 16, sizeof(length));
            if (entry[19] >= '0' && entry[19] <= '9') vsva_look(atoi(entry + 19));
            at += length;
        }
    }
    RAW(SYS_close, directory);
}
