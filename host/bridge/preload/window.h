/* Device memory in this process: address ranges whose loads and stores the engine carries out. */
#ifndef VSVA_WINDOW_H
#define VSVA_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* mmap of an engine's file. What mmap returns, with errno. */
void *vsva_window_map(uint32_t file, int fd, void *address, size_t length, int prot, int flags,
                      off_t offset);

/* Whether an address lies in device memory. Safe in a signal handler. */
bool vsva_in_window(uintptr_t address);

/* Whether there is, or was, any. */
bool vsva_has_windows(void);

/* The range has been mapped anew, or unmapped. */
void vsva_windows_gone(uintptr_t start, size_t length);

/* Has loads and stores of device memory come to vsva_execute. Once is enough. */
bool vsva_catch_faults(void);

#endif
