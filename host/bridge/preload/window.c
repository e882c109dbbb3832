/*
 * Mapped BARs. A window is address space that nothing may touch: each load and store faults, and
 * faults.c has the engine carry it out. The window's own connection to the engine, a descriptor
 * that this process does not know of, keeps the mapped file as a mapping does: through close and
 * fork, until the last part of it is unmapped.
 */
#define _GNU_SOURCE
#include "window.h"

#include "client.h"
#include "cpu.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define WINDOWS 1024
#define PAGE 4096u

#define NEXT(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(&name) next;                                                             \
        if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name);                               \
        next;                                                                                      \
    })

/* A part of a mapping with one protection. `end` is 0 while the entry is free or changes. */
struct window {
    _Atomic uintptr_t end;
    uintptr_t start;
    uint64_t offset; /* of `start` in the mapping */
    uint32_t file;   /* the connection that stands for the mapping */
    int fd;
    int prot;
};

static struct window windows[WINDOWS];
static atomic_uint highest; /* entries in use lie below */
static atomic_uint changes; /* odd while the table changes */

/* Changes are rare and short; a forked child may find one under way, made by nobody any more. */
static _Atomic pid_t changer;

/* Handlers that touch device memory must not find this thread's own change under way. */
static void lock(sigset_t *before) {
    sigset_t all;
    const pid_t self = getpid();
    pid_t other = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, before);
    while (!atomic_compare_exchange_weak(&changer, &other, self)) {
        if (other != 0 && other != self) atomic_compare_exchange_strong(&changer, &other, 0);
        other = 0;
        sched_yield();
    }
    atomic_fetch_or(&changes, 1);
}

