/*
 * The preloaded library: /dev/iommu and /dev/vfio of this process are served by a simulated kernel.
 *
 * An open device file is a connection to the broker's socket, so close, dup, fork, exec, SCM_RIGHTS
 * and the end of the process are seen at the other end, and poll(2) works by itself: the broker
 * sends a byte when the file is readable.
 *
 * Without VSVA_SOCKET nothing happens here.
 */
#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PAGE 4096u
#define PATH_BYTES 768
/* File systems without a disk have major 0; this is where nodes of devices are. */
#define DEVTMPFS_MINOR 6

/* How often the engine has said that it holds pins here, and how often when it last held none. */
static atomic_uint pins_told, pins_gone;

static void note_pins(const struct vsva_answered *answer) {
    if ((answer->head.flags & VSVA_REPLY_PINS) != 0) atomic_fetch_add(&pins_told, 1);
}

/* No call's result. */
#define NOT_OURS INT64_MIN

static long finish(int64_t result) {
    if (result >= 0) return (long)result;
    if (result == NOT_OURS) return VSVA_NOT_OURS;
    errno = (int)-result;
    return -1;
}

/* Whether to ask again, as `fd` is not the `file` that it was: now it is another one, or none. */
static bool changed(const struct vsva_answered *answer, int fd, uint32_t *file) {
    if ((answer->head.flags & VSVA_REPLY_STALE) == 0) return false;
    const uint32_t before = *file;
    *file = vsva_look(fd);
    return *file != before;
}

static int64_t simple_call(enum vsva_op op, uint32_t file, int fd, const uint64_t args[4]) {
    struct vsva_request request = vsva_request_of(op);
    struct vsva_answered answer;
    request.fd = fd;
    if (args != NULL) memcpy(request.args, args, sizeof(request.args));
    for (;;) {
        request.file = file;
        const int64_t result = vsva_call(&request, NULL, 0, &answer, NULL);
        if (!changed(&answer, fd, &file)) return result;
        if (file == 0) return NOT_OURS;
    }
}

void vsva_settle(void) {
    if (vsva_used() && !vsva_is_guest()) simple_call(VSVA_OP_SETTLE, 0, -1, NULL);
}

enum vsva_place vsva_locate(const char *path, char *real, size_t room) {
    struct vsva_request request = vsva_request_of(VSVA_OP_PATH);
    struct vsva_answered answer;
    const int64_t result = vsva_call(&request, path, strlen(path), &answer, NULL);
    if (result == VSVA_PLACE_DEVICE) return VSVA_PLACE_DEVICE;
    if (result != VSVA_PLACE_TREE || answer.head.bytes >= room) return VSVA_PLACE_OWN;
    memcpy(real, answer.data, answer.head.bytes);
    real[answer.head.bytes] = 0;
    return VSVA_PLACE_TREE;
}

int vsva_open(const char *path, int flags) {
    const int fd = vsva_connect(true);
    if (fd < 0) return -1;
    struct vsva_request request = vsva_request_of(VSVA_OP_OPEN);
    struct vsva_answered answer;
    request.file = vsva_file_of(fd);
    request.fd = fd;
    request.args[0] = (uint64_t)flags;
    const int64_t result = vsva_call(&request, path, strnlen(path, PATH_BYTES), &answer, NULL);
    if (result < 0) {
        RAW(SYS_close, fd);
        return (int)finish(result);
    }
    if ((flags & O_CLOEXEC) == 0) RAW(SYS_fcntl, fd, F_SETFD, 0);
    if ((flags & O_NONBLOCK) != 0) RAW(SYS_fcntl, fd, F_SETFL, O_NONBLOCK);
    vsva_look(fd);
    return fd;
}

/* Asks the kernel by adding 0 to a word of that page: no other bytes are touched, none change. */
static bool is_writable(const void *argument) {
    static int nobody;
    const uintptr_t word = (uintptr_t)argument & ~(uintptr_t)3;
    const int saved = errno;
    const long result = RAW(SYS_futex, &nobody, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, NULL,
                                word, FUTEX_OP(FUTEX_OP_ADD, 0, FUTEX_OP_CMP_EQ, 0));
    errno = saved;
    return result >= 0;
}

static int64_t control_once(struct vsva_request *request, void *argument,
                            struct vsva_answered *answer) {
    /* One page is readable as a whole or not at all. */
    size_t bytes = PAGE - ((uintptr_t)argument & (PAGE - 1));
    if (bytes > VSVA_INLINE_MAX) bytes = VSVA_INLINE_MAX;
    const bool writable = vsva_on_stack(argument, bytes) || is_writable(argument);
    request->flags = writable ? VSVA_REQUEST_WRITABLE : 0;
    return vsva_call(request, argument, bytes, answer, writable ? argument : NULL);
}

