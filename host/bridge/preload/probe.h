#ifndef VSVA_PROBE_H
#define VSVA_PROBE_H

/* Whether a program of this user would be served at a socket: 0, or an errno. */
int vsva_probe(const char *path);

#endif
