/*
 * Faults of device memory, and the program's own signal handlers for everything else. Once this
 * process has device memory, SIGSEGV and SIGILL come here; what the program asks of these two
 * signals is kept, shown to it, and done when a fault is not ours.
 */
#define _GNU_SOURCE
#include "client.h"
#include "cpu.h"
#include "window.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

#define NEXT(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(&name) next;                                                             \
        if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name);                               \
        next;                                                                                      \
    })

static const int taken[] = {SIGSEGV, SIGILL};
#define TAKEN (sizeof(taken) / sizeof(*taken))

static struct sigaction programs[TAKEN];
static atomic_bool catching;

static int index_of(int signal) {
    for (size_t n = 0; n < TAKEN; n++) {
        if (taken[n] == signal && atomic_load(&catching)) return (int)n;
    }
    return -1;
}

/* As the kernel does it where the program has no handler: it dies of the signal. */
static void die(int signal) {
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t one;
    NEXT(sigaction)(signal, &plain, NULL);
    sigemptyset(&one);
    sigaddset(&one, signal);
    NEXT(pthread_sigmask)(SIG_UNBLOCK, &one, NULL);
    raise(signal);
}

/* Runs the program's handler as the kernel would have. */
static void deliver(int signal, const struct sigaction *action, siginfo_t *info, void *context) {
    if (action->sa_handler == SIG_DFL || action->sa_handler == SIG_IGN) {
        die(signal);
        return;
    }
    sigset_t blocked = action->sa_mask, before;
    if ((action->sa_flags & SA_NODEFER) == 0) sigaddset(&blocked, signal);
    NEXT(pthread_sigmask)(SIG_BLOCK, &blocked, &before);
    if ((action->sa_flags & SA_SIGINFO) != 0) action->sa_sigaction(signal, info, context);
    else action->sa_handler(signal);
    NEXT(pthread_sigmask)(SIG_SETMASK, &before, NULL);
}

static void pass_on(int signal, siginfo_t *info, void *context) {
    const int n = index_of(signal);
    const struct sigaction action = programs[n];
    if ((action.sa_flags & (int)SA_RESETHAND) != 0) programs[n].sa_handler = SIG_DFL;
    deliver(signal, &action, info, context);
}

/* Memory decoding is off, or the engine has gone. */
static void bus_error(siginfo_t *info, void *context) {
    struct sigaction action;
    NEXT(sigaction)(SIGBUS, NULL, &action);
    siginfo_t bus = {.si_signo = SIGBUS, .si_code = BUS_ADRERR};
    bus.si_addr = info->si_addr;
    deliver(SIGBUS, &action, &bus, context);
}

#ifdef __x86_64__

/* Without this line it would look like a defect of the program. */
static void explain(const ucontext_t *context) {
    static const char digits[] = "0123456789abcdef";
    char line[] = "vsva: device memory: no such access is known, by the instruction "
                  "00 00 00 00 00 00 00 00 00 00 00 00\n";
    const uint8_t *code = (const uint8_t *)context->uc_mcontext.gregs[REG_RIP];
    for (size_t n = 0; n < 12; n++) {
        char *at = line + sizeof(line) - 1 - 36 + 3 * n;
        at[0] = digits[code[n] >> 4];
        at[1] = digits[code[n] & 15];
    }
    if (syscall(SYS_write, STDERR_FILENO, line, sizeof(line) - 1) < 0) { /* nobody reads it */ }
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    const int saved = errno;
    const bool raised = info->si_code <= 0; /* by kill and the like */
    const bool touched =
        signal == SIGSEGV && !raised && vsva_in_window((uintptr_t)info->si_addr);
    /* Unknown to this processor, or without what it needs there (#GP has no address). */
    const bool refused = !raised && (signal == SIGILL || info->si_code == SI_KERNEL) &&
                         vsva_is_direct_store(context);
    const int error = touched || refused ? vsva_execute(context) : -ENOSYS;
    if (touched && error == -ENOSYS) explain(context);
    if (error == -EIO) bus_error(info, context);
    else if (error != 0) pass_on(signal, info, context);
    errno = saved;
}

static void catch_faults(void) {
    struct sigaction ours = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    ours.sa_sigaction = on_fault;
    sigemptyset(&ours.sa_mask);
    for (size_t n = 0; n < TAKEN; n++) {
        NEXT(sigaction)(taken[n], NULL, &programs[n]);
        NEXT(sigaction)(taken[n], &ours, NULL);
    }
    atomic_store(&catching, true);
    sigset_t unblocked;
    sigemptyset(&unblocked);
    for (size_t n = 0; n < TAKEN; n++) sigaddset(&unblocked, taken[n]);
    NEXT(pthread_sigmask)(SIG_UNBLOCK, &unblocked, NULL);
}

bool vsva_catch_faults(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, catch_faults);
    return true;
}

#else

bool vsva_catch_faults(void) {
    errno = ENODEV; /* only x86-64 instructions are known here */
    return false;
}

#endif

EXPORT int sigaction(int signal, const struct sigaction *now, struct sigaction *old) {
    const int n = index_of(signal);
    if (n < 0) return NEXT(sigaction)(signal, now, old);
    const struct sigaction was = programs[n];
    if (now != NULL) programs[n] = *now;
    if (old != NULL) *old = was;
    return 0;
}

EXPORT int __sigaction(int signal, const struct sigaction *now, struct sigaction *old) {
    return sigaction(signal, now, old);
}

EXPORT sighandler_t signal(int signal_, sighandler_t handler) {
    if (index_of(signal_) < 0) return NEXT(signal)(signal_, handler);
    struct sigaction now = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
    sigemptyset(&now.sa_mask);
    sigaction(signal_, &now, &old);
    return old.sa_handler;
}

EXPORT sighandler_t bsd_signal(int signal_, sighandler_t handler) {
    return signal(signal_, handler);
}

/*
 * A blocked fault kills, so nobody loses a handler when these two are left out of what is blocked;
 * and device memory goes on working in threads that block every signal.
 */
static const sigset_t *without_faults(int how, const sigset_t *set, sigset_t *room) {
    if (set == NULL || how == SIG_UNBLOCK || !vsva_enabled()) return set;
    *room = *set;
    for (size_t n = 0; n < TAKEN; n++) sigdelset(room, taken[n]);
    return room;
}

EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
    sigset_t room;
    return NEXT(sigprocmask)(how, without_faults(how, set, &room), old);
}

EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    sigset_t room;
    return NEXT(pthread_sigmask)(how, without_faults(how, set, &room), old);
}
