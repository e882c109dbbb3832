/*
 * The preloaded library: /dev/iommu and /dev/vfio of this process are served by a simulated kernel.
 *
 * An open device file is a connection to the broker's socket, so close, dup, fork, exec, SCM_RIGHTS
 * and the end of the process are seen at the other end, and poll(2) works by itself: the broker
 * sends a byte when the file is readable. The connection's own socket has an autobind name, which
 * serves as the file's number and can be read back from any copy in any process.
 *
 * A call is one write to the engine's request pipe and one read from this thread's reply pipe. The
 * engine reads and writes the process's memory itself. Without VSVA_SOCKET nothing happens here.
 */
#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#define MARKS 4096
#define INTERNAL_FD 900
#define PAGE 4096u

/* One thread's way to get answers. */
struct channel {
    int fd; /* read end of the reply pipe + 1; 0: none */
    uint32_t id;
    bool busy;
    uintptr_t stack_low, stack_high;
};

static struct sockaddr_un server;
static bool enabled;
static atomic_bool used; /* some descriptor may be ours */
static atomic_int request_pipe = -1;
static atomic_uint next_channel, next_sequence;
static uint64_t image;
static pid_t self;
static atomic_uchar marks[MARKS];
static pthread_key_t channel_key;
static _Thread_local struct channel channel __attribute__((tls_model("initial-exec")));

bool vsva_enabled(void) {
    return enabled;
}

void vsva_mark(int fd) {
    if (fd >= 0 && fd < MARKS) atomic_store(&marks[fd], 1);
    atomic_store(&used, true);
}

void vsva_unmark(int fd) {
    if (fd >= 0 && fd < MARKS) atomic_store(&marks[fd], 0);
}

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

uint32_t vsva_marked_file(int fd) {
    if (!atomic_load_explicit(&used, memory_order_relaxed) || fd < 0) return 0;
    if (fd < MARKS && atomic_load_explicit(&marks[fd], memory_order_relaxed) == 0) return 0;
    return vsva_file_of(fd);
}

static int to_high(int fd) {
    for (int low = INTERNAL_FD; fd >= 0 && low > 0; low /= 2) {
        const int high = fcntl(fd, F_DUPFD_CLOEXEC, low);
        if (high < 0) continue;
        syscall(SYS_close, fd);
        return high;
    }
    return fd;
}

static int connect_server(bool named) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    const struct sockaddr_un any = {.sun_family = AF_UNIX};
    if ((named && bind(fd, (const struct sockaddr *)&any, sizeof(any.sun_family)) < 0) ||
        connect(fd, (const struct sockaddr *)&server, sizeof(server)) < 0) {
        syscall(SYS_close, fd);
        errno = ENXIO;
        return -1;
    }
    return fd;
}

/* A connection without a name is answered with the request pipe. */
static int receive_request_pipe(int control) {
    char byte;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } space;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space.bytes,
                             .msg_controllen = sizeof(space.bytes)};
    ssize_t got;
    do got = recvmsg(control, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    const struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header == NULL || header->cmsg_type != SCM_RIGHTS) return -1;
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return to_high(fd);
}

static struct vsva_request make_request(enum vsva_op op, uint32_t id) {
    return (struct vsva_request){.magic = VSVA_MAGIC, .op = (uint16_t)op, .pid = (uint32_t)self,
                                 .channel = id, .sequence = atomic_fetch_add(&next_sequence, 1),
                                 .fd = -1, .spare_fd = -1, .image = image};
}

/* 0, or -errno: EFAULT if `data` cannot be read. */
static int send_request(struct vsva_request *request, const void *data, size_t bytes) {
    request->bytes = (uint16_t)(sizeof(*request) + bytes + sizeof(uint32_t));
    uint32_t tail = request->magic ^ request->sequence ^ request->pid ^ request->bytes;
    const struct iovec parts[] = {{.iov_base = request, .iov_len = sizeof(*request)},
                                  {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes},
                                  {.iov_base = &tail, .iov_len = sizeof(tail)}};
    const int fd = atomic_load_explicit(&request_pipe, memory_order_relaxed);
    for (;;) {
        if (syscall(SYS_writev, fd, parts, 3) >= 0) return 0;
        if (errno != EINTR) return -errno;
    }
}

struct answer {
    struct vsva_reply head;
    uint8_t data[VSVA_REPLY_MAX];
};

/* The reply to `sequence`; -EIO when the engine has gone. */
static int receive_reply(int fd, uint32_t sequence, struct answer *answer) {
    for (;;) {
        const long got = syscall(SYS_read, fd, answer, sizeof(*answer));
        if (got < 0 && errno == EINTR) continue;
        if (got < (long)sizeof(answer->head)) return -EIO;
        if (answer->head.sequence == sequence) return 0;
    }
}

static void find_stack(struct channel *made) {
    pthread_attr_t attributes;
    void *low;
    size_t size;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
    if (pthread_attr_getstack(&attributes, &low, &size) == 0) {
        made->stack_low = (uintptr_t)low;
        made->stack_high = (uintptr_t)low + size;
    }
    pthread_attr_destroy(&attributes);
}

