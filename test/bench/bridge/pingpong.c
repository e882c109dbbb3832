/* Round trips of `bytes` bytes over a unix stream socket between two processes; prints ns each. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void whole(int fd, char *buffer, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        const ssize_t got = read(fd, buffer + at, bytes - at);
        if (got <= 0) _exit(0);
        at += (size_t)got;
    }
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    const size_t bytes = strtoul(arguments[1], NULL, 10);
    const long rounds = strtol(arguments[2], NULL, 10);
    char buffer[4096] = {0};
    int pair[2];
    if (bytes > sizeof(buffer) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return 1;
    if (fork() == 0) {
        close(pair[0]);
        for (;;) {
            whole(pair[1], buffer, bytes);
            if (write(pair[1], buffer, bytes) < 0) return 1;
        }
    }
    close(pair[1]);
    struct timespec from, to;
    for (long i = -rounds / 10; i < rounds; i++) {
        if (i == 0) clock_gettime(CLOCK_MONOTONIC, &from);
        if (write(pair[0], buffer, bytes) < 0) return 1;
        whole(pair[0], buffer, bytes);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    printf("%.1f\n", ((to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec)) / rounds);
    return 0;
}
