/*
 * stat as programs call it that were linked before glibc 2.33: the version is that of the struct,
 * of which x86-64 has only one.
 */
#define _GNU_SOURCE
#include "client.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef int path_stat(int version, const char *path, struct stat *into);
typedef int file_stat(int version, int fd, struct stat *into);
typedef int at_stat(int version, int at, const char *path, struct stat *into, int flags);

/* New programs cannot be linked with these, and so dlsym does not find them. */
#define NEXT(name, type, since)                                                                    \
    ({                                                                                             \
        static type *next;                                                                         \
        if (next == NULL) *(void **)&next = dlvsym(RTLD_NEXT, #name, since);                       \
        next;                                                                                      \
    })

#define PATH_STAT(name)                                                                            \
    EXPORT int name(int version, const char *path, struct stat *into) {                            \
        struct vsva_route route;                                                                   \
        const char *real = vsva_route(AT_FDCWD, path, &route);                                     \
        if (route.place != VSVA_PLACE_DEVICE) {                                                    \
            return NEXT(name, path_stat, "GLIBC_2.2.5")(version, real, into);                      \
        }                                                                                          \
        memset(into, 0, sizeof(*into));                                                            \
        return vsva_stat(0, real, into);                                                           \
    }

PATH_STAT(__xstat)
PATH_STAT(__xstat64)
PATH_STAT(__lxstat)
PATH_STAT(__lxstat64)

#define FILE_STAT(name)                                                                            \
    EXPORT int name(int version, int fd, struct stat *into) {                                      \
        const int result = NEXT(name, file_stat, "GLIBC_2.2.5")(version, fd, into);                \
        const uint32_t file =                                                                      \
            result == 0 && S_ISSOCK(into->st_mode) ? vsva_checked_file(fd) : 0;                    \
        return file == 0 ? result : vsva_stat(file, NULL, into);                                   \
    }

FILE_STAT(__fxstat)
FILE_STAT(__fxstat64)

#define AT_STAT(name)                                                                              \
    EXPORT int name(int version, int at, const char *path, struct stat *into, int flags) {         \
        struct vsva_route route;                                                                   \
        if (path[0] == 0 && (flags & AT_EMPTY_PATH) != 0) return __fxstat(version, at, into);      \
        const char *real = vsva_route(at, path, &route);                                           \
        if (route.place != VSVA_PLACE_DEVICE) {                                                    \
            return NEXT(name, at_stat, "GLIBC_2.4")(version, at, real, into, flags);               \
        }                                                                                          \
        memset(into, 0, sizeof(*into));                                                            \
        return vsva_stat(0, real, into);                                                           \
    }

AT_STAT(__fxstatat)
AT_STAT(__fxstatat64)
