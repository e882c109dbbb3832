/*
 * Each instruction runs twice from the same registers and memory: on ordinary memory, by the
 * processor, and on memory that faults, by vsva_execute. Registers, flags and memory must agree.
 */
#define _GNU_SOURCE
#include "cpu.h"

#include <errno.h>
#include <immintrin.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096
#define WIDEST 64

struct state {
    uint64_t rax, rcx, rdx, rbx, rsi, rdi, r8, r9, flags;
    uint8_t vectors[2][WIDEST];
};

static uint8_t *ordinary, *hidden, *trapped;
static unsigned long done, failed, executed;
static struct state state;

static uint8_t *shadow(uint64_t address, size_t bytes) {
    const uint64_t base = (uint64_t)(uintptr_t)trapped;
    if (address < base || address + bytes > base + PAGE) return NULL;
    return hidden + (address - base);
}

int vsva_peek(uint64_t address, void *into, size_t bytes) {
    const uint8_t *at = shadow(address, bytes);
    memcpy(into, at != NULL ? at : (const uint8_t *)address, bytes);
    return 0;
}

int vsva_poke(uint64_t address, const void *from, size_t bytes, bool whole) {
    uint8_t *at = shadow(address, bytes);
    if (whole && (bytes != 64 || address % 64 != 0)) return -EFAULT;
    memcpy(at != NULL ? at : (uint8_t *)address, from, bytes);
    return 0;
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)info;
    const ucontext_t *at = context;
    const uint8_t *code = (const uint8_t *)at->uc_mcontext.gregs[REG_RIP];
    executed++;
    if (vsva_execute(context) == 0) return;
    fprintf(stderr, "signal %d: not carried out:", signal);
    for (int n = 0; n < 12; n++) fprintf(stderr, " %02x", code[n]);
    fprintf(stderr, "\n");
    _exit(3);
}