static void unlock(const sigset_t *before) {
    atomic_fetch_add(&changes, 1);
    atomic_store(&changer, 0);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* What a parent was changing when this process was forked is as far as it came. */
static void end_foreign_change(void) {
    const pid_t other = atomic_load(&changer);
    sigset_t before;
    if (other == 0 || other == getpid()) return;
    lock(&before);
    unlock(&before);
}

/* A copy of the window that has the address. */
static bool find(uintptr_t address, struct window *into) {
    for (;;) {
        const unsigned before = atomic_load(&changes);
        const unsigned limit = atomic_load(&highest);
        bool found = false;
        for (unsigned n = 0; n < limit && !found; n++) {
            const uintptr_t end = atomic_load(&windows[n].end);
            if (address >= end || address < windows[n].start) continue;
            memcpy(into, &windows[n], sizeof(*into));
            found = true;
        }
        if ((before & 1) == 0 && atomic_load(&changes) == before) return found;
        end_foreign_change();
        sched_yield();
    }
}

bool vsva_in_window(uintptr_t address) {
    struct window found;
    return vsva_has_windows() && find(address, &found);
}

bool vsva_has_windows(void) {
    return atomic_load_explicit(&highest, memory_order_relaxed) != 0;
}

static int transfer(uint64_t address, void *bytes, size_t count, int prot, bool whole) {
    uint8_t *data = bytes;
    while (count > 0) {
        struct window at;
        if (!vsva_has_windows() || !find(address, &at)) {
            /* The process's own memory, up to the next window. */
            if (prot == PROT_READ) memcpy(data, (const void *)(uintptr_t)address, count);
            else memcpy((void *)(uintptr_t)address, data, count);
            return 0;
        }
        /* A writable mapping can be read: x86 knows no other. */
        const int allowed = (at.prot & PROT_WRITE) != 0 ? PROT_READ | PROT_WRITE : at.prot;
        if ((allowed & prot) == 0) return -EFAULT;
        const uintptr_t end = atomic_load(&at.end);
        const size_t part = address + count > end ? end - address : count;
        const uint64_t offset = at.offset + (address - at.start);
        const int64_t result = prot == PROT_READ ? vsva_load(at.file, offset, data, part)
                                                 : vsva_store(at.file, offset, data, part, whole);
        if (result < 0) return result == -EFAULT ? -EFAULT : -EIO;
        data += part;
        address += part;
        count -= part;
    }
    return 0;
}

int vsva_peek(uint64_t address, void *into, size_t bytes) {
    return transfer(address, into, bytes, PROT_READ, false);
}

int vsva_poke(uint64_t address, const void *from, size_t bytes, bool whole) {
    return transfer(address, (void *)(uintptr_t)from, bytes, PROT_WRITE, whole);
}

/* A free entry, with the lock held; NULL: none. */
static struct window *take(void) {
    for (unsigned n = 0; n < WINDOWS; n++) {
        if (atomic_load(&windows[n].end) != 0) continue;
        if (n >= atomic_load(&highest)) atomic_store(&highest, n + 1);
        return &windows[n];
    }
    return NULL;
}

static bool in_use(int fd) {
    for (unsigned n = 0; n < WINDOWS; n++) {
        if (atomic_load(&windows[n].end) != 0 && windows[n].fd == fd) return true;
    }
    return false;
}

/* Takes start..end out of a window, which may leave a part before and one behind. */
static void cut(struct window *whole, uintptr_t start, uintptr_t end) {
    const uintptr_t last = atomic_load(&whole->end);
    if (start < whole->start) start = whole->start;
    if (end > last) end = last;
    struct window *behind = end < last && start > whole->start ? take() : whole;
    const uintptr_t first = whole->start;
    atomic_store(&whole->end, 0);
    if (end < last && behind != NULL) {
        const uint64_t offset = whole->offset + (end - first);
        behind->file = whole->file;
        behind->fd = whole->fd;
        behind->prot = whole->prot;
        behind->offset = offset;
        behind->start = end;
        atomic_store(&behind->end, last);
    }
    if (start > first) atomic_store(&whole->end, start);
}

/* Takes a range of windows away, or with `prot` >= 0 gives it that protection. */
static void change_range(uintptr_t start, size_t length, int prot) {
    const uintptr_t end = start + length;
    int closing[WINDOWS / 16];
    sigset_t before;
    unsigned count = 0;
    lock(&before);
    for (unsigned n = 0; n < atomic_load(&highest); n++) {
        struct window *at = &windows[n];
        const uintptr_t last = atomic_load(&at->end);
        if (last == 0 || at->start >= end || last <= start) continue;
        const struct window old = {.start = at->start, .offset = at->offset, .file = at->file,
                                   .fd = at->fd, .prot = at->prot};
        if (prot >= 0 && old.prot == prot) continue;
        cut(at, start, end);
        if (prot >= 0) {
            struct window *part = take();
            if (part != NULL) {
                part->start = start > old.start ? start : old.start;
                part->offset = old.offset + (part->start - old.start);
                part->file = old.file;
                part->fd = old.fd;
                part->prot = prot;
                atomic_store(&part->end, end < last ? end : last);
            }
        }
        if (!in_use(old.fd) && count < sizeof(closing) / sizeof(*closing)) closing[count++] = old.fd;
    }
    unlock(&before);
    for (unsigned n = 0; n < count; n++) vsva_close_internal(closing[n]);
    if (count > 0) vsva_settle();
}

void vsva_windows_gone(uintptr_t start, size_t length) {
    const int saved = errno;
    if (vsva_has_windows()) change_range(start, length, -1);
    errno = saved;
}

static bool enter(void *address, size_t length, int prot, uint32_t file, int fd) {
    sigset_t before;
    lock(&before);
    struct window *made = take();
    if (made != NULL) {
        made->start = (uintptr_t)address;
        made->offset = 0;
        made->file = file;
        made->fd = fd;
        made->prot = prot;
        atomic_store(&made->end, (uintptr_t)address + length);
    }
    unlock(&before);
    return made != NULL;
}

void *vsva_window_map(uint32_t file, int fd, void *address, size_t length, int prot, int flags,
                      off_t offset) {
    const int placing = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT;
    if (length == 0 || (offset & (PAGE - 1)) != 0 || length > SIZE_MAX - PAGE) {
        errno = EINVAL;
        return MAP_FAILED;
    }
    length = (length + PAGE - 1) & ~(size_t)(PAGE - 1);
    uint32_t mapped;
    int connection = vsva_map(file, fd, length, prot, flags, offset, &mapped);
    if (connection < 0) return MAP_FAILED;
    connection = vsva_keep(connection);
    void *place = MAP_FAILED;
    if (vsva_catch_faults()) {
        if ((flags & MAP_FIXED) != 0) vsva_leave((uintptr_t)address, length, -1, true);
        place = NEXT(mmap)(address, length, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (flags & placing), -1, 0);
    }
    if (place != MAP_FAILED) {
        vsva_windows_gone((uintptr_t)place, length);
        if (enter(place, length, prot, mapped, connection)) return place;
        NEXT(munmap)(place, length);
        errno = ENOMEM;
    }
    const int saved = errno;
    vsva_close_internal(connection);
    vsva_settle();
    errno = saved;
    return MAP_FAILED;
}

EXPORT int munmap(void *address, size_t length) {
    /* Before the address space is somebody else's. */
    if (((uintptr_t)address & (PAGE - 1)) == 0 && length > 0) {
        const size_t whole = (length + PAGE - 1) & ~(size_t)(PAGE - 1);
        vsva_leave((uintptr_t)address, whole, -1, true);
        vsva_windows_gone((uintptr_t)address, whole);
    }
    return NEXT(munmap)(address, length);
}

/* Device memory stays untouchable, and remembers what it should be. */
EXPORT int mprotect(void *address, size_t length, int prot) {
    const uintptr_t start = (uintptr_t)address;
    struct window at;
    size_t done = 0;
    length = (length + PAGE - 1) & ~(size_t)(PAGE - 1);
    while (vsva_has_windows() && done < length) {
        size_t part = 0;
        if (find(start + done, &at)) {
            part = atomic_load(&at.end) - (start + done);
            if (part > length - done) part = length - done;
            change_range(start + done, part, prot & (PROT_READ | PROT_WRITE | PROT_EXEC));
        } else {
            while (done + part < length && !vsva_in_window(start + done + part)) part += PAGE;
            if (NEXT(mprotect)((void *)(start + done), part, prot) < 0) return -1;
        }
        done += part;
    }
    return done < length || length == 0
               ? NEXT(mprotect)((void *)(start + done), length - done, prot)
               : 0;
}

/* Pages that are given up are other pages afterwards; those of shared memory are not. */
EXPORT int madvise(void *address, size_t length, int advice) {
    const bool given_up = advice == MADV_DONTNEED || advice == MADV_FREE ||
                          advice == MADV_DONTNEED_LOCKED;
    if (given_up) vsva_leave((uintptr_t)address, length, -1, false);
    return NEXT(madvise)(address, length, advice);
}

/* Device memory moves, but does not grow (VM_DONTEXPAND). */
EXPORT void *mremap(void *old, size_t length, size_t wanted, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    void *to = (flags & MREMAP_FIXED) != 0 ? va_arg(rest, void *) : NULL;
    va_end(rest);
    struct window at;
    const bool ours = vsva_has_windows() && find((uintptr_t)old, &at);
    if (ours && (wanted > length || atomic_load(&at.end) < (uintptr_t)old + length)) {
        errno = EFAULT;
        return MAP_FAILED;
    }
    if (to != NULL) vsva_leave((uintptr_t)to, wanted, -1, true);
    if (wanted < length) vsva_leave((uintptr_t)old + wanted, length - wanted, -1, true);
    void *place = NEXT(mremap)(old, length, wanted, flags, to);
    if (place != MAP_FAILED && place != old && (flags & MREMAP_DONTUNMAP) == 0) {
        vsva_leave((uintptr_t)old, length < wanted ? length : wanted, (intptr_t)place, true);
    }
    if (place == MAP_FAILED || !vsva_has_windows()) return place;
    if (place != old) vsva_windows_gone((uintptr_t)place, wanted);
    if (!ours) return place;
    const uint64_t offset = at.offset + ((uintptr_t)old - at.start);
    if (place != old) {
        sigset_t before;
        lock(&before);
        struct window *moved = take();
        if (moved != NULL) {
            moved->start = (uintptr_t)place;
            moved->offset = offset;
            moved->file = at.file;
            moved->fd = at.fd;
            moved->prot = at.prot;
            atomic_store(&moved->end, (uintptr_t)place + wanted);
        }
        unlock(&before);
        vsva_windows_gone((uintptr_t)old, length);
    } else if (wanted < length) {
        vsva_windows_gone((uintptr_t)old + wanted, length - wanted);
    }
    return place;
}
