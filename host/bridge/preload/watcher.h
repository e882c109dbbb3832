/* How the engine is woken, and who wakes it when the broker has been killed. */
#ifndef VSVA_WATCHER_H
#define VSVA_WATCHER_H

#include <stdbool.h>

/* Tells the engine that there is something to ask for. False: the pipe is full, or broken. */
bool vsva_send_wake(int requests);

/* Starts a process that wakes the engine once this one has ended. It keeps only `requests` of the
   descriptors below `limit`. */
bool vsva_start_watcher(int requests, int limit);

#endif
