/* Vector registers of an interrupted thread, as the kernel keeps them in its signal frame. */
#define _GNU_SOURCE
#include "vectors.h"

#ifdef __x86_64__

#include <cpuid.h>
#include <string.h>

/* Layout of the frame: FXSAVE's 512 bytes, the header, then components (SDM vol. 1, ch. 13). */
#define MAGIC1 0x46505853u
#define MAGIC1_AT 464
#define STATE_MASK_AT 512
#define XMM_AT 160

enum component { SSE = 1, AVX = 2, ZMM_LOW = 6, ZMM_HIGH = 7 };

/* Where a component is; 0: not in frames of this processor. */
static unsigned place_of(enum component component, unsigned *bytes) {
    unsigned size, offset, c, d;
    if (__get_cpuid_count(0xd, component, &size, &offset, &c, &d) == 0 || size == 0) return 0;
    *bytes = size;
    return offset;
}

static bool extended(const uint8_t *frame) {
    uint32_t magic;
    memcpy(&magic, frame + MAGIC1_AT, sizeof(magic));
    return magic == MAGIC1;
}

/* The part of a component that belongs to one register; NULL: there is none, or it reads as 0. */
static uint8_t *part(uint8_t *frame, enum component component, unsigned index, bool write) {
    unsigned bytes, offset;
    uint64_t mask;
    if (!extended(frame) || (offset = place_of(component, &bytes)) == 0) return NULL;
    memcpy(&mask, frame + STATE_MASK_AT, sizeof(mask));
    if ((mask & (1ull << component)) == 0) {
        if (!write) return NULL;
        memset(frame + offset, 0, bytes);
        mask |= 1ull << component;
        memcpy(frame + STATE_MASK_AT, &mask, sizeof(mask));
    }
    return frame + offset + index * (bytes / 16);
}

static void move(uint8_t *part, uint8_t *bytes, size_t count, bool write) {
    if (part != NULL && write) memcpy(part, bytes, count);
    else if (part != NULL) memcpy(bytes, part, count);
    else if (!write) memset(bytes, 0, count);
}

static void transfer(ucontext_t *context, unsigned index, uint8_t bytes[64], bool write) {
    uint8_t *frame = (uint8_t *)context->uc_mcontext.fpregs;
    if (index >= 16) {
        move(part(frame, ZMM_HIGH, index - 16, write), bytes, 64, write);
        return;
    }
    if (write && extended(frame)) frame[STATE_MASK_AT] |= 1u << SSE;
    move(frame + XMM_AT + 16 * index, bytes, 16, write);
    move(part(frame, AVX, index, write), bytes + 16, 16, write);
    move(part(frame, ZMM_LOW, index, write), bytes + 32, 32, write);
}

void vsva_read_vector(ucontext_t *context, unsigned index, uint8_t bytes[64]) {
    transfer(context, index, bytes, false);
}

void vsva_write_vector(ucontext_t *context, unsigned index, uint8_t bytes[64], bool wide) {
    uint8_t *frame = (uint8_t *)context->uc_mcontext.fpregs;
    if (wide) {
        transfer(context, index, bytes, true);
        return;
    }
    if (extended(frame)) frame[STATE_MASK_AT] |= 1u << SSE;
    memcpy(frame + XMM_AT + 16 * index, bytes, 16);
}

#endif
