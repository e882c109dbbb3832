/*
 * A program that is started with another environment is still one on the simulated kernel: what
 * leads it there is added where it is missing. Nothing here allocates: it may run after vfork.
 */
#define _GNU_SOURCE
#include "client.h"

#include <dlfcn.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

#define NEXT(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(&name) next;                                                             \
        if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name);                               \
        next;                                                                                      \
    })

#define PRELOAD "LD_PRELOAD="
#define SERVER "VSVA_SOCKET="

/* This library, as it was named when this process was started. */
static char library[PATH_MAX];

__attribute__((constructor)) static void find_library(void) {
    Dl_info info;
    if (dladdr(library, &info) != 0 && strlen(info.dli_fname) < sizeof(library)) {
        strcpy(library, info.dli_fname);
    }
}

static const char *value_of(char *const *environment, const char *name) {
    const size_t length = strlen(name);
    for (; environment != NULL && *environment != NULL; environment++) {
        if (strncmp(*environment, name, length) == 0) return *environment + length;
    }
    return NULL;
}

struct additions {
    char preload[2 * PATH_MAX];
    char server[sizeof(SERVER) + 108];
};

/* How many entries `environment` needs with what is missing; 0: nothing is. */
static size_t room_for(char *const *environment) {
    if (!vsva_enabled() || library[0] == 0) return 0;
    const char *preload = value_of(environment, PRELOAD);
    const bool loaded = preload != NULL && strstr(preload, library) != NULL;
    if (loaded && value_of(environment, SERVER) != NULL) return 0;
    size_t count = 0;
    while (environment != NULL && environment[count] != NULL) count++;
    return count + 3;
}

/* Another server than ours stays: somebody has begun a bridge of his own. */
static char *const *complete(char *const *environment, char **with, struct additions *added) {
    const char *preload = value_of(environment, PRELOAD);
    const char *server = value_of(environment, SERVER);
    const bool loaded = preload != NULL && strstr(preload, library) != NULL;
    size_t count = 0;
    for (; environment != NULL && *environment != NULL; environment++) {
        const bool replaced = !loaded && strncmp(*environment, PRELOAD, strlen(PRELOAD)) == 0;
        if (!replaced) with[count++] = *environment;
    }
    if (!loaded) {
        const bool more = preload != NULL && preload[0] != 0;
        snprintf(added->preload, sizeof(added->preload), "%s%s%s%s", PRELOAD, library,
                 more ? ":" : "", more ? preload : "");
        with[count++] = added->preload;
    }
    if (server == NULL) {
        snprintf(added->server, sizeof(added->server), "%s%s", SERVER, vsva_server());
        with[count++] = added->server;
    }
    with[count] = NULL;
    return with;
}

#define WITH(environment)                                                                          \
    struct additions added;                                                                        \
    const size_t room = room_for(environment);                                                     \
    char *entries[room + 1];                                                                       \
    if (room > 0) environment = complete(environment, entries, &added);

EXPORT int execve(const char *path, char *const arguments[], char *const environment[]) {
    WITH(environment)
    return NEXT(execve)(path, arguments, environment);
}

EXPORT int execvpe(const char *file, char *const arguments[], char *const environment[]) {
    WITH(environment)
    return NEXT(execvpe)(file, arguments, environment);
}

EXPORT int fexecve(int fd, char *const arguments[], char *const environment[]) {
    WITH(environment)
    return NEXT(fexecve)(fd, arguments, environment);
}

EXPORT int execveat(int at, const char *path, char *const arguments[], char *const environment[],
                    int flags) {
    WITH(environment)
    return NEXT(execveat)(at, path, arguments, environment, flags);
}

EXPORT int execv(const char *path, char *const arguments[]) {
    return execve(path, arguments, environ);
}

EXPORT int execvp(const char *file, char *const arguments[]) {
    return execvpe(file, arguments, environ);
}

/* The arguments of execl and its like, `first` included. */
#define LIST(rest)                                                                                 \
    va_list rest, again;                                                                           \
    va_start(rest, first);                                                                         \
    va_copy(again, rest);                                                                          \
    size_t count = 1;                                                                              \
    while (va_arg(again, char *) != NULL) count++;                                                 \
    va_end(again);                                                                                 \
    char *arguments[count + 1];                                                                    \
    arguments[0] = (char *)(uintptr_t)first;                                                       \
    for (size_t i = 1; i <= count; i++) arguments[i] = va_arg(rest, char *);

EXPORT int execl(const char *path, const char *first, ...) {
    LIST(rest)
    va_end(rest);
    return execve(path, arguments, environ);
}

EXPORT int execlp(const char *file, const char *first, ...) {
    LIST(rest)
    va_end(rest);
    return execvpe(file, arguments, environ);
}

EXPORT int execle(const char *path, const char *first, ...) {
    LIST(rest)
    char *const *environment = va_arg(rest, char *const *);
    va_end(rest);
    return execve(path, arguments, environment);
}

#define SPAWN(name)                                                                                \
    EXPORT int name(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,       \
                    const posix_spawnattr_t *attributes, char *const arguments[],                  \
                    char *const environment[]) {                                                   \
        WITH(environment)                                                                          \
        return NEXT(name)(pid, path, actions, attributes, arguments, environment);                 \
    }

SPAWN(posix_spawn)
SPAWN(posix_spawnp)
