/*
 * If the broker is killed, the engine must not sleep on: programs write to the pipe in which it
 * sleeps, so that no end of it tells. A second process has just the means to notice and to wake it.
 */
#define _GNU_SOURCE
#include "watcher.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool vsva_send_wake(int requests) {
    struct {
        struct vsva_request request;
        uint32_t tail;
    } frame = {.request = {.magic = VSVA_MAGIC, .op = VSVA_OP_WAKE}};
    frame.request.bytes = sizeof(frame.request) + sizeof(frame.tail);
    frame.tail = VSVA_MAGIC ^ frame.request.bytes;
    uint8_t bytes[sizeof(frame.request) + sizeof(frame.tail)];
    memcpy(bytes, &frame.request, sizeof(frame.request));
    memcpy(bytes + sizeof(frame.request), &frame.tail, sizeof(frame.tail));
    return write(requests, bytes, sizeof(bytes)) == (ssize_t)sizeof(bytes);
}

static void watch_parent(int requests, int alive, int limit) {
    char none;
    for (int fd = 0; fd < limit; fd++) {
        if (fd != requests && fd != alive) close(fd);
    }
    while (read(alive, &none, 1) < 0 && errno == EINTR) {}
    /* A full pipe means that the engine is busy, or has gone. */
    for (int tries = 0; tries < 1000 && !vsva_send_wake(requests) && errno == EAGAIN; tries++) {
        usleep(10000);
    }
}

bool vsva_start_watcher(int requests, int limit) {
    int alive[2];
    if (pipe2(alive, O_CLOEXEC) < 0) return false;
    const pid_t watcher = fork();
    if (watcher == 0) {
        watch_parent(requests, alive[0], limit);
        _exit(0);
    }
    close(alive[0]);
    return watcher > 0;
}
