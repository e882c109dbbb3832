/* Prefixes, opcode and operands of x86-64 instructions (Intel SDM vol. 2, chapter 2). */
#define _GNU_SOURCE
#include "decode.h"

#ifdef __x86_64__

#include <string.h>

#define REX_B 1u
#define REX_X 2u
#define REX_R 4u
#define REX_W 8u
#define LONGEST 15

static const int register_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                    REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                    REG_R12, REG_R13, REG_R14, REG_R15};

/* What is read of an instruction: never more than belongs to it. */
struct reader {
    const uint8_t *at;
    unsigned left;
};

static uint8_t byte(struct reader *r) {
    if (r->left == 0) return 0;
    r->left--;
    return *r->at++;
}

static uint64_t number(struct reader *r, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)byte(r) << (8 * i);
    return value;
}

static int64_t signed_number(struct reader *r, unsigned bytes) {
    const unsigned shift = 64 - 8 * bytes;
    return (int64_t)(number(r, bytes) << shift) >> shift;
}

uint64_t vsva_register(const struct instruction *i, unsigned number, unsigned size) {
    if (size == 1 && i->rex == 0 && number >= 4 && number < 8) {
        return (uint64_t)i->gregs[register_of[number - 4]] >> 8 & 0xff;
    }
    const uint64_t value = (uint64_t)i->gregs[register_of[number & 15]];
    return size == 8 ? value : value & ((1ull << (8 * size)) - 1);
}

void vsva_set_register(struct instruction *i, unsigned number, unsigned size, uint64_t value) {
    if (size == 1 && i->rex == 0 && number >= 4 && number < 8) {
        greg_t *whole = &i->gregs[register_of[number - 4]];
        *whole = (greg_t)(((uint64_t)*whole & ~0xff00ull) | (value & 0xff) << 8);
        return;
    }
    greg_t *whole = &i->gregs[register_of[number & 15]];
    if (size == 8) *whole = (greg_t)value;
    else if (size == 4) *whole = (greg_t)(value & 0xffffffff);
    else {
        const uint64_t mask = (1ull << (8 * size)) - 1;
        *whole = (greg_t)(((uint64_t)*whole & ~mask) | (value & mask));
    }
}

static uint64_t address_register(const struct instruction *i, unsigned number) {
    return (uint64_t)i->gregs[register_of[number]];
}

/* Legacy prefixes and REX. False: a segment that has a base. */
static bool prefixes(struct reader *r, struct instruction *i, uint8_t *opcode) {
    bool size16 = false;
    for (;;) {
        const uint8_t next = byte(r);
        i->rex = 0;
        switch (next) {
        case 0x66: size16 = true; continue;
        case 0x67: i->short_addresses = true; continue;
        case 0xf2: i->repne = true; i->rep = false; continue;
        case 0xf3: i->rep = true; i->repne = false; continue;
        case 0xf0: case 0x26: case 0x2e: case 0x36: case 0x3e: continue;
        case 0x64: case 0x65: return false;
        default: break;
        }
        *opcode = next;
        if ((next & 0xf0) == 0x40) {
            i->rex = next;
            *opcode = byte(r);
        }
        break;
    }
    i->wide = (i->rex & REX_W) != 0;
    i->size = i->wide ? 8 : size16 ? 2 : 4;
    i->prefix = i->repne ? PREFIX_F2 : i->rep ? PREFIX_F3 : size16 ? PREFIX_66 : PREFIX_NONE;
    i->vector = 16;
    return r->left > 0;
}

static const enum prefix compact[4] = {PREFIX_NONE, PREFIX_66, PREFIX_F3, PREFIX_F2};

static void vex(struct reader *r, struct instruction *i, bool longer) {
    uint8_t last = byte(r);
    i->form = FORM_VEX;
    i->map = 1;
    i->rex = ~last >> 5 & REX_R;
    if (longer) {
        i->rex = ~last >> 5 & 7;
        i->map = last & 0x1f;
        last = byte(r);
        i->wide = (last & 0x80) != 0;
    }
    i->vector = (last & 4) != 0 ? 32 : 16;
    i->prefix = compact[last & 3];
}

/* False: masked, broadcast or rounded. */
static bool evex(struct reader *r, struct instruction *i) {
    const uint8_t first = byte(r), second = byte(r), third = byte(r);
    i->form = FORM_EVEX;
    i->rex = ~first >> 5 & 7;
    i->reg = (first & 0x10) != 0 ? 0 : 16;
    i->map = first & 7;
    i->wide = (second & 0x80) != 0;
    i->prefix = compact[second & 3];
    i->vector = 16u << (third >> 5 & 3);
    return (third & 0x1f) == 8 && i->vector <= 64;
}

