/* Signals that end a process, and whom they are for. */
#ifndef VSVA_ENDINGS_H
#define VSVA_ENDINGS_H

#include <signal.h>
#include <stdbool.h>

/* From here on they are read, not obeyed. A descriptor, or -1; `before` is the mask as it was. */
int vsva_catch_signals(sigset_t *before);

/* The next one that the parent passes on; 0: none. `once`: not one that the whole process group got,
   as from the terminal. */
int vsva_passed_signal(int fd, bool once);

#endif
