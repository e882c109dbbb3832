/* An x86-64 instruction taken apart. */
#ifndef VSVA_DECODE_H
#define VSVA_DECODE_H

#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

enum form { FORM_LEGACY, FORM_VEX, FORM_EVEX };
enum prefix { PREFIX_NONE, PREFIX_66, PREFIX_F3, PREFIX_F2 };

struct instruction {
    ucontext_t *context;
    greg_t *gregs;
    enum form form;
    enum prefix prefix;
    unsigned map; /* 0: one byte, 1: 0F, 2: 0F 38 */
    uint8_t opcode, modrm;
    unsigned rex;
    bool rep, repne, wide, short_addresses;
    unsigned size;   /* operand bytes of forms that are not for bytes */
    unsigned vector; /* bytes of a vector */
    unsigned reg;    /* the register operand, extended */
    uint64_t address; /* of the memory operand */
    uint64_t immediate;
    uint64_t next;
};

/* False: no form with a memory operand that is known here. */
bool vsva_decode(ucontext_t *context, struct instruction *into);

/* A general register, zero-extended; without REX, 4 to 7 of size 1 are AH to BH. */
uint64_t vsva_register(const struct instruction *i, unsigned number, unsigned size);
void vsva_set_register(struct instruction *i, unsigned number, unsigned size, uint64_t value);

#endif
