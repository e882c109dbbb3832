/*
 * A small part of an x86-64 processor: loads, stores and read-modify-writes, for memory that only
 * the engine can reach (Intel SDM vol. 2; what compilers and memcpy make of accesses to a BAR).
 */
#define _GNU_SOURCE
#include "cpu.h"

#ifdef __x86_64__

#include "decode.h"
#include "vectors.h"

#include <errno.h>
#include <string.h>

#define CARRY (1u << 0)
#define PARITY (1u << 2)
#define ADJUST (1u << 4)
#define ZERO (1u << 6)
#define SIGN (1u << 7)
#define DIRECTION (1u << 10)
#define OVERFLOW (1u << 11)
#define ARITHMETIC (CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW)

enum alu { ADD, OR, ADC, SBB, AND, SUB, XOR, CMP };

static uint64_t mask_of(unsigned size) {
    return size == 8 ? ~0ull : (1ull << (8 * size)) - 1;
}

static uint64_t extend(uint64_t value, unsigned size) {
    const unsigned shift = 64 - 8 * size;
    return (uint64_t)((int64_t)(value << shift) >> shift);
}

/* The result; `flags` become what the processor makes of it. */
static uint64_t compute(enum alu kind, uint64_t a, uint64_t b, unsigned size, greg_t *flags) {
    const uint64_t mask = mask_of(size), top = 1ull << (8 * size - 1);
    const uint64_t in = (kind == ADC || kind == SBB) ? (uint64_t)*flags & CARRY : 0;
    uint64_t result, out = 0;
    a &= mask;
    b &= mask;
    switch (kind) {
    case ADD: case ADC:
        result = (a + b + in) & mask;
        if (result < a || (in != 0 && result == a)) out |= CARRY;
        if (((a ^ result) & (b ^ result) & top) != 0) out |= OVERFLOW;
        if (((a ^ b ^ result) & 0x10) != 0) out |= ADJUST;
        break;
    case SUB: case SBB: case CMP:
        result = (a - b - in) & mask;
        if (a < b || (in != 0 && a == b)) out |= CARRY;
        if (((a ^ b) & (a ^ result) & top) != 0) out |= OVERFLOW;
        if (((a ^ b ^ result) & 0x10) != 0) out |= ADJUST;
        break;
    default:
        result = kind == AND ? a & b : kind == OR ? a | b : a ^ b;
    }
    if (result == 0) out |= ZERO;
    if ((result & top) != 0) out |= SIGN;
    if (__builtin_parity((unsigned)(result & 0xff)) == 0) out |= PARITY;
    *flags = (greg_t)(((uint64_t)*flags & ~(uint64_t)ARITHMETIC) | out);
    return result;
}

static bool condition(unsigned code, greg_t flags) {
    const bool less = ((flags & SIGN) != 0) != ((flags & OVERFLOW) != 0);
    bool holds = false;
    switch (code >> 1) {
    case 0: holds = (flags & OVERFLOW) != 0; break;
    case 1: holds = (flags & CARRY) != 0; break;
    case 2: holds = (flags & ZERO) != 0; break;
    case 3: holds = (flags & (CARRY | ZERO)) != 0; break;
    case 4: holds = (flags & SIGN) != 0; break;
    case 5: holds = (flags & PARITY) != 0; break;
    case 6: holds = less; break;
    default: holds = less || (flags & ZERO) != 0;
    }
    return holds != ((code & 1) != 0);
}

static int load(uint64_t address, unsigned size, uint64_t *value) {
    *value = 0;
    return vsva_peek(address, value, size);
}

static int store(uint64_t address, unsigned size, uint64_t value) {
    return vsva_poke(address, &value, size, false);
}

/* add, or, adc, sbb, and, sub, xor, cmp between memory and a register or an immediate. */
static int arithmetic(struct instruction *i, enum alu kind, unsigned size, uint64_t other,
                      bool to_register) {
    uint64_t memory;
    greg_t flags = i->gregs[REG_EFL];
    int error = load(i->address, size, &memory);
    if (error != 0) return error;
    if (to_register) {
        const uint64_t result = compute(kind, vsva_register(i, i->reg, size), memory, size, &flags);
        if (kind != CMP) vsva_set_register(i, i->reg, size, result);
    } else {
        const uint64_t result = compute(kind, memory, other, size, &flags);
        if (kind != CMP && (error = store(i->address, size, result)) != 0) return error;
    }
    i->gregs[REG_EFL] = flags;
    return 0;
}