/* Introduces a reply pipe to the engine, which opens it through this process's fd directory. */
static int open_channel(struct channel *made) {
    const int control = connect_server(false);
    if (control < 0) return -ENXIO;
    int ends[2] = {-1, -1};
    int result = -EIO;
    const int requests = receive_request_pipe(control);
    if (requests >= 0) {
        int none = -1;
        if (!atomic_compare_exchange_strong(&request_pipe, &none, requests)) {
            syscall(SYS_close, requests);
        }
        if (pipe2(ends, O_CLOEXEC) < 0) {
            result = -errno;
            ends[0] = ends[1] = -1;
        }
    }
    if (ends[0] >= 0) {
        ends[0] = to_high(ends[0]);
        made->id = atomic_fetch_add(&next_channel, 1) + 1;
        struct vsva_request request = make_request(VSVA_OP_HELLO, made->id);
        request.args[0] = (uint64_t)ends[1];
        struct answer answer;
        /* Until the engine has the pipe, only the broker's end of `control` tells that it died. */
        struct pollfd either[] = {{.fd = ends[0], .events = POLLIN}, {.fd = control}};
        if (send_request(&request, NULL, 0) == 0) {
            while (syscall(SYS_ppoll, either, 2, NULL, NULL, 0) < 0 && errno == EINTR) {}
            if ((either[0].revents & POLLIN) != 0) {
                result = receive_reply(ends[0], request.sequence, &answer);
                if (result == 0) result = (int)answer.head.result;
            }
        }
        syscall(SYS_close, ends[1]);
    }
    syscall(SYS_close, control);
    if (result < 0) {
        if (ends[0] >= 0) syscall(SYS_close, ends[0]);
        return result;
    }
    made->fd = ends[0] + 1;
    return 0;
}

static void close_channel(struct channel *gone) {
    if (gone->fd == 0) return;
    struct vsva_request request = make_request(VSVA_OP_BYE, gone->id);
    send_request(&request, NULL, 0);
    syscall(SYS_close, gone->fd - 1);
    gone->fd = 0;
}

static void end_thread(void *ours) {
    close_channel(ours);
}

static int ready_channel(void) {
    if (channel.fd != 0) return 0;
    if (channel.stack_high == 0) find_stack(&channel);
    const int result = open_channel(&channel);
    if (result == 0) pthread_setspecific(channel_key, &channel);
    return result;
}

/* Sends, waits, and leaves the reply in `answer`. A result >= 0, or -errno. */
static int64_t call(struct vsva_request *request, const void *data, size_t bytes,
                    struct answer *answer) {
    const int saved = errno;
    struct channel temporary = {0};
    struct channel *mine = &channel;
    int error = 0;
    answer->head = (struct vsva_reply){0};
    if (channel.busy) { /* a signal handler, in the middle of another call */
        mine = &temporary;
        error = open_channel(mine);
    } else {
        channel.busy = true;
        error = ready_channel();
    }
    if (error == 0) {
        request->channel = mine->id;
        error = send_request(request, data, bytes);
        if (error == -EFAULT && request->op == VSVA_OP_IOCTL) error = send_request(request, NULL, 0);
        if (error == 0) error = receive_reply(mine->fd - 1, request->sequence, answer);
    }
    if (mine == &temporary) close_channel(mine);
    else channel.busy = false;
    errno = saved;
    return error != 0 ? error : answer->head.result;
}

static long finish(int64_t result) {
    if (result >= 0) return (long)result;
    errno = (int)-result;
    return -1;
}

static int64_t simple_call(enum vsva_op op, uint32_t file, int fd, const uint64_t args[4]) {
    struct vsva_request request = make_request(op, 0);
    struct answer answer;
    request.file = file;
    request.fd = fd;
    memcpy(request.args, args, sizeof(request.args));
    return call(&request, NULL, 0, &answer);
}

void vsva_settle(void) {
    if (!atomic_load(&used)) return;
    simple_call(VSVA_OP_SETTLE, 0, -1, (const uint64_t[4]){0});
}

bool vsva_is_device(const char *path) {
    return enabled && path != NULL && path[0] == '/' && path[1] == 'd' &&
           (strcmp(path, "/dev/iommu") == 0 || strncmp(path, "/dev/vfio/", 10) == 0);
}

int vsva_open(const char *path, int flags) {
    const int fd = connect_server(true);
    if (fd < 0) return -1;
    struct vsva_request request = make_request(VSVA_OP_OPEN, 0);
    struct answer answer;
    request.file = vsva_file_of(fd);
    request.fd = fd;
    request.args[0] = (uint64_t)flags;
    const size_t length = strnlen(path, 256);
    const int64_t result = call(&request, path, length, &answer);
    if (result < 0) {
        syscall(SYS_close, fd);
        return (int)finish(result);
    }
    if ((flags & O_CLOEXEC) == 0) syscall(SYS_fcntl, fd, F_SETFD, 0);
    if ((flags & O_NONBLOCK) != 0) syscall(SYS_fcntl, fd, F_SETFL, O_NONBLOCK);
    vsva_mark(fd);
    return fd;
}

