/*
 * Paths that the engine serves besides devices: the parts of /sys, /proc and /dev/vfio that clients
 * of the devices read. The engine keeps a private tree of them, and the calls here and in calls.c
 * are led into it; inside the tree everything is libc's own, descriptors and links included.
 */
#define _GNU_SOURCE
#include "client.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_LINKS 8

#define EXPORT __attribute__((visibility("default")))

#define NEXT(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(&name) next;                                                             \
        if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name);                               \
        next;                                                                                      \
    })

/* The tree's directory, once known; of one process it is always the same. */
static char root[256];
static atomic_size_t root_length;

static const char *const served[] = {
    "/dev/vfio",           "/sys/bus/pci",          "/sys/class/iommu",
    "/sys/class/vfio",     "/sys/class/vfio-dev",   "/sys/devices/virtual/iommu",
    "/sys/kernel/debug",   "/sys/kernel/iommu_groups", "/sys/devices/virtual/vfio",
};

static bool is_or_under(const char *path, const char *directory) {
    const size_t length = strlen(directory);
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static bool ends_with(const char *path, const char *end) {
    const size_t length = strlen(path), tail = strlen(end);
    return length >= tail && strcmp(path + length - tail, end) == 0;
}

/* Whether the engine has to be asked about an absolute path. */
static bool may_be_served(const char *path) {
    if (strncmp(path, "/proc/", 6) == 0) {
        return ends_with(path, "/fail-nth") || (vsva_used() && ends_with(path, "/status"));
    }
    if (strncmp(path, "/sys/devices/pci", 16) == 0) return true;
    for (size_t i = 0; i < sizeof(served) / sizeof(*served); i++) {
        if (is_or_under(path, served[i])) return true;
    }
    return false;
}

/* A node below /dev/vfio, its directories excepted. */
static bool is_device(const char *path) {
    if (strcmp(path, "/dev/iommu") == 0) return true;
    if (strncmp(path, "/dev/vfio/", 10) != 0) return false;
    const char *name = path + 10;
    return name[0] != 0 && strcmp(name, "devices") != 0 && strcmp(name, "devices/") != 0;
}

static void learn_tree(const char *name);

/* What a relative path begins at, by name; in the tree the name that the program knows. */
static bool directory_of(int at, char *name, size_t room) {
    char link[40];
    ssize_t length;
    if (at == AT_FDCWD) {
        length = syscall(SYS_getcwd, name, room) - 1;
    } else {
        snprintf(link, sizeof(link), "/proc/self/fd/%d", at);
        length = syscall(SYS_readlink, link, name, room - 1);
    }
    if (length <= 0 || name[0] != '/') return false;
    name[length] = 0;
    learn_tree(name);
    const size_t known = atomic_load(&root_length);
    if (known != 0 && strncmp(name, root, known) == 0 && (name[known] == '/' || name[known] == 0)) {
        memmove(name, name + known, strlen(name + known) + 1);
    }
    return true;
}

/* One absolute path without doubled slashes and dots; false: it has no place here. */
static bool absolute(int at, const char *path, char *into, size_t room) {
    size_t used = 0;
    if (path[0] != '/') {
        /* A relative name is looked at when it may name what is served. */
        const bool likely = atomic_load(&root_length) != 0 || strstr(path, "vfio") != NULL ||
                            strstr(path, "iommu") != NULL;
        if (!likely || !directory_of(at, into, room)) return false;
        used = strlen(into);
        if (used == 1) used = 0;
    }
    while (*path != 0) {
        while (*path == '/') path++;
        const size_t length = strcspn(path, "/");
        const bool dot = length == 1 && *path == '.';
        if (length > 0 && !dot) {
            if (used + length + 2 > room) return false;
            into[used++] = '/';
            memcpy(into + used, path, length);
            used += length;
        }
        path += length;
        if (*path == '/' && path[strspn(path, "/")] == 0) {
            if (used + 2 > room) return false;
            into[used++] = '/';
            break;
        }
    }
    into[used] = 0;
    return used > 0;
}

/* The absolute path `name` with its .. taken for what they say. */
static char *without_parents(const char *name, char *into) {
    size_t used = 0;
    while (*name != 0) {
        const size_t length = 1 + strcspn(name + 1, "/");
        if (length == 3 && strncmp(name, "/..", 3) == 0) {
            while (used > 0 && into[--used] != '/') {}
        } else {
            memcpy(into + used, name, length);
            used += length;
        }
        name += length;
    }
    into[used] = 0;
    return into;
}

/* What stands before the program's own name of a file is the tree's directory. */
static void learn_root(const char *real, const char *name) {
    const size_t length = strlen(real), tail = strlen(name);
    if (atomic_load(&root_length) != 0 || length <= tail || length - tail >= sizeof(root)) return;
    if (strcmp(real + length - tail, name) != 0) return;
    memcpy(root, real, length - tail);
    root[length - tail] = 0;
    atomic_store(&root_length, length - tail);
}

const char *vsva_route(int at, const char *path, struct vsva_route *route) {
    route->place = VSVA_PLACE_OWN;
    if (!vsva_enabled() || path == NULL || path[0] == 0) return path;
    if (path[0] == '/') {
        const char *first = path + strspn(path, "/.");
        const bool known = *first == 'd' || *first == 's' || *first == 'p';
        if (!known && (strstr(path, "/..") == NULL || strstr(path, "/dev/") == NULL)) return path;
    }
    const int saved = errno;
    char name[VSVA_ROUTE_MAX];
    if (absolute(at, path, name, sizeof(name))) {
        /* Nothing on the way to a device is a link. */
        char *plain = strstr(name, "/..") == NULL ? name : without_parents(name, route->path);
        if (is_device(plain)) {
            if (plain != name) strcpy(name, plain);
            route->place = VSVA_PLACE_DEVICE;
        } else if (may_be_served(name)) {
            route->place = vsva_locate(name, route->path, sizeof(route->path));
        }
    }
    errno = saved;
    if (route->place == VSVA_PLACE_OWN) return path;
    if (route->place == VSVA_PLACE_DEVICE) strcpy(route->path, name);
    else learn_root(route->path, name);
    return route->path;
}

const char *vsva_attribute(const struct vsva_route *route) {
    const size_t known = atomic_load(&root_length);
    if (route->place != VSVA_PLACE_TREE || known == 0) return NULL;
    const char *name = route->path + known;
    const bool debug = is_or_under(name, "/sys/kernel/debug");
    return strncmp(name, "/sys/", 5) == 0 && !debug ? name : NULL;
}

bool vsva_follow(int at, const char *path, struct vsva_route *route) {
    if (!vsva_enabled() || path == NULL) return false;
    const int saved = errno;
    char link[VSVA_ROUTE_MAX];
    bool found = false;
    for (int hops = 0; hops < MAX_LINKS && !found; hops++) {
        const long length = RAW(SYS_readlinkat, at, path, link, sizeof(link) - 1);
        if (length <= 0 || link[0] != '/') break;
        link[length] = 0;
        vsva_route(AT_FDCWD, link, route);
        found = route->place == VSVA_PLACE_DEVICE;
        if (!found) memcpy(route->path, link, (size_t)length + 1);
        path = route->path;
    }
    errno = saved;
    return found;
}

/* A program can be started inside the tree, before it has asked for any path. */
static void learn_tree(const char *name) {
    struct vsva_route route;
    if (atomic_load(&root_length) != 0 || !vsva_enabled()) return;
    if (strstr(name, "/tree/sys/") == NULL && strstr(name, "/tree/dev/") == NULL) return;
    vsva_route(AT_FDCWD, "/sys/bus/pci", &route);
}

/* Takes the tree's directory off a name that libc found. */
static void shorten(char *name) {
    learn_tree(name);
    const size_t known = atomic_load(&root_length);
    if (known == 0 || strncmp(name, root, known) != 0) return;
    if (name[known] == '/') memmove(name, name + known, strlen(name + known) + 1);
}

/* A stream on an engine's file: stdio's own calls do not pass through this library. */
static ssize_t stream_read(void *cookie, char *buffer, size_t count) {
    return read((int)(intptr_t)cookie, buffer, count);
}

static ssize_t stream_write(void *cookie, const char *buffer, size_t count) {
    return write((int)(intptr_t)cookie, buffer, count);
}

static int stream_close(void *cookie) {
    return close((int)(intptr_t)cookie);
}

static FILE *open_stream(const char *path, const char *mode) {
    int flags = mode[0] == 'r' ? O_RDONLY : O_WRONLY;
    if (strchr(mode, '+') != NULL) flags = O_RDWR;
    if (strchr(mode, 'e') != NULL) flags |= O_CLOEXEC;
    const int fd = vsva_open(path, flags);
    if (fd < 0) return NULL;
    const cookie_io_functions_t functions = {
        .read = stream_read, .write = stream_write, .close = stream_close};
    FILE *stream = fopencookie((void *)(intptr_t)fd, mode, functions);
    if (stream == NULL) close(fd);
    return stream;
}

#define FOPEN_BODY(name)                                                                           \
    struct vsva_route route;                                                                       \
    const char *real = vsva_route(AT_FDCWD, path, &route);                                         \
    const bool writes = mode[0] != 'r' || strchr(mode, '+') != NULL;                               \
    const char *attribute = writes ? vsva_attribute(&route) : NULL;                                \
    if (attribute != NULL) return open_stream(attribute, mode);                                    \
    if (route.place == VSVA_PLACE_DEVICE) return open_stream(real, mode);                          \
    const bool follow = writes && vsva_follow(AT_FDCWD, path, &route);                             \
    if (follow) return open_stream(route.path, mode);                                              \
    FILE *stream = NEXT(name)(real, mode);                                                         \
    const bool missing = stream == NULL && errno == ENOENT;                                        \
    return missing && vsva_follow(AT_FDCWD, path, &route) ? open_stream(route.path, mode) : stream;

EXPORT FILE *fopen(const char *path, const char *mode) { FOPEN_BODY(fopen) }
EXPORT FILE *fopen64(const char *path, const char *mode) { FOPEN_BODY(fopen64) }

/* Calls that take one path and find nothing special at a device. */
#define PATH_BODY(name, at, ...)                                                                   \
    struct vsva_route route;                                                                       \
    const char *real = vsva_route(at, path, &route);                                               \
    return NEXT(name)(__VA_ARGS__);

EXPORT DIR *opendir(const char *path) { PATH_BODY(opendir, AT_FDCWD, real) }

EXPORT int scandir(const char *path, struct dirent ***list, int (*pick)(const struct dirent *),
                   int (*order)(const struct dirent **, const struct dirent **)) {
    PATH_BODY(scandir, AT_FDCWD, real, list, pick, order)
}

EXPORT int scandir64(const char *path, struct dirent64 ***list,
                     int (*pick)(const struct dirent64 *),
                     int (*order)(const struct dirent64 **, const struct dirent64 **)) {
    PATH_BODY(scandir64, AT_FDCWD, real, list, pick, order)
}

EXPORT int chdir(const char *path) { PATH_BODY(chdir, AT_FDCWD, real) }

#define READLINK_BODY(name, at, ...)                                                               \
    struct vsva_route route;                                                                       \
    const char *real = vsva_route(at, path, &route);                                               \
    if (route.place == VSVA_PLACE_DEVICE) {                                                        \
        struct stat plain;                                                                         \
        if (vsva_stat(0, real, &plain) == 0) errno = EINVAL;                                       \
        return -1;                                                                                 \
    }                                                                                              \
    return NEXT(name)(__VA_ARGS__);

EXPORT ssize_t readlink(const char *path, char *buffer, size_t room) {
    READLINK_BODY(readlink, AT_FDCWD, real, buffer, room)
}

EXPORT ssize_t readlinkat(int at, const char *path, char *buffer, size_t room) {
    READLINK_BODY(readlinkat, at, at, real, buffer, room)
}

EXPORT ssize_t __readlink_chk(const char *path, char *buffer, size_t count, size_t room) {
    if (count > room) abort();
    return readlink(path, buffer, count);
}

EXPORT ssize_t __readlinkat_chk(int at, const char *path, char *buffer, size_t count,
                                size_t room) {
    if (count > room) abort();
    return readlinkat(at, path, buffer, count);
}

EXPORT char *realpath(const char *path, char *resolved) {
    struct vsva_route route;
    const char *real = vsva_route(AT_FDCWD, path, &route);
    char found[PATH_MAX];
    if (route.place == VSVA_PLACE_DEVICE) {
        struct stat plain;
        if (vsva_stat(0, real, &plain) < 0) return NULL;
        memcpy(found, route.path, sizeof(route.path));
    } else {
        if (NEXT(realpath)(real, found) == NULL) return NULL;
        shorten(found);
    }
    return resolved == NULL ? strdup(found) : strcpy(resolved, found);
}

EXPORT char *__realpath_chk(const char *path, char *resolved, size_t room) {
    if (room < PATH_MAX) abort();
    return realpath(path, resolved);
}

EXPORT char *canonicalize_file_name(const char *path) {
    return realpath(path, NULL);
}

EXPORT char *getcwd(char *buffer, size_t room) {
    char *found = NEXT(getcwd)(buffer, room);
    if (found != NULL) shorten(found);
    return found;
}

#define ACCESS_BODY(name, at, ...)                                                                 \
    struct vsva_route route;                                                                       \
    const char *real = vsva_route(at, path, &route);                                               \
    if (route.place != VSVA_PLACE_DEVICE) return NEXT(name)(__VA_ARGS__);                          \
    struct stat plain;                                                                             \
    return vsva_stat(0, real, &plain);

EXPORT int access(const char *path, int mode) { ACCESS_BODY(access, AT_FDCWD, real, mode) }
EXPORT int eaccess(const char *path, int mode) { ACCESS_BODY(eaccess, AT_FDCWD, real, mode) }

EXPORT int euidaccess(const char *path, int mode) {
    ACCESS_BODY(euidaccess, AT_FDCWD, real, mode)
}

EXPORT int faccessat(int at, const char *path, int mode, int flags) {
    ACCESS_BODY(faccessat, at, at, real, mode, flags)
}

/* Listings ask for labels and access lists, which nothing here has. */
#define XATTR_BODY(name, ...)                                                                      \
    struct vsva_route route;                                                                       \
    const char *real = vsva_route(AT_FDCWD, path, &route);                                         \
    if (route.place != VSVA_PLACE_DEVICE) return NEXT(name)(__VA_ARGS__);                          \
    errno = EOPNOTSUPP;                                                                            \
    return -1;

EXPORT ssize_t getxattr(const char *path, const char *name, void *value, size_t room) {
    XATTR_BODY(getxattr, real, name, value, room)
}

EXPORT ssize_t lgetxattr(const char *path, const char *name, void *value, size_t room) {
    XATTR_BODY(lgetxattr, real, name, value, room)
}

EXPORT ssize_t listxattr(const char *path, char *list, size_t room) {
    XATTR_BODY(listxattr, real, list, room)
}

EXPORT ssize_t llistxattr(const char *path, char *list, size_t room) {
    XATTR_BODY(llistxattr, real, list, room)
}
