/*
 * The preloaded library: /dev/iommu and /dev/vfio of this process are served by a simulated kernel.
 *
 * An open device file is a connection to the broker's socket, so close, dup, fork, exec, SCM_RIGHTS
 * and the end of the process are seen at the other end, and poll(2) works by itself: the broker
 * sends a byte when the file is readable.
 *
 * A call is one write to the engine's request pipe and one read from this thread's reply pipe. The
 * engine reads and writes the process's memory itself. Without VSVA_SOCKET nothing happens here.
 */
#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096u
#define PATH_BYTES 768

/* One thread's way to get answers. */
struct channel {
    int fd; /* read end of the reply pipe + 1; 0: none */
    uint32_t id;
    bool busy;
    uint64_t image; /* whose it is: a forked child's first thread has a copy of its parent's */
    uintptr_t stack_low, stack_high;
};

static bool enabled;
static atomic_int request_pipe = -1;
static atomic_uint next_channel, next_sequence;
static uint64_t image;
static pid_t self;
/* In a page that a copy of this memory does not have: there it is COPY. */
static atomic_int *original;
enum { COPY = 0, CHANGING, READY };
static pthread_key_t channel_key;
static _Thread_local struct channel channel __attribute__((tls_model("initial-exec")));

bool vsva_enabled(void) {
    return enabled;
}

struct answer {
    struct vsva_reply head;
    uint8_t data[VSVA_REPLY_MAX];
};

static struct vsva_request make_request(enum vsva_op op) {
    return (struct vsva_request){.magic = VSVA_MAGIC, .op = (uint16_t)op, .fd = -1, .spare_fd = -1};
}

/* 0, or -errno: EFAULT if `data` cannot be read. */
static int send_request(struct vsva_request *request, const void *data, size_t bytes) {
    request->pid = (uint32_t)self;
    request->image = image;
    request->sequence = atomic_fetch_add_explicit(&next_sequence, 1, memory_order_relaxed);
    request->bytes = (uint16_t)(sizeof(*request) + bytes + sizeof(uint32_t));
    uint32_t tail = request->magic ^ request->sequence ^ request->pid ^ request->bytes;
    const struct iovec parts[] = {{.iov_base = request, .iov_len = sizeof(*request)},
                                  {.iov_base = (void *)(uintptr_t)data, .iov_len = bytes},
                                  {.iov_base = &tail, .iov_len = sizeof(tail)}};
    const int fd = atomic_load_explicit(&request_pipe, memory_order_relaxed);
    for (;;) {
        if (RAW(SYS_writev, fd, parts, 3) >= 0) return 0;
        if (errno != EINTR) return -errno;
    }
}

/*
 * The reply to `sequence`. Its data go to `into` if that is not null. -EIO: the engine has gone;
 * -EFAULT: `into` is not writable any more.
 */
static int receive_reply(int fd, uint32_t sequence, struct answer *answer, void *into) {
    struct iovec parts[] = {{.iov_base = &answer->head, .iov_len = sizeof(answer->head)},
                            {.iov_base = into, .iov_len = VSVA_INLINE_MAX}};
    if (into == NULL) {
        parts[1] = (struct iovec){.iov_base = answer->data, .iov_len = sizeof(answer->data)};
    }
    int fault = 0;
    for (;;) {
        const long got = RAW(SYS_readv, fd, parts, 2);
        if (got < 0 && errno == EINTR) continue;
        const long wanted = (long)(sizeof(answer->head) + answer->head.bytes);
        if ((got < 0 && errno == EFAULT) || (got >= (long)sizeof(answer->head) && got < wanted)) {
            /* What could not be written is still in the pipe. */
            parts[1] = (struct iovec){.iov_base = answer->data, .iov_len = sizeof(answer->data)};
            fault = -EFAULT;
            if (got < 0) continue;
            if (RAW(SYS_read, fd, answer->data, (size_t)(wanted - got)) < 0) return -EIO;
            return fault;
        }
        if (got < (long)sizeof(answer->head)) return -EIO;
        if (answer->head.sequence == sequence) return fault;
    }
}