int vsva_ioctl(uint32_t file, int fd, unsigned long command, void *argument) {
    struct vsva_answered answer;
    struct vsva_request request = vsva_request_of(VSVA_OP_IOCTL);
    int spare = -1;
    int64_t result;
    request.fd = fd;
    request.args[0] = command;
    request.args[1] = (uint64_t)(uintptr_t)argument;
    for (;;) {
        request.file = file;
        result = control_once(&request, argument, &answer);
        note_pins(&answer);
        if (changed(&answer, fd, &file)) {
            if (file != 0) continue;
            result = NOT_OURS;
            break;
        }
        if (result >= 0 && (answer.head.flags & VSVA_REPLY_AGAIN) != 0 && spare < 0) {
            spare = vsva_connect(true);
            if (spare < 0) return -1;
            request.spare_fd = spare;
            request.spare_file = vsva_file_of(spare);
        } else {
            break;
        }
    }
    if (spare >= 0) {
        if (result < 0 || (answer.head.flags & VSVA_REPLY_SPARE) == 0) {
            RAW(SYS_close, spare);
        } else {
            if ((answer.head.flags & VSVA_REPLY_INHERIT) != 0) RAW(SYS_fcntl, spare, F_SETFD, 0);
            vsva_look(spare);
        }
    }
    return (int)finish(result);
}

ssize_t vsva_transfer(enum vsva_op op, uint32_t file, int fd, const void *buffer, size_t count,
                      off_t position) {
    /* The bytes that made the descriptor readable; the engine sends another if it still is. */
    char ready[16];
    if (op == VSVA_OP_READ) {
        const int saved = errno;
        while (recv(fd, ready, sizeof(ready), MSG_DONTWAIT) > 0) {}
        errno = saved;
    }
    const uint64_t args[4] = {(uint64_t)(uintptr_t)buffer, count, (uint64_t)position, 0};
    return finish(simple_call(op, file, fd, args));
}

static int64_t stat_of(uint32_t file, const char *path, struct vsva_stat *device) {
    struct vsva_request request = vsva_request_of(VSVA_OP_STAT);
    struct vsva_answered answer;
    request.file = file;
    const size_t bytes = path == NULL ? 0 : strnlen(path, PATH_BYTES);
    const int64_t result = vsva_call(&request, path, bytes, &answer, NULL);
    if (result >= 0) memcpy(device, answer.data, sizeof(*device));
    return result;
}

int vsva_access_mode(uint32_t file) {
    struct vsva_stat device;
    return stat_of(file, NULL, &device) < 0 ? 0 : (int)(device.flags & O_ACCMODE);
}

int vsva_stat(uint32_t file, const char *path, struct stat *into) {
    struct vsva_stat device;
    const int64_t result = stat_of(file, path, &device);
    if (result < 0) return (int)finish(result);
    into->st_mode = device.mode;
    into->st_rdev = makedev(device.major, device.minor);
    into->st_size = 0;
    /* An anonymous file keeps what its connection has. */
    if (path != NULL || S_ISCHR(into->st_mode)) {
        into->st_nlink = 1;
        into->st_uid = geteuid();
        into->st_gid = getegid();
        into->st_blksize = PAGE;
        into->st_dev = makedev(0, DEVTMPFS_MINOR);
        into->st_ino = (ino_t)into->st_rdev;
    }
    return 0;
}

int vsva_map(uint32_t file, int fd, size_t length, int prot, int flags, off_t offset,
             uint32_t *mapped) {
    const int spare = vsva_connect(true);
    if (spare < 0) return -1;
    struct vsva_answered answer;
    struct vsva_request request = vsva_request_of(VSVA_OP_MMAP);
    request.fd = fd;
    request.spare_fd = spare;
    request.spare_file = *mapped = vsva_file_of(spare);
    const uint64_t args[4] = {length, (uint64_t)prot, (uint64_t)flags, (uint64_t)offset};
    memcpy(request.args, args, sizeof(args));
    int64_t result;
    do {
        request.file = file;
        result = vsva_call(&request, NULL, 0, &answer, NULL);
    } while (changed(&answer, fd, &file) && file != 0);
    if (result >= 0) return spare;
    RAW(SYS_close, spare);
    return (int)finish(result);
}

bool vsva_has_pins(void) {
    return atomic_load(&pins_told) != atomic_load(&pins_gone);
}

void vsva_leave(uintptr_t start, size_t length, intptr_t to, bool shared) {
    const unsigned told = atomic_load(&pins_told);
    if (length == 0 || !vsva_has_pins() || vsva_is_guest()) return;
    struct vsva_answered answer;
    struct vsva_request request = vsva_request_of(VSVA_OP_LEAVE);
    const uint64_t args[4] = {start, length, (uint64_t)to, shared ? 0 : 1};
    memcpy(request.args, args, sizeof(args));
    const int64_t result = vsva_call(&request, NULL, 0, &answer, NULL);
    if (result == 0 && (answer.head.flags & VSVA_REPLY_PINS) == 0) atomic_store(&pins_gone, told);
}

int64_t vsva_load(uint32_t mapped, uint64_t offset, void *into, size_t bytes) {
    struct vsva_answered answer;
    struct vsva_request request = vsva_request_of(VSVA_OP_LOAD);
    request.file = mapped;
    request.args[0] = offset;
    request.args[1] = bytes;
    const int64_t result = vsva_call(&request, NULL, 0, &answer, NULL);
    if (result >= 0 && answer.head.bytes == bytes) memcpy(into, answer.data, bytes);
    else if (result >= 0) return -EIO;
    return result;
}

int64_t vsva_store(uint32_t mapped, uint64_t offset, const void *from, size_t bytes, bool whole) {
    struct vsva_answered answer;
    struct vsva_request request = vsva_request_of(VSVA_OP_STORE);
    request.file = mapped;
    request.args[0] = offset;
    request.args[1] = whole ? 1 : 0;
    return vsva_call(&request, from, bytes, &answer, NULL);
}
