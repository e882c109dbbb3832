/*
 * The broker: what the engine (host/bridge) cannot do itself. It accepts connections and checks who
 * is at the other end, sees descriptors and processes end, keeps copies of the programs' eventfds
 * and writes them, makes descriptors readable, and starts the program of `vsva exec`.
 *
 * Usage: broker DIRECTORY SOCKET [DESCRIPTORS LIBRARY PROGRAM ARGUMENT...]
 *
 * DESCRIPTORS is the soft RLIMIT_NOFILE of the program; - for the one that the broker has.
 *
 *        broker --privileged FILE     0 if exec of the file raises capabilities, else 1
 *        broker --probe SOCKET        0 if a broker there lets this user in, else an errno
 *
 * Inherited descriptors: 3 answers to and 4 commands from the engine, 5 the request pipe, not to be
 * waited for, 6 the same as programs get it. When the engine goes, so does the broker: DIRECTORY
 * (the user's alone), the socket and the program go too.
 */
#define _GNU_SOURCE
#include "endings.h"
#include "probe.h"
#include "watcher.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define BATCH 64
/* Files are numbered by the kernel's autobind names: five hexadecimal digits. */
#define FILES (1u << 20)
#define MAX_DESCRIPTORS 65536
/* Descriptors beyond those that are kept: a connection can always be accepted and refused. */
#define SPARE_DESCRIPTORS 4
/* Connections that are there for an invitation; the oldest gives way. */
#define MAX_CONTROL 1024
/* With so many events untold, connections have to wait. */
#define MAX_EVENTS 65536

enum { ANSWERS = 3, COMMANDS = 4, REQUESTS = 5, CLIENT_PIPE = 6 };

enum role {
    ROLE_FREE,
    ROLE_LISTEN,
    ROLE_COMMANDS,
    ROLE_SIGNALS,
    ROLE_CONTROL,
    ROLE_FILE,
    ROLE_PROCESS,
    ROLE_EVENTFD
};

/* What each of this process's descriptors is for. */
struct entry {
    enum role role;
    uint32_t value; /* file, pid, or for CONTROL when it came */
};

static struct entry *entries;
static int entry_limit;
static int *file_fds; /* by file: its descriptor; 0: none */
static int epoll_fd, listen_fd, signals_fd;
static uint32_t control_count, control_serial;
static bool deaf; /* connections have to wait */
static pid_t program;
static bool for_program; /* one was to be started: the broker is there for it */
static struct rlimit descriptors; /* as the program is to have it */
static struct vsva_event *events;
static size_t event_count, event_room;
static bool woken;

static void fail(const char *what) {
    fprintf(stderr, "vsva: broker: %s: %s\n", what, strerror(errno));
    exit(1);
}

static bool keep(int fd, enum role role, uint32_t value, uint32_t interest) {
    struct epoll_event event = {.events = interest, .data.fd = fd};
    if (fd >= entry_limit || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        close(fd);
        return false;
    }
    entries[fd] = (struct entry){.role = role, .value = value};
    if (role == ROLE_FILE) file_fds[value] = fd;
    if (role == ROLE_CONTROL) control_count++;
    return true;
}

static void let_go(int fd) {
    if (entries[fd].role == ROLE_FILE) file_fds[entries[fd].value] = 0;
    if (entries[fd].role == ROLE_CONTROL) control_count--;
    entries[fd].role = ROLE_FREE;
    close(fd);
}

static int fd_of_file(uint32_t file) {
    return file > FILES || file_fds[file] == 0 ? -1 : file_fds[file];
}

static void forget_oldest_control(void) {
    int oldest = -1;
    for (int fd = 0; fd < entry_limit; fd++) {
        if (entries[fd].role != ROLE_CONTROL) continue;
        const uint32_t age = control_serial - entries[fd].value;
        if (oldest < 0 || age > control_serial - entries[oldest].value) oldest = fd;
    }
    if (oldest >= 0) let_go(oldest);
}

static void listen_or_not(void) {
    const bool full = event_count >= MAX_EVENTS;
    struct epoll_event event = {.events = full ? 0 : EPOLLIN, .data.fd = listen_fd};
    if (full != deaf && epoll_ctl(epoll_fd, EPOLL_CTL_MOD, listen_fd, &event) == 0) deaf = full;
}

static int find(enum role role, uint32_t value) {
    for (int fd = 0; fd < entry_limit; fd++) {
        if (entries[fd].role == role && entries[fd].value == value) return fd;
    }
    return -1;
}

static void tell(enum vsva_event_kind kind, uint32_t a, uint32_t b) {
    if (event_count == event_room) {
        const size_t room = event_room == 0 ? BATCH : 2 * event_room;
        struct vsva_event *more = realloc(events, room * sizeof(*events));
        if (more == NULL) fail("out of memory");
        events = more;
        event_room = room;
    }
    events[event_count++] = (struct vsva_event){.kind = kind, .a = a, .b = b};
}

