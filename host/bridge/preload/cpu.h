/* Instructions that reach a device's memory: cpu.c carries one out where the processor cannot. */
#ifndef VSVA_CPU_H
#define VSVA_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/*
 * Carries out the instruction at which `context` stands, if it is one that moves data between
 * registers and memory or changes memory, and leaves `context` after it.
 *
 * 0; -ENOSYS: none of those; -EFAULT, -EIO: what vsva_peek or vsva_poke says; -EINVAL: the
 * processor would raise #GP. Then nothing is done, or as much of a repeated one as went well.
 */
int vsva_execute(ucontext_t *context);

/* Whether it is MOVDIR64B, MOVDIRI or ENQCMD, which this processor may not know. */
bool vsva_is_direct_store(const ucontext_t *context);

/* Memory as the instruction sees it: of a device or the process's own. 0 or -errno. */
int vsva_peek(uint64_t address, void *into, size_t bytes);
/* `whole`: one store of 64 bytes that may not be split. */
int vsva_poke(uint64_t address, const void *from, size_t bytes, bool whole);

#endif
