/*
 * A plain VT-d walker, for the ratio only: root, context, PASID directory, PASID entry, then four
 * levels on four, with the checks of the specification and caches of the sizes that the model has.
 *
 *   walker MEMORY ROOT LIST...    MEMORY: physical memory from address 0; LIST: struct request[]
 *
 * Each line "LIST COUNT" on the standard input runs COUNT translations of that list, going round
 * in it, and answers with the nanoseconds that they took.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

struct request { int32_t sid, pasid; uint64_t vpn; };
struct context { uint64_t directory; uint32_t sid, pasids, live; };
struct pasid { uint64_t fs, ss, ss_pages; uint32_t sid, pasid, did, pgtt, live; };
struct tlb { uint64_t vpn, who, pfn; uint32_t flags, did; };
struct result { uint64_t pfn; uint32_t flags, fault; };

enum { P = 1, RW = 2, US = 4, A = 0x20, D = 0x40, PS = 0x80, R = 1, W = 2, SNP = 0x800 };
enum { WAYS = 4, TLBS = 1024, CONTEXTS = 128, PASIDS = 256 };

static const uint64_t FRAME = 0x000ffffffffff000, HAW = 1ull << 46, BIT62 = 1ull << 62;
static const uint64_t LIVE = 1ull << 63, PASID_RESERVED = 0x0000000000000c22;

static uint64_t *memory, bytes, root;
static struct context contexts[CONTEXTS][WAYS];
static struct pasid pasids[PASIDS][WAYS];
static struct tlb tlbs[TLBS][WAYS];
static uint8_t context_victim[CONTEXTS], pasid_victim[PASIDS], tlb_victim[TLBS];
static struct result result;

static int load(uint64_t address, uint64_t *entry) {
  if (address >= bytes) return 0;
  *entry = memory[address >> 3];
  return 1;
}

static struct context *find_context(uint32_t sid) {
  uint32_t set = (sid ^ sid >> 7) % CONTEXTS;
  for (int i = 0; i < WAYS; i++)
    if (contexts[set][i].live && contexts[set][i].sid == sid) return &contexts[set][i];
  uint64_t entry, low, high, rest;
  if (!load(root + (sid >> 8) * 16 + (sid & 0x80 ? 8 : 0), &entry)) return NULL;
  if (!(entry & P) || (entry & (0xffe | ~(HAW - 1)))) return NULL;
  uint64_t at = (entry & FRAME) + (sid & 0x7f) * 32;
  if (!load(at, &low) || !load(at + 8, &high) || !load(at + 16, &rest)) return NULL;
  if (!(low & P) || (low & (0x1e0 | ~(HAW - 1))) || high >> 20 || rest) return NULL;
  if (!load(at + 24, &rest) || rest) return NULL;
  struct context *c = &contexts[set][context_victim[set]++ % WAYS];
  *c = (struct context){ low & FRAME, sid, 1u << (13 + (low >> 9 & 7)), 1 };
  return c;
}

static struct pasid *find_pasid(struct context *c, uint32_t pasid) {
  uint32_t set = (pasid ^ pasid >> 8 ^ c->sid * 0x1d) % PASIDS;
  for (int i = 0; i < WAYS; i++) {
    struct pasid *p = &pasids[set][i];
    if (p->live && p->pasid == pasid && p->sid == c->sid) return p;
  }
  uint64_t entry, q[8];
  if (pasid >= c->pasids || !load(c->directory + (pasid >> 6) * 8, &entry)) return NULL;
  if (!(entry & P) || (entry & (0xffc | ~(HAW - 1)))) return NULL;
  for (int i = 0; i < 8; i++)
    if (!load((entry & FRAME) + (pasid & 63) * 64 + i * 8, &q[i])) return NULL;
  if (!(q[0] & P) || (q[0] & PASID_RESERVED) || q[3] || q[4] || q[5] || q[6] || q[7]) return NULL;
  uint32_t pgtt = q[0] >> 6 & 7, aw = q[0] >> 2 & 7;
  if (pgtt != 3 || aw != 2 || (q[2] & 0xc) || (q[0] & FRAME) >= HAW) return NULL;
  struct pasid *p = &pasids[set][pasid_victim[set]++ % WAYS];
  *p = (struct pasid){ q[2] & FRAME, q[0] & FRAME, 1ull << 36, c->sid, pasid,
                       q[1] & 0xffff, pgtt, 1 };
  return p;
}

/* The second stage: a guest frame to a host frame. */
static int second(struct pasid *p, uint64_t gfn, uint64_t *pfn, uint64_t *access) {
  uint64_t table = p->ss, granted = R | W, entry;
  if (gfn >= p->ss_pages) return 0x84;
  for (int level = 3; level >= 0; level--) {
    if (!load(table + (gfn >> 9 * level & 511) * 8, &entry)) return 0x79;
    granted &= entry;
    if (!granted) return 0x78;
    if ((entry & FRAME) >= HAW || (entry & BIT62) || (level && (entry & SNP))) return 0x7a;
    table = entry & FRAME;
    if (level && (entry & PS)) {
      uint64_t low = (1ull << 9 * level) - 1;
      if (level > 2 || (table >> 12 & low)) return 0x7a;
      table |= (gfn & low) << 12;
      break;
    }
  }
  *pfn = table >> 12;
  *access = granted;
  return 0;
}

