import test from 'ava';
import { ACCELERATOR, Clients, WELL } from './clients.ts';

const clients = new Clients();
test.after.always(() => {
  clients.remove();
});

test('mapped BARs: loads and stores, close, partial unmapping, fork, protection', (t) => {
  const program = clients.build(
    'bars',
    ACCELERATOR,
    `static sigjmp_buf back;
     static int seen, code;
     static void on_fault(int number, siginfo_t *info, void *context) {
       (void)context; seen = number; code = info->si_code; siglongjmp(back, 1);
     }
     #define FAULTS(x) (seen = 0, sigsetjmp(back, 1) == 0 ? ((void)(x), 0) : seen)
     int main(void) {
       struct dsa d;
       struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, old;
       CHECK(sigaction(SIGSEGV, &act, NULL) == 0 && sigaction(SIGBUS, &act, NULL) == 0);
       open_device(&d, "/dev/vfio/devices/vfio0");
       CHECK(R32(&d, 0) == 0x100 && R64(&d, 0x10) != 0);
       R32(&d, 0x88) = 3;
       CHECK(R32(&d, 0x88) == 3);
       R32(&d, 0x88) |= 4;
       CHECK(R32(&d, 0x88) == 7);
       char copied[256]; uint32_t word;
       memcpy(copied, (void *)(uintptr_t)d.registers, sizeof(copied));
       memcpy(&word, copied + 0x88, 4);
       CHECK(word == 7);
       /* The program's own handlers see its own faults, and what it set. */
       volatile int *hole = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       CHECK(FAULTS(*hole) == SIGSEGV && code == SEGV_ACCERR);
       CHECK(sigaction(SIGSEGV, NULL, &old) == 0 && old.sa_sigaction == on_fault);
       /* Refused by the file. */
       CHECK(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, d.device, 0) == MAP_FAILED && errno == EINVAL);
       CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, d.device, 7LL << 40) == MAP_FAILED && errno == EINVAL);
       CHECK(mmap(NULL, 0x20000, PROT_READ, MAP_SHARED, d.device, 0) == MAP_FAILED && errno == EINVAL);
       CHECK(mmap(NULL, 4096, PROT_READ, MAP_SHARED, d.iommu, 0) == MAP_FAILED && errno == ENXIO);
       /* Memory decoding off: a bus error. */
       uint16_t off = 0, on = 2;
       CHECK(pwrite(d.device, &off, 2, (7LL << 40) + 4) == 2);
       CHECK(FAULTS(R32(&d, 0)) == SIGBUS);
       CHECK(pwrite(d.device, &on, 2, (7LL << 40) + 4) == 2 && R32(&d, 0) == 0x100);
       /* Protection. */
       static char *bar; bar = (char *)(uintptr_t)d.registers;
       CHECK(mprotect(bar, 4096, PROT_READ) == 0 && R32(&d, 0x88) == 7);
       CHECK(FAULTS(R32(&d, 0x88) = 1) == SIGSEGV);
       CHECK(mprotect(bar, 0x10000, PROT_READ | PROT_WRITE) == 0);
       R32(&d, 0x88) = 1;
       CHECK(R32(&d, 0x88) == 1);
       /* As IOVA it is refused: no pages of the process are there. */
       CHECK(map_at(&d, bar, 4096, 1) == UINT64_MAX && errno == EFAULT);
       /* Every signal blocked: still memory. */
       sigset_t all; sigfillset(&all);
       CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0 && R32(&d, 0) == 0x100);
       sigprocmask(SIG_UNBLOCK, &all, NULL);
       /* Moved, cut, replaced, and after close. */
       struct dsa other = d; other.device = dup(d.device);
       CHECK(close(d.device) == 0 && R32(&d, 0x88) == 1);
       char *place = mmap(NULL, 0x10000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
       bar = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED, other.device, 0);
       CHECK(munmap((void *)(uintptr_t)d.registers, 0x10000) == 0);
       bar = mremap(bar, 0x10000, 0x10000, MREMAP_MAYMOVE | MREMAP_FIXED, place);
       CHECK(bar == place && close(other.device) == 0); d.registers = (void *)bar;
       CHECK(R32(&d, 0x88) == 1);
       CHECK(munmap(bar + 0x1000, 0x1000) == 0 && FAULTS(R32(&d, 0x1000)) == SIGSEGV);
       CHECK(R32(&d, 0x88) == 1 && (R32(&d, 0x2000), 1));
       int *plain = mmap(bar + 0x2000, 0x1000, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
       *plain = 5; CHECK(R32(&d, 0x2000) == 5 && R32(&d, 0x88) == 1);
       const pid_t child = fork();
       if (child == 0) _exit(R32(&d, 0x88) == 1 && munmap(bar, 0x10000) == 0 ? 0 : 1);
       int status; CHECK(waitpid(child, &status, 0) == child && status == 0);
       closefrom(3);
       CHECK(R32(&d, 0x88) == 1);
       /* The last part goes, and the device with it. */
       CHECK(munmap(bar, 0x10000) == 0 && munmap((void *)d.portal, 0x20000) == 0);
       open_device(&d, "/dev/vfio/devices/vfio0");
       CHECK(R32(&d, 0x88) == 0);
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program), WELL);
});

test('threads use one BAR at once, while one of them maps and unmaps it', (t) => {
  const program = clients.build(
    'threads',
    ACCELERATOR,
    `static struct dsa d;
     static atomic_int stop;
     static void *reader(void *own) {
       for (int n = 0; n < 60; n++) CHECK(R32(&d, 0) == 0x100);
       return own;
     }
     static void *mapper(void *own) {
       while (!atomic_load(&stop)) {
         volatile uint32_t *p = mmap(NULL, 0x10000, PROT_READ, MAP_SHARED, d.device, 0);
         CHECK(p != MAP_FAILED && *p == 0x100 && munmap((void *)(uintptr_t)p, 0x10000) == 0);
       }
       return own;
     }
     int main(void) {
       open_device(&d, "/dev/vfio/devices/vfio0");
       pthread_t threads[4], other;
       pthread_create(&other, NULL, mapper, NULL);
       for (int n = 0; n < 4; n++) pthread_create(&threads[n], NULL, reader, NULL);
       for (int n = 0; n < 4; n++) pthread_join(threads[n], NULL);
       atomic_store(&stop, 1);
       pthread_join(other, NULL);
       return 0;
     }`,
  );
  t.deepEqual(clients.run(program), WELL);
});

test('what the processor would refuse: ENQCMD without a PASID, and unknown instructions', (t) => {
  const program = clients.build(
    'refused',
    ACCELERATOR,
    `int main(int count, char **arguments) {
       struct dsa d;
       (void)count;
       open_device(&d, "/dev/vfio/devices/vfio0");
       static char descriptor[64];
       if (arguments[1][0] == 'e') {
         __asm__ volatile(".byte 0xf2, 0x0f, 0x38, 0xf8, 0x02" : : "a"(d.portal), "d"(descriptor) : "memory");
       } else {
         __asm__ volatile("fldl (%0)\\n fstp %%st(0)" : : "r"(d.registers));
       }
       return 0;
     }`,
  );
  const enqcmd = clients.run(program, ['enqcmd']);
  t.true(enqcmd.status === 128 + 4 || enqcmd.status === 128 + 11);
  t.deepEqual(enqcmd.left, WELL.left);
  const unknown = clients.run(program, ['x87']);
  t.is(unknown.status, 128 + 11);
  t.regex(unknown.stderr, /^vsva: device memory: no such access is known, by the instruction dd /);
});