/* Bytes that EVEX counts in one step of an 8-bit displacement: the whole operand here. */
static unsigned displacement_scale(const struct instruction *i) {
    if (i->form != FORM_EVEX) return 1;
    const bool scalar = i->opcode == 0x10 || i->opcode == 0x11;
    if (scalar && i->prefix == PREFIX_F3) return 4;
    if (scalar && i->prefix == PREFIX_F2) return 8;
    if (i->opcode == 0x6e || (i->opcode == 0x7e && i->prefix == PREFIX_66)) return i->wide ? 8 : 4;
    const bool half = (i->opcode >= 0x12 && i->opcode <= 0x17) || i->opcode == 0xd6;
    return half || i->opcode == 0x7e ? 8 : i->vector;
}

static unsigned immediate_bytes(const struct instruction *i) {
    const unsigned full = i->size == 2 ? 2 : 4;
    if (i->form != FORM_LEGACY || i->map > 1) return 0;
    if (i->map == 1) return i->opcode == 0xba ? 1 : 0;
    switch (i->opcode) {
    case 0x80: case 0x83: case 0xc6: return 1;
    case 0x81: case 0xc7: return full;
    case 0xf6: return (i->modrm >> 3 & 7) < 2 ? 1 : 0;
    case 0xf7: return (i->modrm >> 3 & 7) < 2 ? full : 0;
    default: return 0;
    }
}

/* False: the operand is a register. */
static bool memory_operand(struct reader *r, struct instruction *i) {
    i->modrm = byte(r);
    i->reg += (i->modrm >> 3 & 7) | ((i->rex & REX_R) != 0 ? 8 : 0);
    const unsigned mode = i->modrm >> 6;
    unsigned base = i->modrm & 7;
    uint64_t address = 0;
    bool relative = false;
    if (mode == 3) return false;
    if (base == 4) {
        const uint8_t sib = byte(r);
        const unsigned index = (sib >> 3 & 7) | ((i->rex & REX_X) != 0 ? 8 : 0);
        base = sib & 7;
        if (index != 4) address += address_register(i, index) << (sib >> 6);
        if (mode == 0 && base == 5) address += (uint64_t)signed_number(r, 4);
        else address += address_register(i, base | ((i->rex & REX_B) != 0 ? 8 : 0));
    } else if (mode == 0 && base == 5) {
        address = (uint64_t)signed_number(r, 4);
        relative = true;
    } else {
        address = address_register(i, base | ((i->rex & REX_B) != 0 ? 8 : 0));
    }
    if (mode == 1) address += (uint64_t)(signed_number(r, 1) * displacement_scale(i));
    if (mode == 2) address += (uint64_t)signed_number(r, 4);
    if (relative) address += (uint64_t)(uintptr_t)r->at + immediate_bytes(i);
    i->address = i->short_addresses ? address & 0xffffffff : address;
    return true;
}

static bool is_string(const struct instruction *i) {
    return i->form == FORM_LEGACY && i->map == 0 &&
           (i->opcode == 0xa4 || i->opcode == 0xa5 || (i->opcode >= 0xaa && i->opcode <= 0xad));
}

bool vsva_decode(ucontext_t *context, struct instruction *i) {
    memset(i, 0, sizeof(*i));
    i->context = context;
    i->gregs = context->uc_mcontext.gregs;
    struct reader r = {.at = (const uint8_t *)i->gregs[REG_RIP], .left = LONGEST};
    uint8_t opcode;
    if (!prefixes(&r, i, &opcode)) return false;
    if (opcode == 0xc4 || opcode == 0xc5) {
        vex(&r, i, opcode == 0xc4);
        opcode = byte(&r);
    } else if (opcode == 0x62) {
        if (!evex(&r, i)) return false;
        opcode = byte(&r);
    } else if (opcode == 0x0f) {
        i->map = 1;
        opcode = byte(&r);
        if (opcode == 0x38) {
            i->map = 2;
            opcode = byte(&r);
        } else if (opcode == 0x3a) {
            return false;
        }
    }
    i->opcode = opcode;
    if (i->form == FORM_LEGACY && i->map == 0 && opcode >= 0xa0 && opcode <= 0xa3) {
        i->address = number(&r, i->short_addresses ? 4 : 8);
    } else if (is_string(i)) {
        if (i->short_addresses) return false;
    } else {
        if (!memory_operand(&r, i)) return false;
        const unsigned bytes = immediate_bytes(i);
        if (bytes > 0) i->immediate = (uint64_t)signed_number(&r, bytes);
    }
    i->next = (uint64_t)(uintptr_t)r.at;
    return r.left > 0 || i->next - (uint64_t)i->gregs[REG_RIP] == LONGEST;
}

#endif
