import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const RUNNER = fileURLToPath(new URL('run-program.ts', import.meta.url));
const FLAGS = ['-std=c11', '-O2', '-Wall', '-Wextra', '-Werror', '-pthread'];

/** What C programs of these tests have in common. CHECK tells what failed, and ends. */
const PRELUDE = `
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#define CHECK(x) do { if (!(x)) { fprintf(stderr, "line %d: %s (errno %d)\\n", __LINE__, #x, errno); \\
  _exit(99); } } while (0)
`;

/** The accelerator in a program's hands: VFIO, an IOAS, and copies through a dedicated queue. */
export const ACCELERATOR = `
#pragma GCC diagnostic ignored "-Wunused-function"
struct dsa { int iommu, device; uint32_t ioas; volatile uint8_t *registers, *portal; };
struct descriptor { uint32_t pasid, flags; uint64_t record, source, target; uint32_t size;
  uint16_t interrupt; uint8_t rest[26]; } __attribute__((packed));
struct record { volatile uint8_t status; uint8_t result; uint16_t info; uint32_t done;
  uint64_t address, more[2]; } __attribute__((aligned(32)));
#define R32(d, at) (*(volatile uint32_t *)((d)->registers + (at)))
#define R64(d, at) (*(volatile uint64_t *)((d)->registers + (at)))
static uint64_t map_at(struct dsa *d, const void *p, size_t bytes, int writable) {
  struct { uint32_t size, flags, ioas, reserved; uint64_t address, length, iova; } m =
      {40, writable ? 6 : 4, d->ioas, 0, (uintptr_t)p, bytes, 0};
  return ioctl(d->iommu, 0x3b85, &m) == 0 ? m.iova : UINT64_MAX;
}
static int unmap_at(struct dsa *d, uint64_t iova, uint64_t bytes) {
  struct { uint32_t size, ioas; uint64_t iova, length; } m = {24, d->ioas, iova, bytes};
  return ioctl(d->iommu, 0x3b86, &m);
}
static void command(struct dsa *d, uint32_t code) {
  R32(d, 0xa0) = code << 20;
  for (int n = 0; (R32(d, 0xa8) & 1u << 31) != 0; n++) { CHECK(n < 1000); usleep(100); }
  CHECK((R32(d, 0xa8) & 0xff) == 0);
}
static void open_device(struct dsa *d, const char *node) {
  d->iommu = open("/dev/iommu", O_RDWR); CHECK(d->iommu >= 0);
  d->device = open(node, O_RDWR); CHECK(d->device >= 0);
  struct { uint32_t argsz, flags; int32_t fd; uint32_t id; uint64_t t; } bind = {24, 0, d->iommu, 0, 0};
  CHECK(ioctl(d->device, 0x3b76, &bind) == 0);
  struct { uint32_t size, flags, id; } alloc = {12, 0, 0};
  CHECK(ioctl(d->iommu, 0x3b81, &alloc) == 0);
  d->ioas = alloc.id;
  struct { uint32_t argsz, flags, pt; } attach = {12, 0, d->ioas};
  CHECK(ioctl(d->device, 0x3b77, &attach) == 0);
  void *bar0 = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED, d->device, 0);
  void *bar2 = mmap(NULL, 0x20000, PROT_READ | PROT_WRITE, MAP_SHARED, d->device, 2LL << 40);
  CHECK(bar0 != MAP_FAILED && bar2 != MAP_FAILED);
  d->registers = bar0; d->portal = bar2;
}
static void start_device(struct dsa *d) {
  uint16_t order = 6;
  CHECK(pwrite(d->device, &order, 2, (7LL << 40) + 4) == 2);
  command(d, 5);
  const uint64_t offsets = R64(d, 0x60), general = R64(d, 0x10), queues = R64(d, 0x20);
  const uint32_t groups = (offsets & 0xffff) * 0x100, config = (offsets >> 16 & 0xffff) * 0x100;
  R32(d, config) = queues & 0xffff;
  R32(d, config + 8) = 1 | 1 << 4;
  R32(d, config + 12) = (general >> 16 & 0x1f) | (general >> 21 & 0xf) << 5;
  for (int n = 0; n < 8; n++) R32(d, config + 32 + 4 * n) = n == 0 ? 0xffffffff : 0;
  R64(d, groups) = 1;
  R64(d, groups + 32) = 1;
  command(d, 1);
  command(d, 6);
}
static void open_dsa(struct dsa *d, const char *node) {
  open_device(d, node);
  start_device(d);
}
/* MOVDIR64B. */
static void submit(struct dsa *d, const struct descriptor *what) {
  __asm__ volatile(".byte 0x66, 0x0f, 0x38, 0xf8, 0x02" : : "a"(d->portal), "d"(what) : "memory");
}
/* Status of the copy; its completion record lies at \`record\`, mapped at \`record_iova\`. */
static int copy(struct dsa *d, struct record *record, uint64_t record_iova,
    uint64_t source, uint64_t target, uint32_t bytes) {
  struct descriptor what __attribute__((aligned(64))) = {.flags = 3u << 24 | 0xc, .record = record_iova,
      .source = source, .target = target, .size = bytes, .pasid = 1u << 31};
  memset(record, 0, sizeof(*record));
  submit(d, &what);
  for (int n = 0; record->status == 0; n++) { CHECK(n < 5000); usleep(200); }
  return record->status;
}
static void *pages(size_t bytes, int flags) {
  void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
  CHECK(p != MAP_FAILED);
  return p;
}
`;

export interface Run {
  readonly status: number | null;
  readonly stderr: string;
  /** What it left in the kernel. */
  readonly left: unknown;
}

/** Device clients in C, in a directory that goes after the tests. */
export class Clients {
  readonly #directory = mkdtempSync(join(tmpdir(), 'vsva-client-test-'));

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Compiles a program of these parts, which end in a `main`; its path. */
  build(name: string, ...parts: readonly string[]): string {
    const source = join(this.#directory, `${name}.c`);
    writeFileSync(source, [PRELUDE, ...parts].join('\n'));
    return this.compile(name, [source]);
  }

  /** Compiles sources as the project compiles its own. */
  compile(name: string, sources: readonly string[], ...flags: readonly string[]): string {
    const program = join(this.#directory, name);
    execFileSync('gcc', [...FLAGS, ...flags, '-o', program, ...sources]);
    return program;
  }

  /** Runs a program on a host of its own. */
  run(program: string, args: readonly string[] = [], devices = 1, selftest = true): Run {
    const report = `${program}.left`;
    const line = [RUNNER, report, String(devices), selftest ? '1' : '0', program, ...args];
    const options = { encoding: 'utf8', timeout: 60_000 } as const;
    const { status, stderr } = spawnSync(process.execPath, line, options);
    const left: unknown = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined;
    return { status, stderr, left };
  }
}

/** What a program that went well comes to. */
export const WELL: Run = {
  status: 0,
  stderr: '',
  left: { objects: 0, pins: 0, pasidEntries: 0, fds: 0 },
};