/* movs, stos and lods, repeated or not. What was done before a fault stays done. */
static int string_operation(struct instruction *i, unsigned size) {
    greg_t *const g = i->gregs;
    const int64_t step = (g[REG_EFL] & DIRECTION) != 0 ? -(int64_t)size : (int64_t)size;
    const bool repeated = i->rep || i->repne;
    const unsigned kind = i->opcode & 0xfe;
    while (!repeated || g[REG_RCX] != 0) {
        uint64_t value = (uint64_t)g[REG_RAX];
        int error = 0;
        if (kind != 0xaa) error = load((uint64_t)g[REG_RSI], size, &value);
        if (error == 0 && kind != 0xac) error = store((uint64_t)g[REG_RDI], size, value);
        if (error != 0) return error;
        if (kind == 0xac) vsva_set_register(i, 0, size, value);
        if (kind != 0xaa) g[REG_RSI] += step;
        if (kind != 0xac) g[REG_RDI] += step;
        if (!repeated) break;
        g[REG_RCX]--;
    }
    return 0;
}

/* One-operand groups F6, F7, FE, FF on memory. */
static int unary(struct instruction *i, unsigned size, bool group5) {
    const unsigned kind = i->modrm >> 3 & 7;
    greg_t flags = i->gregs[REG_EFL];
    uint64_t value;
    if (kind > (group5 ? 1 : 3)) return -ENOSYS;
    int error = load(i->address, size, &value);
    if (error != 0) return error;
    if (group5) { /* inc and dec leave the carry */
        const greg_t carry = flags & CARRY;
        value = compute(kind == 0 ? ADD : SUB, value, 1, size, &flags);
        flags = (flags & ~(greg_t)CARRY) | carry;
    } else if (kind < 2) {
        compute(AND, value, i->immediate, size, &flags);
    } else {
        value = kind == 2 ? ~value : compute(SUB, 0, value, size, &flags);
    }
    if ((group5 || kind >= 2) && (error = store(i->address, size, value)) != 0) return error;
    i->gregs[REG_EFL] = flags;
    return 0;
}

static int exchange(struct instruction *i, unsigned size) {
    uint64_t value;
    int error = load(i->address, size, &value);
    if (error == 0) error = store(i->address, size, vsva_register(i, i->reg, size));
    if (error == 0) vsva_set_register(i, i->reg, size, value);
    return error;
}

static int compare_exchange(struct instruction *i, unsigned size) {
    uint64_t value;
    greg_t flags = i->gregs[REG_EFL];
    int error = load(i->address, size, &value);
    if (error != 0) return error;
    compute(CMP, vsva_register(i, 0, size), value, size, &flags);
    if ((flags & ZERO) != 0) {
        if ((error = store(i->address, size, vsva_register(i, i->reg, size))) != 0) return error;
    } else {
        vsva_set_register(i, 0, size, value);
    }
    i->gregs[REG_EFL] = flags;
    return 0;
}

static int exchange_add(struct instruction *i, unsigned size) {
    uint64_t value;
    greg_t flags = i->gregs[REG_EFL];
    int error = load(i->address, size, &value);
    if (error != 0) return error;
    const uint64_t sum = compute(ADD, value, vsva_register(i, i->reg, size), size, &flags);
    if ((error = store(i->address, size, sum)) != 0) return error;
    vsva_set_register(i, i->reg, size, value);
    i->gregs[REG_EFL] = flags;
    return 0;
}

/* bt, bts, btr, btc: the register form reaches words beyond the operand's. */
static int bit_operation(struct instruction *i, unsigned size, unsigned kind, int64_t bit) {
    const int64_t bits = 8 * (int64_t)size;
    const int64_t word = bit >= 0 ? bit / bits : -((-bit + bits - 1) / bits);
    const uint64_t address = i->address + (uint64_t)(word * (int64_t)size);
    const uint64_t one = 1ull << (bit & (bits - 1));
    uint64_t value;
    int error = load(address, size, &value);
    if (error != 0) return error;
    const bool was = (value & one) != 0;
    if (kind == 1) value |= one;
    else if (kind == 2) value &= ~one;
    else if (kind == 3) value ^= one;
    if (kind != 0 && (error = store(address, size, value)) != 0) return error;
    i->gregs[REG_EFL] = (i->gregs[REG_EFL] & ~(greg_t)CARRY) | (was ? CARRY : 0);
    return 0;
}