/* The engine sleeps in its request pipe; a full pipe means that it does not sleep. */
static void wake_engine(void) {
    if (event_count > 0 && !woken) woken = vsva_send_wake(REQUESTS);
}

/* The number of the file whose connection has this name at its far end; 0: not a file's name. */
static uint32_t file_of(const struct sockaddr_un *name, socklen_t length) {
    if (length != offsetof(struct sockaddr_un, sun_path) + 6 || name->sun_path[0] != 0) return 0;
    char digits[6] = {0};
    memcpy(digits, name->sun_path + 1, 5);
    char *end;
    const unsigned long number = strtoul(digits, &end, 16);
    return *end == 0 ? (uint32_t)number + 1 : 0;
}

static void invite(int fd, pid_t pid) {
    struct vsva_invitation invitation;
    if (getrandom(&invitation, sizeof(invitation), 0) != sizeof(invitation)) return;
    tell(VSVA_EVENT_INVITED, (uint32_t)pid, invitation.number);
    const int pipe = CLIENT_PIPE;
    struct iovec part = {.iov_base = &invitation, .iov_len = sizeof(invitation)};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } space = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space.bytes,
                             .msg_controllen = sizeof(space.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &pipe, sizeof(int));
    sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool accept_one(void) {
    struct sockaddr_un name;
    socklen_t length = sizeof(name);
    if (event_count >= MAX_EVENTS) return false;
    const int fd = accept4(listen_fd, (struct sockaddr *)&name, &length, SOCK_CLOEXEC);
    if (fd < 0) return false;
    struct ucred peer;
    socklen_t size = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || peer.uid != geteuid()) {
        close(fd);
        return true;
    }
    const uint32_t file = file_of(&name, length);
    if (file == 0) {
        if (control_count >= MAX_CONTROL) forget_oldest_control();
        if (keep(fd, ROLE_CONTROL, control_serial++, 0)) invite(fd, peer.pid);
    } else if (fd_of_file(file) >= 0) {
        close(fd);
    } else if (keep(fd, ROLE_FILE, file, 0)) {
        tell(VSVA_EVENT_OPENED, file, (uint32_t)peer.pid);
    }
    return true;
}

static void process_ended(int fd) {
    const pid_t pid = (pid_t)entries[fd].value;
    tell(VSVA_EVENT_DEAD, (uint32_t)pid, 0);
    let_go(fd);
    int status;
    if (pid == program && waitpid(pid, &status, 0) == pid) {
        program = 0;
        tell(VSVA_EVENT_EXIT,
             (uint32_t)(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)), 0);
    }
}

/* A signal that the engine's process was sent is for the program, or ends a host without one. */
static void take_signals(void) {
    int number;
    while ((number = vsva_passed_signal(signals_fd, for_program)) != 0) {
        if (!for_program) tell(VSVA_EVENT_EXIT, 0, 0);
        else if (program > 0) kill(program, number);
    }
}

static int watch(pid_t pid) {
    if (find(ROLE_PROCESS, (uint32_t)pid) >= 0) return 0;
    char path[32];
    struct stat owner;
    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    if (stat(path, &owner) < 0) return -ESRCH;
    if (owner.st_uid != geteuid()) return -EPERM;
    const int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) return -errno;
    return keep(fd, ROLE_PROCESS, (uint32_t)pid, EPOLLIN) ? 0 : -EMFILE;
}

/* What a descriptor of a program is. An eventfd's copy is kept and becomes its handle. */
static struct vsva_answer resolve(pid_t pid, int number) {
    const int process = find(ROLE_PROCESS, (uint32_t)pid);
    if (process < 0) return (struct vsva_answer){.result = -ESRCH};
    const int fd = (int)syscall(SYS_pidfd_getfd, process, number, 0);
    if (fd < 0) return (struct vsva_answer){.result = -errno};
    struct sockaddr_un name;
    socklen_t length = sizeof(name);
    if (getsockname(fd, (struct sockaddr *)&name, &length) == 0) {
        const uint32_t file = name.sun_family == AF_UNIX ? file_of(&name, length) : 0;
        close(fd);
        return (struct vsva_answer){.kind = file == 0 ? VSVA_KIND_OTHER : VSVA_KIND_FILE,
                                    .value = file};
    }
    char path[32], target[64] = {0};
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (readlink(path, target, sizeof(target) - 1) > 0 && fd < entry_limit &&
        strncmp(target, "anon_inode:[eventfd", 19) == 0) {
        entries[fd] = (struct entry){.role = ROLE_EVENTFD};
        return (struct vsva_answer){.kind = VSVA_KIND_EVENTFD, .value = (uint32_t)fd};
    }
    close(fd);
    return (struct vsva_answer){.kind = VSVA_KIND_OTHER};
}