/* A connection without a name is answered with an invitation and the request pipe. */
static int receive_invitation(int control, struct vsva_invitation *invitation) {
    struct iovec part = {.iov_base = invitation, .iov_len = sizeof(*invitation)};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } space;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space.bytes,
                             .msg_controllen = sizeof(space.bytes)};
    long got;
    do got = RAW(SYS_recvmsg, control, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    const struct cmsghdr *header = got == sizeof(*invitation) ? CMSG_FIRSTHDR(&message) : NULL;
    if (header == NULL || header->cmsg_type != SCM_RIGHTS) return -1;
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    return fd;
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

/* The engine opens the reply pipe through this process's fd directory. */
static int introduce(struct channel *made, int control, uint32_t invitation) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    ends[0] = vsva_internal(ends[0]);
    made->id = atomic_fetch_add(&next_channel, 1) + 1;
    struct vsva_request request = make_request(VSVA_OP_HELLO);
    request.channel = made->id;
    request.args[0] = (uint64_t)ends[1];
    request.args[1] = (uint64_t)gettid();
    request.args[2] = invitation;
    struct answer answer;
    /* Until the engine has the pipe, only the broker's end of `control` tells that it died. */
    struct pollfd either[] = {{.fd = ends[0], .events = POLLIN}, {.fd = control}};
    int result = send_request(&request, NULL, 0);
    if (result == 0) {
        while (RAW(SYS_ppoll, either, 2, NULL, NULL, 0) < 0 && errno == EINTR) {}
        result = -EIO;
        if ((either[0].revents & POLLIN) != 0) {
            result = receive_reply(ends[0], request.sequence, &answer, NULL);
            if (result == 0) result = (int)answer.head.result;
        }
    }
    RAW(SYS_close, ends[1]);
    if (result < 0) {
        vsva_close_internal(ends[0]);
        return result;
    }
    made->fd = ends[0] + 1;
    return 0;
}

static int open_channel(struct channel *made) {
    const int control = vsva_connect(false);
    if (control < 0) return -EIO;
    struct vsva_invitation invitation;
    const int requests = receive_invitation(control, &invitation);
    int result = -EIO;
    if (requests >= 0) {
        int none = -1;
        const int kept = vsva_internal(requests);
        if (!atomic_compare_exchange_strong(&request_pipe, &none, kept)) vsva_close_internal(kept);
        result = introduce(made, control, invitation.number);
    }
    RAW(SYS_close, control);
    return result;
}

static void close_channel(struct channel *gone) {
    if (gone->fd == 0) return;
    struct vsva_request request = make_request(VSVA_OP_BYE);
    request.channel = gone->id;
    send_request(&request, NULL, 0);
    vsva_close_internal(gone->fd - 1);
    gone->fd = 0;
}

static void end_thread(void *ended) {
    struct channel *ours = ended;
    if (atomic_load(original) == READY && ours->image == image) close_channel(ours);
}

static void new_image(void) {
    image = 0;
    if (getentropy(&image, sizeof(image)) != 0) image = (uint64_t)getpid();
    self = getpid();
}

/* A forked child has one thread, other memory, and no reply pipe of its own. */
static void ready_image(void) {
    for (;;) {
        int state = atomic_load_explicit(original, memory_order_acquire);
        if (state == READY) return;
        if (state == COPY && atomic_compare_exchange_strong(original, &state, CHANGING)) break;
        sched_yield();
    }
    vsva_close_all_internal();
    atomic_store(&request_pipe, -1);
    new_image();
    atomic_store(original, READY);
}

bool vsva_is_guest(void) {
    return atomic_load(original) == READY && getpid() != self;
}

static int ready_channel(void) {
    if (channel.fd != 0) return 0;
    if (channel.stack_high == 0) find_stack(&channel);
    const int result = open_channel(&channel);
    if (result == 0) pthread_setspecific(channel_key, &channel);
    return result;
}

static int exchange(struct channel *mine, struct vsva_request *request, const void *data,
                    size_t bytes, struct answer *answer, void *into) {
    request->channel = mine->id;
    int error = send_request(request, data, bytes);
    if (error == -EFAULT && request->op == VSVA_OP_IOCTL) error = send_request(request, NULL, 0);
    if (error != 0) return error == -EFAULT ? error : -EIO;
    return receive_reply(mine->fd - 1, request->sequence, answer, into);
}