static int one_byte(struct instruction *i) {
    const unsigned opcode = i->opcode;
    const unsigned size = (opcode & 1) == 0 ? 1 : i->size;
    uint64_t value;
    int error;
    if (opcode < 0x40 && (opcode & 7) < 4) {
        return arithmetic(i, (enum alu)(opcode >> 3), size, vsva_register(i, i->reg, size),
                          (opcode & 2) != 0);
    }
    switch (opcode) {
    case 0x63:
        if ((error = load(i->address, 4, &value)) != 0) return error;
        vsva_set_register(i, i->reg, i->size, extend(value, 4));
        return 0;
    case 0x80: case 0x81: case 0x83:
        return arithmetic(i, (enum alu)(i->modrm >> 3 & 7), size, i->immediate, false);
    case 0x84: case 0x85:
        if ((error = load(i->address, size, &value)) != 0) return error;
        compute(AND, value, vsva_register(i, i->reg, size), size, &i->gregs[REG_EFL]);
        return 0;
    case 0x86: case 0x87:
        return exchange(i, size);
    case 0x88: case 0x89:
        return store(i->address, size, vsva_register(i, i->reg, size));
    case 0x8a: case 0x8b: case 0xa0: case 0xa1:
        if ((error = load(i->address, size, &value)) != 0) return error;
        vsva_set_register(i, opcode < 0xa0 ? i->reg : 0, size, value);
        return 0;
    case 0xa2: case 0xa3:
        return store(i->address, size, vsva_register(i, 0, size));
    case 0xa4: case 0xa5: case 0xaa: case 0xab: case 0xac: case 0xad:
        return string_operation(i, size);
    case 0xc6: case 0xc7:
        return (i->modrm >> 3 & 7) == 0 ? store(i->address, size, i->immediate) : -ENOSYS;
    case 0xf6: case 0xf7:
        return unary(i, size, false);
    case 0xfe: case 0xff:
        return unary(i, size, true);
    default:
        return -ENOSYS;
    }
}

static int load_vector(struct instruction *i, unsigned bytes) {
    uint8_t value[64] = {0};
    const int error = vsva_peek(i->address, value, bytes);
    if (error == 0) vsva_write_vector(i->context, i->reg, value, i->form != FORM_LEGACY);
    return error;
}

static int store_vector(struct instruction *i, unsigned from, unsigned bytes) {
    uint8_t value[64];
    vsva_read_vector(i->context, i->reg, value);
    return vsva_poke(i->address, value + from, bytes, false);
}

/* movlps, movhps and their pd forms: one half of a register of 16 bytes. */
static int half_vector(struct instruction *i, bool high, bool to_memory) {
    uint8_t value[64];
    if (to_memory) return store_vector(i, high ? 8 : 0, 8);
    if (i->form != FORM_LEGACY) return -ENOSYS;
    vsva_read_vector(i->context, i->reg, value);
    const int error = vsva_peek(i->address, value + (high ? 8 : 0), 8);
    if (error == 0) vsva_write_vector(i->context, i->reg, value, false);
    return error;
}

/* Moves of vectors in the 0F map; -ENOSYS: another instruction. */
static int vector_move(struct instruction *i) {
    const unsigned scalar = i->prefix == PREFIX_F3 ? 4 : i->prefix == PREFIX_F2 ? 8 : i->vector;
    const unsigned wide = i->wide ? 8 : 4;
    switch (i->opcode) {
    case 0x10: return load_vector(i, scalar);
    case 0x11: return store_vector(i, 0, scalar);
    case 0x12: case 0x16: return half_vector(i, i->opcode == 0x16, false);
    case 0x13: case 0x17: return half_vector(i, i->opcode == 0x17, true);
    case 0x28: return load_vector(i, i->vector);
    case 0x29: case 0x2b: return store_vector(i, 0, i->vector);
    case 0x6e: return i->prefix == PREFIX_66 ? load_vector(i, wide) : -ENOSYS;
    case 0x6f: return i->prefix != PREFIX_NONE ? load_vector(i, i->vector) : -ENOSYS;
    case 0x7e:
        if (i->prefix == PREFIX_F3) return load_vector(i, 8);
        return i->prefix == PREFIX_66 ? store_vector(i, 0, wide) : -ENOSYS;
    case 0x7f: return i->prefix != PREFIX_NONE ? store_vector(i, 0, i->vector) : -ENOSYS;
    case 0xd6: return i->prefix == PREFIX_66 ? store_vector(i, 0, 8) : -ENOSYS;
    case 0xe7: return i->prefix == PREFIX_66 ? store_vector(i, 0, i->vector) : -ENOSYS;
    case 0xf0: return i->prefix == PREFIX_F2 ? load_vector(i, i->vector) : -ENOSYS;
    default: return -ENOSYS;
    }
}

