/*
 * The way to the engine and back. A call is one write to the request pipe, which all programs
 * share, and one read from this thread's reply pipe. The engine reads and writes memory itself.
 */
#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096u

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
static int receive_reply(int fd, uint32_t sequence, struct vsva_answered *answer, void *into) {
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
    struct vsva_request request = vsva_request_of(VSVA_OP_HELLO);
    request.channel = made->id;
    request.args[0] = (uint64_t)ends[1];
    request.args[1] = (uint64_t)gettid();
    request.args[2] = invitation;
    struct vsva_answered answer;
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
    struct vsva_request request = vsva_request_of(VSVA_OP_BYE);
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
                    size_t bytes, struct vsva_answered *answer, void *into) {
    request->channel = mine->id;
    int error = send_request(request, data, bytes);
    if (error == -EFAULT && request->op == VSVA_OP_IOCTL) error = send_request(request, NULL, 0);
    if (error != 0) return error == -EFAULT ? error : -EIO;
    return receive_reply(mine->fd - 1, request->sequence, answer, into);
}

int64_t vsva_call(struct vsva_request *request, const void *data, size_t bytes,
                  struct vsva_answered *answer, void *into) {
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

bool vsva_on_stack(const void *argument, size_t bytes) {
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    const uintptr_t there = (uintptr_t)argument;
    return here >= channel.stack_low && here < channel.stack_high && there > here &&
           there + bytes <= channel.stack_high;
}

__attribute__((constructor)) static void start(void) {
    if (!vsva_serve_at(getenv("VSVA_SOCKET"))) return;
    const int saved = errno;
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, PAGE, MADV_WIPEONFORK) < 0) return;
    if (pthread_key_create(&channel_key, end_thread) != 0) return;
    original = page;
    enabled = true;
    vsva_look_around();
    errno = saved;
}