static int signal_eventfd(uint32_t handle, uint32_t by) {
    if (handle >= (uint32_t)entry_limit || entries[handle].role != ROLE_EVENTFD) return -EBADF;
    const uint64_t value = by;
    /* A counter that is full stays full: the write must not wait for a program. */
    struct pollfd room = {.fd = (int)handle, .events = POLLOUT};
    if (poll(&room, 1, 0) == 1 && write((int)handle, &value, sizeof(value)) < 0) {
        /* the reader's loss */
    }
    return 0;
}

static void handle_events(int timeout);

static void answer_command(void) {
    struct vsva_command command;
    if (read(COMMANDS, &command, sizeof(command)) != (ssize_t)sizeof(command)) exit(0);
    struct vsva_answer answer = {0};
    size_t count = 0;
    int fd;
    switch (command.op) {
    case VSVA_COMMAND_DRAIN:
        handle_events(0);
        count = event_count < VSVA_EVENTS_MAX ? event_count : VSVA_EVENTS_MAX;
        answer.result = (int32_t)count;
        answer.more = event_count > count;
        woken = false;
        break;
    case VSVA_COMMAND_WATCH:
        answer.result = watch((pid_t)command.a);
        break;
    case VSVA_COMMAND_RESOLVE:
        answer = resolve((pid_t)command.a, (int)command.b);
        break;
    case VSVA_COMMAND_SIGNAL:
        answer.result = signal_eventfd(command.a, command.b);
        break;
    case VSVA_COMMAND_DROP:
        if (command.a < (uint32_t)entry_limit && entries[command.a].role == ROLE_EVENTFD) {
            let_go((int)command.a);
        }
        break;
    case VSVA_COMMAND_READABLE:
        fd = fd_of_file(command.a);
        if (fd >= 0 && send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) answer.result = -errno;
        break;
    default:
        answer.result = -EINVAL;
    }
    uint8_t bytes[sizeof(answer) + VSVA_EVENTS_MAX * sizeof(*events)];
    memcpy(bytes, &answer, sizeof(answer));
    if (count > 0) memcpy(bytes + sizeof(answer), events, count * sizeof(*events));
    const size_t length = sizeof(answer) + count * sizeof(*events);
    if (write(ANSWERS, bytes, length) != (ssize_t)length) exit(0);
    event_count -= count;
    if (event_count > 0) memmove(events, events + count, event_count * sizeof(*events));
    listen_or_not();
}

/* Ends are seen before beginnings: a number may be used again. */
static void handle_events(int timeout) {
    struct epoll_event ready[BATCH];
    bool command = false;
    for (;;) {
        const int count = epoll_wait(epoll_fd, ready, BATCH, timeout);
        if (count < 0 && errno != EINTR) fail("epoll");
        int handled = 0;
        bool connecting = false;
        for (int i = 0; i < count; i++) {
            const int fd = ready[i].data.fd;
            switch (entries[fd].role) {
            case ROLE_FILE:
                tell(VSVA_EVENT_CLOSED, entries[fd].value, 0);
                let_go(fd);
                handled++;
                break;
            case ROLE_CONTROL:
                let_go(fd);
                handled++;
                break;
            case ROLE_PROCESS:
                process_ended(fd);
                handled++;
                break;
            case ROLE_LISTEN:
                connecting = true;
                break;
            case ROLE_SIGNALS:
                take_signals();
                handled++;
                break;
            case ROLE_COMMANDS:
                if ((ready[i].events & EPOLLIN) == 0) exit(0);
                command = true;
                break;
            default:
                break;
            }
        }
        if (connecting) {
            while (accept_one()) handled++;
            listen_or_not();
        }
        if (timeout != 0) break;
        if (handled == 0) return; /* only the command under way is left */
    }
    if (command) answer_command();
    wake_engine();
}

static char *socket_path;
static dev_t socket_device;
static ino_t socket_inode;
static const char *directory;
static pid_t broker;

/* A socket that nobody listens at is left over from a host that was killed. */
static int replace_stale(const struct sockaddr_un *address) {
    struct stat there;
    if (lstat(address->sun_path, &there) < 0) return 0;
    if (!S_ISSOCK(there.st_mode)) return -EEXIST;
    const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int result = connect(probe, (const struct sockaddr *)address, sizeof(*address));
    const int error = errno;
    close(probe);
    if (result == 0 || error != ECONNREFUSED) return -EADDRINUSE;
    return unlink(address->sun_path) == 0 ? 0 : -errno;
}

