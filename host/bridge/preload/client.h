/* The parts of the preloaded library: fds.c knows which descriptors are files of the
   engine, channel.c is the way to it, client.c makes the calls, calls.c and paths.c wrap libc. */
#ifndef VSVA_CLIENT_H
#define VSVA_CLIENT_H

#include "wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

/* A system call that no wrapper sees; as syscall(2). */
long vsva_raw(long number, long a, long b, long c, long d, long e, long f);
#define RAW_OF(number, a, b, c, d, e, f, ...)                                                      \
    vsva_raw(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define RAW(...) RAW_OF(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

/* Whether a server is named in the environment. */
bool vsva_enabled(void);

/* Names the server. False: that is no socket's path. */
bool vsva_serve_at(const char *path);

/* Where that server is. */
const char *vsva_server(void);

/* Whether this process may hold files of the engine. */
bool vsva_used(void);

/* The number of the device file behind `fd`; 0 if it is none of ours. Keeps errno. */
uint32_t vsva_file_of(int fd);

/* The same, and what was found is remembered. */
uint32_t vsva_look(int fd);

/* The same, as remembered: for ioctls of the engine's files, which no other file has. */
uint32_t vsva_marked_file(int fd);

/* The same, looked at only if it was one: a number may have gone to another file meanwhile. */
uint32_t vsva_checked_file(int fd);
void vsva_unmark(int fd);

/* Descriptors of the library itself: spared by close, close_range and dup2. */
bool vsva_is_internal(int fd);
/* Makes `fd` one, under another number, which it returns. */
int vsva_internal(int fd);
/* The same, but it stays in a forked child. */
int vsva_keep(int fd);
void vsva_close_internal(int fd);
void vsva_close_all_internal(void);

/* The first descriptor of from..last that is a file of the engine or internal; else UINT32_MAX. */
unsigned vsva_next_known(unsigned from, unsigned last);

/* A connection to the server; with a name it can become a file. -1 with errno ENXIO. */
int vsva_connect(bool named);

/* Looks at all descriptors: an earlier image of this process may have left some open. */
void vsva_look_around(void);

struct vsva_answered {
    struct vsva_reply head;
    uint8_t data[VSVA_REPLY_MAX];
};

static inline struct vsva_request vsva_request_of(enum vsva_op op) {
    return (struct vsva_request){.magic = VSVA_MAGIC, .op = (uint16_t)op, .fd = -1, .spare_fd = -1};
}

/* Sends, waits, and leaves the reply in `answer`; its data in `into` if that is not null. A result
   >= 0, or -errno: EIO when the engine has gone. Keeps errno. */
int64_t vsva_call(struct vsva_request *request, const void *data, size_t bytes,
                  struct vsva_answered *answer, void *into);

/* Whether the bytes lie in frames of this thread's stack that are in use: they can be written. */
bool vsva_on_stack(const void *argument, size_t bytes);

/* Whether this process runs in its parent's memory, as after vfork: what it does to its
   descriptors must leave no trace there. */
bool vsva_is_guest(void);

#define VSVA_ROUTE_MAX 768

struct vsva_route {
    enum vsva_place place;
    char path[VSVA_ROUTE_MAX];
};

/* Where a path leads. Returns what to give to libc, or for a DEVICE to vsva_open. Keeps errno. */
const char *vsva_route(int at, const char *path, struct vsva_route *route);

/* The name of an attribute of sysfs in the tree, whose change the engine is asked for. NULL: none. */
const char *vsva_attribute(const struct vsva_route *route);

/* Whether a path is a link that leads to a device: then that is in `route`. Keeps errno. */
bool vsva_follow(int at, const char *path, struct vsva_route *route);

/* Asks the engine where an absolute path leads, and for TREE where that really is. */
enum vsva_place vsva_locate(const char *path, char *real, size_t room);

/* The descriptor was closed behind the library's back and is none of the engine's any more. */
#define VSVA_NOT_OURS (-2)

/* These return what the system call does, and set errno; ioctl and transfer also NOT_OURS. */
int vsva_open(const char *path, int flags);
int vsva_ioctl(uint32_t file, int fd, unsigned long command, void *argument);
ssize_t vsva_transfer(enum vsva_op op, uint32_t file, int fd, const void *buffer, size_t count,
                      off_t position);
/* mmap of a file: a new connection that stands for the mapping, and its number in `mapped`. */
int vsva_map(uint32_t file, int fd, size_t length, int prot, int flags, off_t offset,
             uint32_t *mapped);

/* Whether something of this process may be pinned. */
bool vsva_has_pins(void);

/* Memory is about to be unmapped, moved to `to`, or (not `shared`) given up where it is not shared:
   pinned pages stay with those who pinned them. Costs nothing while nothing is pinned. */
void vsva_leave(uintptr_t start, size_t length, intptr_t to, bool shared);

/* Loads and stores in what was mapped. 0, or -errno: EFAULT beyond its end, EIO no answer. */
int64_t vsva_load(uint32_t mapped, uint64_t offset, void *into, size_t bytes);
/* `whole`: 64 bytes at once. */
int64_t vsva_store(uint32_t mapped, uint64_t offset, const void *from, size_t bytes, bool whole);

/* The O_ACCMODE bits with which the file was opened; 0 if the engine does not say. */
int vsva_access_mode(uint32_t file);

/* Fills in what stat shows of a device: of `file`, or of `path`. */
int vsva_stat(uint32_t file, const char *path, struct stat *into);

/* The engine accounts for what has just been closed before the caller goes on. */
void vsva_settle(void);

#endif
