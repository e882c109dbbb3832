/* What travels between a program, the broker and the engine. host/bridge/wire.ts mirrors it. */
#ifndef VSVA_WIRE_H
#define VSVA_WIRE_H

#include <stdint.h>

#define VSVA_MAGIC 0x61767376u
/* A request is one write to the engine's pipe: at most PIPE_BUF, so that it never mixes. */
#define VSVA_REQUEST_MAX 4096u
/* Bytes of an ioctl argument that travel with the request. */
#define VSVA_INLINE_MAX 128u

enum vsva_op {
    VSVA_OP_HELLO = 1,   /* arg0: the reply pipe's write end, arg1: thread id, arg2: invitation */
    VSVA_OP_BYE = 2,     /* the channel is given up; no reply */
    VSVA_OP_OPEN = 3,    /* arg0: O_* flags; data: path */
    VSVA_OP_IOCTL = 4,   /* arg0: request, arg1: argument; data: the argument's first bytes */
    VSVA_OP_READ = 5,    /* arg0: buffer, arg1: count */
    VSVA_OP_WRITE = 6,
    VSVA_OP_PREAD = 7,   /* arg2: position */
    VSVA_OP_PWRITE = 8,
    VSVA_OP_MMAP = 9,    /* arg0: length, arg1: prot, arg2: flags, arg3: offset; spare */
    VSVA_OP_SETTLE = 10, /* files were closed or a child ended: account for it before going on */
    VSVA_OP_STAT = 11,   /* `file`, or data: path */
    VSVA_OP_WAKE = 12,   /* from the broker: it has events */
    VSVA_OP_PATH = 13,   /* data: path; the result is a vsva_place, for TREE with the real path */
    VSVA_OP_LOAD = 14,   /* of a mapping: arg0: offset, arg1: bytes, at most 64 */
    VSVA_OP_STORE = 15,  /* arg0: offset, arg1: 1 if it may not be split; data */
    VSVA_OP_LEAVE = 16   /* memory goes: arg0: address, arg1: bytes, arg2: where to or -1,
                            arg3: 1 if shared memory stays */
};

/* The library can write the argument, so the reply brings its first bytes. */
#define VSVA_REQUEST_WRITABLE 1u

struct vsva_request {
    uint32_t magic;
    uint16_t op;
    uint16_t bytes; /* all of it, with the tail */
    uint32_t pid;
    uint32_t channel;
    uint32_t sequence;
    uint32_t file; /* see vsva_file_of() in client.c */
    int32_t fd;
    uint32_t spare_file; /* a connection that the engine may turn into a new file; 0: none */
    int32_t spare_fd;
    uint32_t flags;
    uint64_t image; /* changes when the process gets another memory: fork, exec */
    uint64_t args[4];
};
/* Then data, then the tail: magic ^ sequence ^ pid ^ bytes. */

#define VSVA_REPLY_AGAIN 1u   /* ask again with a spare connection */
#define VSVA_REPLY_SPARE 2u   /* the spare connection became a file */
#define VSVA_REPLY_INHERIT 4u /* ... that survives exec */
#define VSVA_REPLY_PINS 16u   /* say what becomes of this process's memory: some of it is pinned */
#define VSVA_REPLY_STALE 8u   /* there is no such file: is it still the same descriptor? */

struct vsva_reply {
    uint32_t sequence;
    uint32_t bytes; /* of the data that follow */
    int64_t result; /* >= 0, or -errno */
    uint32_t flags;
    uint32_t reserved;
};
#define VSVA_REPLY_MAX 1024u

/* Where a path leads: to the program's own files, an engine's file, the engine's private tree. */
enum vsva_place { VSVA_PLACE_OWN = 0, VSVA_PLACE_DEVICE = 1, VSVA_PLACE_TREE = 2 };

struct vsva_stat {
    uint32_t mode;
    uint32_t major;
    uint32_t minor;
    uint32_t flags; /* O_ACCMODE bits of an open file */
};

/* An unnamed connection is answered with this and the request pipe. */
struct vsva_invitation {
    uint32_t number; /* says in a HELLO who sends it; good for one */
};

/* Engine to broker: one command, then its answer. */
enum vsva_command_op {
    VSVA_COMMAND_DRAIN = 1,    /* events so far; each follows the answer, `result` is how many */
    VSVA_COMMAND_WATCH = 2,    /* a: pid; tell when it ends */
    VSVA_COMMAND_RESOLVE = 3,  /* a: pid, b: fd; `kind` and `value` say what it is */
    VSVA_COMMAND_SIGNAL = 4,   /* a: eventfd handle, b: how much */
    VSVA_COMMAND_DROP = 5,     /* a: eventfd handle */
    VSVA_COMMAND_READABLE = 6  /* a: file; make its descriptor readable */
};

struct vsva_command {
    uint32_t op;
    uint32_t a;
    uint32_t b;
    uint32_t c;
};

struct vsva_answer {
    int32_t result; /* >= 0, or -errno */
    uint32_t kind;
    uint32_t value;
    uint32_t more; /* DRAIN: ask again */
};

enum vsva_event_kind {
    VSVA_EVENT_OPENED = 1, /* a: file, b: pid */
    VSVA_EVENT_CLOSED = 2, /* a: file: its last descriptor has gone */
    VSVA_EVENT_DEAD = 3,   /* a: pid */
    VSVA_EVENT_EXIT = 4,   /* a: exit status of the program that the broker started; 0 if it was
                              to start none and is told to end */
    VSVA_EVENT_INVITED = 5 /* a: pid, b: the invitation that it was given */
};

struct vsva_event {
    uint32_t kind;
    uint32_t a;
    uint32_t b;
    uint32_t c;
};
#define VSVA_EVENTS_MAX 128u

enum vsva_kind { VSVA_KIND_OTHER = 0, VSVA_KIND_FILE = 1, VSVA_KIND_EVENTFD = 2 };

#endif