static int listen_at(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    const int stale = replace_stale(&address);
    if (stale < 0) return stale;
    listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    umask(0177);
    struct stat made;
    if (listen_fd < 0 || bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        lstat(path, &made) < 0 || listen(listen_fd, SOMAXCONN) < 0) {
        return -errno;
    }
    socket_device = made.st_dev;
    socket_inode = made.st_ino;
    return keep(listen_fd, ROLE_LISTEN, 0, EPOLLIN) ? 0 : -EMFILE;
}

static int remove_one(const char *path, const struct stat *kind, int type, struct FTW *place) {
    (void)kind, (void)type, (void)place;
    remove(path);
    return 0;
}

static void clean_up(void) {
    if (getpid() != broker) return;
    struct stat there;
    if (lstat(socket_path, &there) == 0 && there.st_dev == socket_device &&
        there.st_ino == socket_inode) {
        unlink(socket_path);
    }
    nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    if (program > 0) kill(program, SIGHUP);
}

static void start_program(const char *library, char **arguments, mode_t mask,
                          const sigset_t *signals) {
    program = fork();
    if (program < 0) fail("fork");
    if (program == 0) {
        const char *others = getenv("LD_PRELOAD");
        char list[PATH_MAX * 2];
        const bool more = others != NULL && others[0] != 0;
        snprintf(list, sizeof(list), "%s%s%s", library, more ? ":" : "", more ? others : "");
        setenv("LD_PRELOAD", list, 1);
        setenv("VSVA_SOCKET", socket_path, 1);
        umask(mask);
        setrlimit(RLIMIT_NOFILE, &descriptors);
        signal(SIGPIPE, SIG_DFL);
        sigprocmask(SIG_SETMASK, signals, NULL);
        prctl(PR_SET_PDEATHSIG, SIGHUP);
        if (getppid() != broker) _exit(128 + SIGHUP);
        execvp(arguments[0], arguments);
        fprintf(stderr, "vsva: cannot run %s: %s\n", arguments[0], strerror(errno));
        _exit(errno == ENOENT ? 127 : 126);
    }
    watch(program);
}

static void prepare(void) {
    for (int fd = ANSWERS; fd <= CLIENT_PIPE; fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
    if (getrlimit(RLIMIT_NOFILE, &descriptors) < 0) fail("getrlimit");
    struct rlimit more = {.rlim_cur = descriptors.rlim_max, .rlim_max = descriptors.rlim_max};
    if (more.rlim_cur > MAX_DESCRIPTORS) more.rlim_cur = MAX_DESCRIPTORS;
    if (setrlimit(RLIMIT_NOFILE, &more) < 0) more = descriptors;
    entry_limit = (int)more.rlim_cur - SPARE_DESCRIPTORS;
    if (entry_limit < 4 * SPARE_DESCRIPTORS) fail("too few descriptors");
    entries = calloc((size_t)entry_limit, sizeof(*entries));
    file_fds = calloc(FILES + 1, sizeof(*file_fds));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (entries == NULL || file_fds == NULL || epoll_fd < 0) fail("start");
}

int main(int count, char **arguments) {
    struct sockaddr_un room;
    sigset_t signals;
    if (count == 3 && strcmp(arguments[1], "--probe") == 0) return vsva_probe(arguments[2]);
    if (count == 3 && strcmp(arguments[1], "--privileged") == 0) {
        return getxattr(arguments[2], "security.capability", NULL, 0) > 0 ? 0 : 1;
    }
    if (count < 3 || (count > 3 && count < 6)) return 2;
    if (strlen(arguments[2]) >= sizeof(room.sun_path)) return 2;
    const mode_t mask = umask(0);
    umask(mask);
    prepare();
    signal(SIGPIPE, SIG_IGN);
    signals_fd = vsva_catch_signals(&signals);
    if (signals_fd < 0 || !keep(signals_fd, ROLE_SIGNALS, 0, EPOLLIN)) fail("signals");
    for_program = count > 5;
    directory = arguments[1];
    socket_path = arguments[2];
    const struct vsva_answer ready = {.result = listen_at(socket_path)};
    if (ready.result == 0) {
        broker = getpid();
        atexit(clean_up);
        if (!keep(COMMANDS, ROLE_COMMANDS, 0, EPOLLIN)) fail("commands");
        if (!vsva_start_watcher(REQUESTS, entry_limit)) fail("watcher");
        if (for_program) {
            if (arguments[3][0] != '-') descriptors.rlim_cur = strtoul(arguments[3], NULL, 10);
            start_program(arguments[4], arguments + 5, mask, &signals);
        }
    }
    if (write(ANSWERS, &ready, sizeof(ready)) < 0 || ready.result < 0) return 1;
    for (;;) handle_events(event_count > 0 && !woken ? 10 : -1);
}
