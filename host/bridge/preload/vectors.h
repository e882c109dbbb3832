#ifndef VSVA_VECTORS_H
#define VSVA_VECTORS_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

/* Register `index`, 0 to 31, in full; what the processor has not reads as 0. */
void vsva_read_vector(ucontext_t *context, unsigned index, uint8_t bytes[64]);

/* `wide`: all 64 bytes, as AVX instructions write; else the low 16 and the rest stays. */
void vsva_write_vector(ucontext_t *context, unsigned index, uint8_t bytes[64], bool wide);

#endif
