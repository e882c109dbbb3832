/* Asks a broker for an invitation, as a program does that joins, and does not use it. */
#define _GNU_SOURCE
#include "probe.h"
#include "wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

int vsva_probe(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) return ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval patience = {.tv_sec = 5};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        return errno;
    }
    struct vsva_invitation invitation;
    const ssize_t got = recv(fd, &invitation, sizeof(invitation), 0);
    if (got < 0) return errno == EAGAIN ? ETIMEDOUT : EACCES;
    return got == (ssize_t)sizeof(invitation) ? 0 : EACCES;
}