static int two_byte(struct instruction *i) {
    const unsigned opcode = i->opcode;
    uint64_t value;
    int error;
    if (opcode >= 0x40 && opcode < 0x50) {
        if ((error = load(i->address, i->size, &value)) != 0) return error;
        if (!condition(opcode & 15, i->gregs[REG_EFL])) value = vsva_register(i, i->reg, i->size);
        vsva_set_register(i, i->reg, i->size, value);
        return 0;
    }
    if (opcode >= 0x90 && opcode < 0xa0) {
        return store(i->address, 1, condition(opcode & 15, i->gregs[REG_EFL]));
    }
    const unsigned size = (opcode & 1) == 0 ? 1 : i->size;
    switch (opcode) {
    case 0xa3: case 0xab: case 0xb3: case 0xbb:
        return bit_operation(i, i->size, opcode >> 3 & 3,
                             (int64_t)extend(vsva_register(i, i->reg, i->size), i->size));
    case 0xba:
        if ((i->modrm >> 3 & 7) < 4) return -ENOSYS;
        return bit_operation(i, i->size, i->modrm >> 3 & 3,
                             (int64_t)(i->immediate & (8 * i->size - 1)));
    case 0xb0: case 0xb1:
        return compare_exchange(i, size);
    case 0xc0: case 0xc1:
        return exchange_add(i, size);
    case 0xb6: case 0xb7: case 0xbe: case 0xbf: {
        const unsigned from = (opcode & 1) == 0 ? 1 : 2;
        if ((error = load(i->address, from, &value)) != 0) return error;
        if (opcode >= 0xbe) value = extend(value, from);
        vsva_set_register(i, i->reg, i->size, value);
        return 0;
    }
    case 0xc3:
        return store(i->address, i->size, vsva_register(i, i->reg, i->size));
    default:
        return vector_move(i);
    }
}

/* The 0F 38 map: direct stores, movbe, movntdqa. */
static int three_byte(struct instruction *i) {
    uint64_t value;
    int error;
    switch (i->opcode) {
    case 0x2a:
        return i->prefix == PREFIX_66 ? load_vector(i, i->vector) : -ENOSYS;
    case 0xf0:
        if ((error = load(i->address, i->size, &value)) != 0) return error;
        vsva_set_register(i, i->reg, i->size, __builtin_bswap64(value) >> (64 - 8 * i->size));
        return 0;
    case 0xf1:
        value = __builtin_bswap64(vsva_register(i, i->reg, i->size)) >> (64 - 8 * i->size);
        return store(i->address, i->size, value);
    case 0xf8: {
        /* ENQCMD takes the thread's PASID, and a thread without one, as all here are, gets #GP. */
        if (i->prefix != PREFIX_66) return -EINVAL;
        uint8_t bytes[64];
        const uint64_t to = vsva_register(i, i->reg, i->short_addresses ? 4 : 8);
        if ((to & 63) != 0) return -EINVAL;
        error = vsva_peek(i->address, bytes, sizeof(bytes));
        return error != 0 ? error : vsva_poke(to, bytes, sizeof(bytes), true);
    }
    case 0xf9: {
        const unsigned size = i->wide ? 8 : 4;
        return store(i->address, size, vsva_register(i, i->reg, size));
    }
    default:
        return -ENOSYS;
    }
}

static int dispatch(struct instruction *i) {
    if (i->form != FORM_LEGACY) {
        if (i->map == 2) return i->opcode == 0x2a ? three_byte(i) : -ENOSYS;
        return i->map == 1 ? vector_move(i) : -ENOSYS;
    }
    if (i->map == 0) return one_byte(i);
    return i->map == 1 ? two_byte(i) : three_byte(i);
}

int vsva_execute(ucontext_t *context) {
    struct instruction i;
    if (!vsva_decode(context, &i)) return -ENOSYS;
    const int error = dispatch(&i);
    if (error == 0) context->uc_mcontext.gregs[REG_RIP] = (greg_t)i.next;
    return error;
}

bool vsva_is_direct_store(const ucontext_t *context) {
    struct instruction i;
    return vsva_decode((ucontext_t *)(uintptr_t)context, &i) && i.form == FORM_LEGACY &&
           i.map == 2 && (i.opcode == 0xf8 || (i.opcode == 0xf9 && i.prefix == PREFIX_NONE));
}

#endif