static int walk(struct pasid *p, uint64_t vpn, int write, uint64_t *pfn, uint32_t *flags) {
  uint64_t gfn = p->fs >> 12, table, access, all = ~0ull, entry;
  if (vpn >> 35 && vpn >> 35 != 0x1ffff) return 0x80;
  for (int level = 3; level >= 0; level--) {
    int fault = second(p, gfn, &table, &access);
    if (fault) return fault;
    if (!(access & R)) return 0x75;
    uint64_t at = (table << 12) + (vpn >> 9 * level & 511) * 8;
    if (!load(at, &entry)) return 0x70;
    if (!(entry & P)) return 0x71;
    if ((entry & FRAME) >= HAW) return 0x72;
    if (!(entry & A)) {
      if (!(access & W)) return 0x76;
      __atomic_fetch_or(&memory[at >> 3], A, __ATOMIC_SEQ_CST);
    }
    all &= entry;
    gfn = (entry & FRAME) >> 12;
    if (level && (entry & PS)) {
      uint64_t low = (1ull << 9 * level) - 1;
      if (level > 2 || (gfn & low & ~1)) return 0x72;
      gfn = (gfn & ~low) | (vpn & low);
      break;
    }
  }
  if (!(all & US)) return 0x81;
  if (write && !(all & RW)) return 0x82;
  int fault = second(p, gfn, &table, &access);
  if (fault) return fault;
  if (!(access & (write ? W : R))) return 0x82;
  *pfn = table;
  *flags = (access & R) | ((access & W) && (all & RW) && (entry & D) ? W : 0);
  return 0;
}

__attribute__((noinline)) static int translate(uint32_t sid, uint32_t pasid, uint64_t vpn,
                                               int write) {
  uint64_t who = (uint64_t)sid << 32 | pasid | LIVE;
  uint32_t set = (vpn ^ vpn >> 10 ^ pasid * 0x25) % TLBS;
  struct tlb *t = tlbs[set];
  for (int i = 0; i < WAYS; i++)
    if (t[i].vpn == vpn && t[i].who == who && (t[i].flags & (write ? W : R))) {
      result = (struct result){ t[i].pfn, t[i].flags, 0 };
      return 1;
    }
  struct context *c = find_context(sid);
  struct pasid *p = c ? find_pasid(c, pasid) : NULL;
  uint64_t pfn = 0;
  uint32_t flags = 0;
  int fault = p ? walk(p, vpn, write, &pfn, &flags) : 0x58;
  if (!fault && pfn >= 0xfee00 && pfn <= 0xfeeff) fault = 0x87;
  result = (struct result){ pfn, flags, fault };
  if (fault) return 0;
  t[tlb_victim[set]++ % WAYS] = (struct tlb){ vpn, who, pfn, flags, p->did };
  return 1;
}

static void *map(const char *path, uint64_t *length) {
  struct stat s;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &s)) exit(2);
  *length = s.st_size;
  void *at = mmap(NULL, s.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  if (at == MAP_FAILED) exit(2);
  return at;
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int main(int argc, char **argv) {
  struct { struct request *at; uint64_t count, next; } lists[16];
  memory = map(argv[1], &bytes);
  root = strtoull(argv[2], NULL, 0);
  for (int i = 3; i < argc && i < 19; i++) {
    lists[i - 3].at = map(argv[i], &lists[i - 3].count);
    lists[i - 3].count /= sizeof(struct request);
    lists[i - 3].next = 0;
  }
  unsigned list;
  uint64_t count;
  while (scanf("%u %lu", &list, &count) == 2) {
    struct request *at = lists[list].at;
    uint64_t next = lists[list].next, end = lists[list].count, sum = 0, start = now();
    for (uint64_t i = 0; i < count; i++) {
      struct request r = at[next];
      next = next + 1 < end ? next + 1 : 0;
      if (!translate(r.sid, r.pasid, r.vpn, 1)) {
        fprintf(stderr, "page %lu: fault 0x%x\n", (unsigned long)r.vpn, result.fault);
        return 1;
      }
      sum += result.pfn;
    }
    printf("%lu %lu\n", (unsigned long)(now() - start), (unsigned long)sum);
    fflush(stdout);
    lists[list].next = next;
  }
  return 0;
}
