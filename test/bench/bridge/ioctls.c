/* What ioctls on /dev/iommu cost: prints `name ns` lines, one for each kind. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

struct option { uint32_t size, id; uint16_t op, reserved; uint32_t object; uint64_t value; };
struct ranges { uint32_t size, ioas, count, reserved; uint64_t list; uint32_t alignment_low, high; };
struct alloc { uint32_t size, flags, id; };
struct map { uint32_t size, flags, ioas, reserved; uint64_t address, length, iova; };
struct unmap { uint32_t size, ioas; uint64_t iova, length; };
struct destroy { uint32_t size, id; };

#define OPTION 0x3b87
#define RANGES 0x3b84
#define ALLOC 0x3b81
#define MAP 0x3b85
#define UNMAP 0x3b86
#define DESTROY 0x3b80

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

#define MEASURE(name, wanted, call)                                                                \
    do {                                                                                           \
        double from = 0;                                                                           \
        for (long i = -rounds / 2; i < rounds; i++) {                                              \
            if (i == 0) from = now();                                                              \
            if ((call) != (wanted)) return 1;                                                      \
        }                                                                                          \
        printf("%.1f %s\n", (now() - from) / (double)rounds, name);                                \
    } while (0)

static int map_unmap(int fd, uint32_t ioas, void *buffer) {
    struct map map = {sizeof(map), 7, ioas, 0, (uintptr_t)buffer, 4096, 1 << 20};
    struct unmap unmap = {sizeof(unmap), ioas, 1 << 20, 4096};
    return ioctl(fd, MAP, &map) | ioctl(fd, UNMAP, &unmap);
}

static int ranges_of(int fd, uint32_t ioas, uint32_t count) {
    uint64_t list[16];
    struct ranges ranges = {.size = 32, .ioas = ioas, .count = count, .list = (uintptr_t)list};
    return ioctl(fd, RANGES, &ranges);
}

int main(int count, char **arguments) {
    const long rounds = count > 1 ? strtol(arguments[1], NULL, 10) : 20000;
    const int fd = open("/dev/iommu", O_RDWR);
    struct alloc alloc = {.size = sizeof(alloc)};
    if (fd < 0 || ioctl(fd, ALLOC, &alloc) != 0) return 1;
    struct option option = {.size = sizeof(option), .op = 1, .object = 0};
    struct destroy destroy = {sizeof(destroy), 12345};
    struct option *heap = malloc(sizeof(*heap));
    void *buffer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (heap == NULL || buffer == MAP_FAILED) return 1;
    *heap = option;
    MEASURE("IOMMU_OPTION, get", 0, ioctl(fd, OPTION, &option));
    MEASURE("IOMMU_OPTION, get, argument on the heap", 0, ioctl(fd, OPTION, heap));
    MEASURE("IOMMU_IOAS_IOVA_RANGES, room for none (EMSGSIZE)", -1, ranges_of(fd, alloc.id, 0));
    MEASURE("IOMMU_IOAS_IOVA_RANGES, room for 8", 0, ranges_of(fd, alloc.id, 8));
    MEASURE("IOMMU_DESTROY, no such id (ENOENT)", -1, ioctl(fd, DESTROY, &destroy));
    MEASURE("IOMMU_IOAS_MAP and UNMAP, 4 KiB", 0, map_unmap(fd, alloc.id, buffer));
    return 0;
}