/* Sends, waits, and leaves the reply in `answer`. A result >= 0, or -errno. */
static int64_t call(struct vsva_request *request, const void *data, size_t bytes,
                    struct answer *answer, void *into) {
    const int saved = errno;
    struct channel temporary = {0};
    struct channel *mine = &channel;
    answer->head = (struct vsva_reply){0};
    int error;
    ready_image();
    if (channel.image != image) {
        channel.image = image;
        channel.fd = 0;
        channel.busy = false;
    }
    if (channel.busy) { /* a signal handler, in the middle of another call */
        mine = &temporary;
        error = open_channel(mine);
    } else {
        channel.busy = true;
        error = ready_channel();
    }
    if (error == 0) error = exchange(mine, request, data, bytes, answer, into);
    if (mine == &temporary) {
        close_channel(mine);
    } else {
        channel.busy = false;
        if (error == -EIO && channel.fd != 0) close_channel(&channel);
    }
    errno = saved;
    return error != 0 ? error : answer->head.result;
}

/* How often the engine has said that it holds pins here, and how often when it last held none. */
static atomic_uint pins_told, pins_gone;

static void note_pins(const struct answer *answer) {
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
static bool changed(const struct answer *answer, int fd, uint32_t *file) {
    if ((answer->head.flags & VSVA_REPLY_STALE) == 0) return false;
    const uint32_t before = *file;
    *file = vsva_look(fd);
    return *file != before;
}

static int64_t simple_call(enum vsva_op op, uint32_t file, int fd, const uint64_t args[4]) {
    struct vsva_request request = make_request(op);
    struct answer answer;
    request.fd = fd;
    if (args != NULL) memcpy(request.args, args, sizeof(request.args));
    for (;;) {
        request.file = file;
        const int64_t result = call(&request, NULL, 0, &answer, NULL);
        if (!changed(&answer, fd, &file)) return result;
        if (file == 0) return NOT_OURS;
    }
}

void vsva_settle(void) {
    if (vsva_used() && !vsva_is_guest()) simple_call(VSVA_OP_SETTLE, 0, -1, NULL);
}

enum vsva_place vsva_locate(const char *path, char *real, size_t room) {
    struct vsva_request request = make_request(VSVA_OP_PATH);
    struct answer answer;
    const int64_t result = call(&request, path, strlen(path), &answer, NULL);
    if (result == VSVA_PLACE_DEVICE) return VSVA_PLACE_DEVICE;
    if (result != VSVA_PLACE_TREE || answer.head.bytes >= room) return VSVA_PLACE_OWN;
    memcpy(real, answer.data, answer.head.bytes);
    real[answer.head.bytes] = 0;
    return VSVA_PLACE_TREE;
}

int vsva_open(const char *path, int flags) {
    const int fd = vsva_connect(true);
    if (fd < 0) return -1;
    struct vsva_request request = make_request(VSVA_OP_OPEN);
    struct answer answer;
    request.file = vsva_file_of(fd);
    request.fd = fd;
    request.args[0] = (uint64_t)flags;
    const int64_t result = call(&request, path, strnlen(path, PATH_BYTES), &answer, NULL);
    if (result < 0) {
        RAW(SYS_close, fd);
        return (int)finish(result);
    }
    if ((flags & O_CLOEXEC) == 0) RAW(SYS_fcntl, fd, F_SETFD, 0);
    if ((flags & O_NONBLOCK) != 0) RAW(SYS_fcntl, fd, F_SETFL, O_NONBLOCK);
    vsva_look(fd);
    return fd;
}

/* The frames between here and the argument are in use, so it can be written. */
static bool on_stack(const void *argument, size_t bytes) {
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    const uintptr_t there = (uintptr_t)argument;
    return here >= channel.stack_low && here < channel.stack_high && there > here &&
           there + bytes <= channel.stack_high;
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

static int64_t control_once(struct vsva_request *request, void *argument, struct answer *answer) {
    /* One page is readable as a whole or not at all. */
    size_t bytes = PAGE - ((uintptr_t)argument & (PAGE - 1));
    if (bytes > VSVA_INLINE_MAX) bytes = VSVA_INLINE_MAX;
    const bool writable = on_stack(argument, bytes) || is_writable(argument);
    request->flags = writable ? VSVA_REQUEST_WRITABLE : 0;
    return call(request, argument, bytes, answer, writable ? argument : NULL);
}

int vsva_ioctl(uint32_t file, int fd, unsigned long command, void *argument) {
    struct answer answer;
    struct vsva_request request = make_request(VSVA_OP_IOCTL);
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
    struct vsva_request request = make_request(VSVA_OP_STAT);
    struct answer answer;
    request.file = file;
    const size_t bytes = path == NULL ? 0 : strnlen(path, PATH_BYTES);
    const int64_t result = call(&request, path, bytes, &answer, NULL);
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
    if (path != NULL) {
        into->st_nlink = 1;
        into->st_uid = geteuid();
        into->st_gid = getegid();
        into->st_blksize = PAGE;
        into->st_ino = (ino_t)into->st_rdev;
    }
    return 0;
}

int vsva_map(uint32_t file, int fd, size_t length, int prot, int flags, off_t offset,
             uint32_t *mapped) {
    const int spare = vsva_connect(true);
    if (spare < 0) return -1;
    struct answer answer;
    struct vsva_request request = make_request(VSVA_OP_MMAP);
    request.fd = fd;
    request.spare_fd = spare;
    request.spare_file = *mapped = vsva_file_of(spare);
    const uint64_t args[4] = {length, (uint64_t)prot, (uint64_t)flags, (uint64_t)offset};
    memcpy(request.args, args, sizeof(args));
    int64_t result;
    do {
        request.file = file;
        result = call(&request, NULL, 0, &answer, NULL);
    } while (changed(&answer, fd, &file) && file != 0);
    if (result >= 0) return spare;
    RAW(SYS_close, spare);
    return (int)finish(result);
}

void vsva_leave(uintptr_t start, size_t length, intptr_t to, bool shared) {
    const unsigned told = atomic_load(&pins_told);
    if (length == 0 || told == atomic_load(&pins_gone) || vsva_is_guest()) return;
    struct answer answer;
    struct vsva_request request = make_request(VSVA_OP_LEAVE);
    const uint64_t args[4] = {start, length, (uint64_t)to, shared ? 0 : 1};
    memcpy(request.args, args, sizeof(args));
    const int64_t result = call(&request, NULL, 0, &answer, NULL);
    if (result == 0 && (answer.head.flags & VSVA_REPLY_PINS) == 0) atomic_store(&pins_gone, told);
}

int64_t vsva_load(uint32_t mapped, uint64_t offset, void *into, size_t bytes) {
    struct answer answer;
    struct vsva_request request = make_request(VSVA_OP_LOAD);
    request.file = mapped;
    request.args[0] = offset;
    request.args[1] = bytes;
    const int64_t result = call(&request, NULL, 0, &answer, NULL);
    if (result >= 0 && answer.head.bytes == bytes) memcpy(into, answer.data, bytes);
    else if (result >= 0) return -EIO;
    return result;
}

int64_t vsva_store(uint32_t mapped, uint64_t offset, const void *from, size_t bytes, bool whole) {
    struct answer answer;
    struct vsva_request request = make_request(VSVA_OP_STORE);
    request.file = mapped;
    request.args[0] = offset;
    request.args[1] = whole ? 1 : 0;
    return call(&request, from, bytes, &answer, NULL);
}

/* What an earlier image of this process, or its parent, left open. */
static void look_around(void) {
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

__attribute__((constructor)) static void start(void) {
    if (!vsva_serve_at(getenv("VSVA_SOCKET"))) return;
    const int saved = errno;
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, PAGE, MADV_WIPEONFORK) < 0) return;
    if (pthread_key_create(&channel_key, end_thread) != 0) return;
    original = page;
    enabled = true;
    look_around();
    errno = saved;
}
