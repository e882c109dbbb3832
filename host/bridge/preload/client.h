/* The parts of the preloaded library: client.c speaks with the engine, calls.c wraps libc. */
#ifndef VSVA_CLIENT_H
#define VSVA_CLIENT_H

#include "wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Whether a server is named in the environment. */
bool vsva_enabled(void);

/* The number of the device file behind `fd`; 0 if it is none of ours. Keeps errno. */
uint32_t vsva_file_of(int fd);

/* The same, at no cost for descriptors that were never seen to be ours. */
uint32_t vsva_marked_file(int fd);
void vsva_mark(int fd);
void vsva_unmark(int fd);

/* Whether the path is a device node that the engine serves. */
bool vsva_is_device(const char *path);

/* These return what the system call does, and set errno. */
int vsva_open(const char *path, int flags);
int vsva_ioctl(uint32_t file, int fd, unsigned long command, void *argument);
ssize_t vsva_transfer(enum vsva_op op, uint32_t file, int fd, const void *buffer, size_t count,
                      off_t position);
int vsva_mmap(uint32_t file, int fd, size_t length, int prot, int flags, off_t offset);

/* Fills in what stat shows of a device: of `file`, or of `path`. */
int vsva_stat(uint32_t file, const char *path, struct stat *into);

/* The engine accounts for what has just been closed before the caller goes on. */
void vsva_settle(void);

/* Whether it is a descriptor of the library itself. */
bool vsva_is_internal(int fd);

/* The library's own descriptors in the range are about to go: it does without them. */
void vsva_forget(unsigned first, unsigned last);

#endif