static uint64_t seed = 88172645463325252ull;
static uint64_t next(void) {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void fill(void *into, size_t bytes) {
    uint8_t *at = into;
    for (size_t n = 0; n < bytes; n++) at[n] = (uint8_t)next();
}

#define FLAGS 0x8d5ull

/* r10 is the memory operand; vectors are registers 1 and 2. */
#define RUN(text, address)                                                                         \
    do {                                                                                           \
        register uint64_t r10 __asm__("r10") = (uint64_t)(uintptr_t)(address);                     \
        register struct state *r11 __asm__("r11") = &state;                                        \
        __asm__ volatile(LOAD_VECTORS "pushq 64(%%r11)\n popfq\n"                                  \
                         "movq 0(%%r11), %%rax\n movq 8(%%r11), %%rcx\n movq 16(%%r11), %%rdx\n"   \
                         "movq 24(%%r11), %%r12\n movq 32(%%r11), %%rsi\n movq 40(%%r11), %%rdi\n" \
                         "movq 48(%%r11), %%r8\n movq 56(%%r11), %%r9\n xchgq %%rbx, %%r12\n"      \
                         text "\n"                                                                 \
                         "xchgq %%rbx, %%r12\n"                                                    \
                         "movq %%rax, 0(%%r11)\n movq %%rcx, 8(%%r11)\n movq %%rdx, 16(%%r11)\n"   \
                         "movq %%r12, 24(%%r11)\n movq %%rsi, 32(%%r11)\n movq %%rdi, 40(%%r11)\n" \
                         "movq %%r8, 48(%%r11)\n movq %%r9, 56(%%r11)\n"                           \
                         "pushfq\n popq 64(%%r11)\n cld\n" STORE_VECTORS                           \
                         : "+r"(r10), "+r"(r11)                                                    \
                         :                                                                         \
                         : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r12", "memory", "cc",   \
                           "xmm1", "xmm2");                                                        \
    } while (0)

static void compare(const char *text, const struct state *start, const struct state *cpu) {
    struct state ours = state, theirs = *cpu;
    const uint64_t delta = (uint64_t)(trapped - ordinary);
    /* Pointers of string instructions went through different memory. */
    if (start->rdi == (uint64_t)(uintptr_t)trapped + 512) ours.rdi -= delta;
    if (start->rsi == (uint64_t)(uintptr_t)trapped + 1024) ours.rsi -= delta;
    ours.flags &= FLAGS;
    theirs.flags &= FLAGS;
    done++;
    if (memcmp(&ours, &theirs, sizeof(ours)) == 0 && memcmp(ordinary, hidden, PAGE) == 0) return;
    failed++;
    fprintf(stderr, "%s: rax %lx/%lx rcx %lx/%lx rdi %lx/%lx rsi %lx/%lx flags %lx/%lx%s%s\n", text,
            ours.rax, theirs.rax, ours.rcx, theirs.rcx, ours.rdi, theirs.rdi, ours.rsi, theirs.rsi,
            ours.flags, theirs.flags,
            memcmp(ours.vectors, theirs.vectors, sizeof(ours.vectors)) != 0 ? " vectors" : "",
            memcmp(ordinary, hidden, PAGE) != 0 ? " memory" : "");
}

static void prepare(uint64_t count) {
    fill(ordinary, PAGE);
    memcpy(hidden, ordinary, PAGE);
    fill(&state, sizeof(state));
    state.flags = (next() & FLAGS) | 0x202;
    state.rcx = count != 0 ? count : state.rcx;
    /* Half of the time what is compared is equal. */
    if ((next() & 1) != 0) memcpy(&state.rax, ordinary + 256, 8);
}

#define TEST_WITH(text, count, strings)                                                            \
    for (int round = 0; round < 40; round++) {                                                     \
        prepare(count);                                                                            \
        if (strings) {                                                                             \
            state.rdi = (uint64_t)(uintptr_t)ordinary + 512;                                       \
            state.rsi = (uint64_t)(uintptr_t)ordinary + 1024;                                      \
        }                                                                                          \
        struct state start = state;                                                                \
        RUN(text, ordinary + 256);                                                                 \
        const struct state cpu = state;                                                            \
        if (strings) {                                                                             \
            start.rdi = (uint64_t)(uintptr_t)trapped + 512;                                        \
            start.rsi = (uint64_t)(uintptr_t)trapped + 1024;                                       \
        }                                                                                          \
        state = start;                                                                             \
        RUN(text, trapped + 256);                                                                  \
        compare(text, &start, &cpu);                                                               \
    }
#define TEST(text) TEST_WITH(text, 0, false)
#define STRING(text) TEST_WITH(text, 7, true)

#define SIZES(name, suffix_b, suffix_w, suffix_l, suffix_q)                                        \
    TEST(name "b " suffix_b) TEST(name "w " suffix_w) TEST(name "l " suffix_l)                     \
    TEST(name "q " suffix_q)
#define TO_MEMORY(name) SIZES(name, "%%al, (%%r10)", "%%dx, (%%r10)", "%%r8d, (%%r10)", "%%r9, (%%r10)")
#define FROM_MEMORY(name) SIZES(name, "(%%r10), %%dl", "(%%r10), %%cx", "(%%r10), %%r9d", "(%%r10), %%r8")
#define IMMEDIATE(name) SIZES(name, "$0x85, (%%r10)", "$0x8001, (%%r10)", "$0x80000001, (%%r10)", "$-5, (%%r10)")
#define ALONE(name) SIZES(name, "(%%r10)", "(%%r10)", "(%%r10)", "(%%r10)")
#define ARITHMETIC(name) TO_MEMORY(name) FROM_MEMORY(name) IMMEDIATE(name)

#define LOAD_VECTORS "movdqu 72(%%r11), %%xmm1\n movdqu 136(%%r11), %%xmm2\n"
#define STORE_VECTORS "movdqu %%xmm1, 72(%%r11)\n movdqu %%xmm2, 136(%%r11)\n"

/* With a REX prefix, which r10 needs, there are no such registers. */
#define HIGH_BYTE(text) "movq %%r10, %%rdi\n " text "\n movl $0, %%edi"

static void integers(void) {
    ARITHMETIC("add") ARITHMETIC("or") ARITHMETIC("adc") ARITHMETIC("sbb")
    ARITHMETIC("and") ARITHMETIC("sub") ARITHMETIC("xor") ARITHMETIC("cmp")
    TO_MEMORY("mov") FROM_MEMORY("mov") TO_MEMORY("test") TO_MEMORY("xchg")
    SIZES("mov", "$0x7f, (%%r10)", "$0x1234, (%%r10)", "$0x89abcdef, (%%r10)", "$-2, (%%r10)")
    SIZES("test", "$0x81, (%%r10)", "$0x8001, (%%r10)", "$0x80000001, (%%r10)", "$-5, (%%r10)")
    ALONE("not") ALONE("neg") ALONE("inc") ALONE("dec") ALONE("lock; inc")
    TO_MEMORY("cmpxchg") TO_MEMORY("lock; cmpxchg") TO_MEMORY("xadd")
    TEST(HIGH_BYTE("movb %%ah, (%%rdi)")) TEST(HIGH_BYTE("movb (%%rdi), %%ch"))
    TEST(HIGH_BYTE("addb %%dh, 8(%%rdi)"))
    TEST("movl -16(%%r10), %%ecx") TEST("movq 0x200(%%r10), %%rax") TEST("movw %%ax, 3(%%r10)")
    TEST("andl $15, %%ecx\n movl (%%r10, %%rcx, 4), %%eax")
    TEST("movzbl (%%r10), %%eax") TEST("movzwl (%%r10), %%r9d") TEST("movzbq (%%r10), %%rdx")
    TEST("movsbl (%%r10), %%eax") TEST("movswq (%%r10), %%r8") TEST("movslq (%%r10), %%rcx")
    TEST("movsbw (%%r10), %%ax") TEST("movnti %%eax, (%%r10)") TEST("movnti %%r9, (%%r10)")
    TEST("cmovnel (%%r10), %%eax") TEST("cmovgq (%%r10), %%r8") TEST("cmovbw (%%r10), %%cx")
    TEST("setc (%%r10)") TEST("setle (%%r10)") TEST("setnp (%%r10)")
    TEST("movbel (%%r10), %%eax") TEST("movbeq %%rdx, (%%r10)") TEST("movbew (%%r10), %%cx")
}

/* Of bt and its kind only the carry is defined. */
#define BITS(text) TEST(text "\n setc %%al\n testb %%al, %%al")

static void bits(void) {
    BITS("btl $37, (%%r10)") BITS("btsq $37, (%%r10)") BITS("btrw $5, (%%r10)")
    BITS("btcl $31, (%%r10)") BITS("andl $511, %%ecx\n subl $200, %%ecx\n btsl %%ecx, (%%r10)")
    BITS("andl $511, %%ecx\n btrq %%rcx, (%%r10)")
}

static void strings(void) {
    STRING("rep movsb") STRING("rep movsq") STRING("movsl") STRING("rep stosb") STRING("stosw")
    STRING("rep stosq") STRING("lodsb") STRING("lodsq") STRING("std\n rep movsl\n cld")
}

static void vectors(void) {
    TEST("movdqu (%%r10), %%xmm1") TEST("movdqu %%xmm2, 5(%%r10)") TEST("movups (%%r10), %%xmm2")
    TEST("movaps %%xmm1, (%%r10)") TEST("movdqa (%%r10), %%xmm2") TEST("movupd %%xmm1, (%%r10)")
    TEST("movq (%%r10), %%xmm1") TEST("movq %%xmm1, (%%r10)") TEST("movd (%%r10), %%xmm2")
    TEST("movd %%xmm2, (%%r10)") TEST("movss (%%r10), %%xmm1") TEST("movss %%xmm1, (%%r10)")
    TEST("movsd (%%r10), %%xmm2") TEST("movsd %%xmm2, (%%r10)") TEST("movhps (%%r10), %%xmm1")
    TEST("movhps %%xmm1, (%%r10)") TEST("movlps (%%r10), %%xmm2") TEST("movlps %%xmm2, (%%r10)")
    TEST("movntdq %%xmm1, (%%r10)") TEST("movntps %%xmm2, (%%r10)") TEST("lddqu (%%r10), %%xmm1")
    TEST("movntdqa (%%r10), %%xmm2")
}

#undef LOAD_VECTORS
#undef STORE_VECTORS
#define LOAD_VECTORS "vmovdqu 72(%%r11), %%ymm1\n vmovdqu 136(%%r11), %%ymm2\n"
#define STORE_VECTORS "vmovdqu %%ymm1, 72(%%r11)\n vmovdqu %%ymm2, 136(%%r11)\n"

static void avx(void) {
    TEST("vmovdqu (%%r10), %%ymm1") TEST("vmovdqu %%ymm2, 5(%%r10)") TEST("vmovups (%%r10), %%xmm2")
    TEST("vmovdqa %%ymm1, (%%r10)") TEST("vmovq (%%r10), %%xmm1") TEST("vmovd %%xmm2, (%%r10)")
    TEST("vmovntdq %%ymm1, (%%r10)") TEST("vmovaps (%%r10), %%ymm2") TEST("vmovss (%%r10), %%xmm1")
    TEST("vmovsd %%xmm2, (%%r10)") TEST("vmovdqu %%xmm1, (%%r10)") TEST("movdqu (%%r10), %%xmm1")
    TEST("vmovhps %%xmm1, (%%r10)")
}

#undef LOAD_VECTORS
#undef STORE_VECTORS
#define LOAD_VECTORS                                                                               \
    "vmovdqu64 72(%%r11), %%zmm1\n vmovdqu64 136(%%r11), %%zmm2\n"                                 \
    "vmovdqu64 72(%%r11), %%zmm17\n"
#define STORE_VECTORS                                                                              \
    "vpxorq %%zmm17, %%zmm1, %%zmm1\n"                                                             \
    "vmovdqu64 %%zmm1, 72(%%r11)\n vmovdqu64 %%zmm2, 136(%%r11)\n vzeroupper\n"

static void avx512(void) {
    TEST("vmovdqu64 (%%r10), %%zmm1") TEST("vmovdqu64 %%zmm2, 64(%%r10)")
    TEST("vmovdqu64 (%%r10), %%zmm17") TEST("vmovdqu64 %%zmm17, -128(%%r10)")
    TEST("vmovdqu64 32(%%r10), %%ymm17") TEST("vmovdqu8 %%ymm17, 3(%%r10)")
    TEST("vmovdqu32 16(%%r10), %%xmm17") TEST("vmovups %%zmm1, (%%r10)")
    TEST("vmovntdq %%zmm2, (%%r10)") TEST("vmovdqu (%%r10), %%ymm2") TEST("movdqu (%%r10), %%xmm1")
}

/* What this processor may not have: MOVDIR64B, MOVDIRI; and the refusal of ENQCMD. */
static void direct_stores(void) {
    static uint8_t descriptor[64];
    fill(descriptor, sizeof(descriptor));
    prepare(0);
    __asm__ volatile(".byte 0x66, 0x0f, 0x38, 0xf8, 0x02" /* movdir64b (%rdx), %rax */
                     : : "a"(trapped + 128), "d"(descriptor) : "memory");
    __asm__ volatile(".byte 0x0f, 0x38, 0xf9, 0x08" /* movdiri %ecx, (%rax) */
                     : : "a"(trapped + 320), "c"(0x12345678) : "memory");
    done += 2;
    const uint32_t word = 0x12345678;
    if (memcmp(hidden + 128, descriptor, 64) != 0 || memcmp(hidden + 320, &word, 4) != 0) {
        failed++;
        fprintf(stderr, "direct stores\n");
    }
}

int main(void) {
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    ordinary = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, anonymous, -1, 0);
    hidden = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, anonymous, -1, 0);
    trapped = mmap(NULL, PAGE, PROT_NONE, anonymous, -1, 0);
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    integers();
    bits();
    strings();
    vectors();
    if (__builtin_cpu_supports("avx")) avx();
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) avx512();
    direct_stores();
    printf("%lu compared, %lu carried out, %lu differ\n", done, executed, failed);
    return failed != 0 ? 1 : executed < done ? 2 : 0;
}
