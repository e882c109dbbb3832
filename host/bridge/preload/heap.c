/*
 * Blocks of memory that libc's allocator has mapped one by one, because they are large: when they
 * are freed or moved, libc unmaps them by itself, and nobody would hear of it. Their pages may be
 * pinned, so the engine is told first, as by the program's own munmap.
 */
#define _GNU_SOURCE
#include "client.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))
/* How glibc's allocator marks such a block, in the size before it. */
#define IS_MAPPED 2u
#define FLAGS 7u

static void (*next_free)(void *);
static void *(*next_realloc)(void *, size_t);
/* Whether that is libc's own allocator. */
static bool known;
static _Thread_local bool looking __attribute__((tls_model("initial-exec")));

static void look(void) {
    Dl_info allocator, libc;
    looking = true;
    *(void **)&next_realloc = dlsym(RTLD_NEXT, "realloc");
    *(void **)&next_free = dlsym(RTLD_NEXT, "free");
    void *const of_libc = dlsym(RTLD_NEXT, "gnu_get_libc_version");
    known = of_libc != NULL && dladdr(*(void **)&next_free, &allocator) != 0 &&
            dladdr(of_libc, &libc) != 0 && allocator.dli_fbase == libc.dli_fbase;
    looking = false;
}

struct range {
    uintptr_t start;
    size_t length;
};

/* What is mapped for a block; length 0: it lies among others. */
static struct range mapped_for(const void *block) {
    const size_t *head = (const size_t *)block - 2;
    if (!known || (head[1] & IS_MAPPED) == 0) return (struct range){0, 0};
    return (struct range){(uintptr_t)head - head[0], head[0] + (head[1] & ~(size_t)FLAGS)};
}

EXPORT void free(void *block) {
    if (next_free == NULL) {
        /* The loader gives something back while it looks for us: it can do without. */
        if (looking) return;
        look();
    }
    if (block != NULL && vsva_has_pins()) {
        const struct range gone = mapped_for(block);
        vsva_leave(gone.start, gone.length, -1, true);
    }
    next_free(block);
}

EXPORT void *realloc(void *block, size_t bytes) {
    if (next_realloc == NULL) {
        if (looking) return NULL;
        look();
    }
    struct range before = {0, 0};
    if (block != NULL && vsva_has_pins()) before = mapped_for(block);
    if (before.length == 0) return next_realloc(block, bytes);
    if (bytes == 0) vsva_leave(before.start, before.length, -1, true);
    void *moved = next_realloc(block, bytes);
    if (moved == NULL || bytes == 0) return moved;
    const struct range after = mapped_for(moved);
    const size_t both = before.length < after.length ? before.length : after.length;
    if (after.start != before.start && after.length > 0) {
        vsva_leave(before.start, both, (intptr_t)after.start, true);
    }
    if (both < before.length) vsva_leave(before.start + both, before.length - both, -1, true);
    return moved;
}