static bool on_stack(const void *argument, size_t bytes) {
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    const uintptr_t there = (uintptr_t)argument;
    return here >= channel.stack_low && here < channel.stack_high && there > here &&
           there + bytes <= channel.stack_high;
}

int vsva_ioctl(uint32_t file, int fd, unsigned long command, void *argument) {
    struct answer answer;
    int spare = -1;
    int64_t result;
    for (;;) {
        struct vsva_request request = make_request(VSVA_OP_IOCTL, 0);
        request.file = file;
        request.fd = fd;
        request.args[0] = command;
        request.args[1] = (uint64_t)(uintptr_t)argument;
        request.spare_fd = spare;
        request.spare_file = spare < 0 ? 0 : vsva_file_of(spare);
        /* One page is readable as a whole or not at all. */
        size_t bytes = PAGE - ((uintptr_t)argument & (PAGE - 1));
        if (bytes > VSVA_INLINE_MAX) bytes = VSVA_INLINE_MAX;
        if (on_stack(argument, bytes)) request.flags |= VSVA_REQUEST_WRITABLE;
        result = call(&request, argument, bytes, &answer);
        if (result < 0 || (answer.head.flags & VSVA_REPLY_AGAIN) == 0 || spare >= 0) break;
        spare = connect_server(true);
        if (spare < 0) return -1;
    }
    if (answer.head.bytes > 0 && answer.head.bytes <= VSVA_INLINE_MAX) {
        memcpy((uint8_t *)argument + answer.head.offset, answer.data, answer.head.bytes);
    }
    if (spare >= 0) {
        if (result < 0 || (answer.head.flags & VSVA_REPLY_SPARE) == 0) {
            syscall(SYS_close, spare);
        } else {
            if ((answer.head.flags & VSVA_REPLY_INHERIT) != 0) fcntl(spare, F_SETFD, 0);
            vsva_mark(spare);
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

int vsva_stat(uint32_t file, const char *path, struct stat *into) {
    struct vsva_request request = make_request(VSVA_OP_STAT, 0);
    struct answer answer;
    struct vsva_stat device;
    request.file = file;
    const int64_t result = call(&request, path, path == NULL ? 0 : strnlen(path, 256), &answer);
    if (result < 0) return (int)finish(result);
    memcpy(&device, answer.data, sizeof(device));
    into->st_mode = device.mode;
    into->st_rdev = makedev(device.major, device.minor);
    into->st_size = 0;
    if (path != NULL) {
        into->st_nlink = 1;
        into->st_uid = geteuid();
        into->st_gid = getegid();
        into->st_blksize = PAGE;
        into->st_ino = (ino_t)into->st_rdev;
    }
    return 0;
}

void vsva_forget(unsigned first, unsigned last) {
    const unsigned pipe = (unsigned)atomic_load(&request_pipe);
    const bool lost = atomic_load(&request_pipe) >= 0 && pipe >= first && pipe <= last;
    if (lost) atomic_store(&request_pipe, -1);
    const unsigned mine = (unsigned)(channel.fd - 1);
    if (channel.fd != 0 && (lost || (mine >= first && mine <= last))) {
        syscall(SYS_close, channel.fd - 1);
        channel.fd = 0;
    }
}

/* A device's memory cannot be this process's memory: always -1, and the engine says why. */
int vsva_mmap(uint32_t file, int fd, size_t length, int prot, int flags, off_t offset) {
    const uint64_t args[4] = {length, (uint64_t)prot, (uint64_t)flags, (uint64_t)offset};
    const int64_t result = simple_call(VSVA_OP_MMAP, file, fd, args);
    return (int)finish(result < 0 ? result : -ENODEV);
}

bool vsva_is_internal(int fd) {
    return fd >= 0 && (fd == atomic_load(&request_pipe) || fd == channel.fd - 1);
}

static void new_image(void) {
    image = 0;
    if (getentropy(&image, sizeof(image)) != 0) image = (uint64_t)getpid();
    self = getpid();
}

/* The child has one thread, other memory, and no reply pipe of its own. */
static void after_fork(void) {
    if (channel.fd != 0) syscall(SYS_close, channel.fd - 1);
    channel.fd = 0;
    channel.busy = false;
    new_image();
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("VSVA_SOCKET");
    if (path == NULL || strlen(path) >= sizeof(server.sun_path)) return;
    server.sun_family = AF_UNIX;
    memcpy(server.sun_path, path, strlen(path) + 1);
    if (pthread_key_create(&channel_key, end_thread) != 0) return;
    pthread_atfork(NULL, NULL, after_fork);
    new_image();
    enabled = true;
    /* What an earlier image of this process left open. */
    for (int fd = 0; fd < 256; fd++) {
        if (vsva_file_of(fd) != 0) vsva_mark(fd);
    }
}
