/*
 * The process of the engine tells of signal n, which it was sent, with SIGRTMIN + n. A signal that
 * came here by itself too went to the whole group.
 */
#define _GNU_SOURCE
#include "endings.h"

#include <stdint.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

/* A signal to the group is with all of it long before the engine's process has passed it on. */
#define SAME_SIGNAL_MS 500

static const int endings[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
static uint64_t came[SIGTERM + 1]; /* by signal: when it came here; 0: never */

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + 1;
}

int vsva_catch_signals(sigset_t *before) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
        sigaddset(&set, endings[i]);
        sigaddset(&set, SIGRTMIN + endings[i]);
    }
    if (sigprocmask(SIG_BLOCK, &set, before) < 0) return -1;
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int vsva_passed_signal(int fd, bool once) {
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        const int number = (int)info.ssi_signo - SIGRTMIN;
        if (number < 0) {
            came[info.ssi_signo] = now_ms();
            continue;
        }
        const bool same = came[number] != 0 && now_ms() - came[number] <= SAME_SIGNAL_MS;
        if (info.ssi_pid == (uint32_t)getppid() && !(once && same)) return number;
    }
    return 0;
}
