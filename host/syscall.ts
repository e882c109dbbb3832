/**
 * The system call interface of the simulated host: all that a user program (the VMM, a test, a bridged
 * process) sees of the kernel. Types only. A user program is a generator: it yields what it waits for.
 */

/** Nanoseconds of virtual time (an integer >= 0), or something only the kernel's scheduler understands. */
export type Wait = number | Waitable;
export interface Waitable {
  readonly waitable: true;
}

/** A computation that may block. */
export type Task<T = void> = Generator<Wait, T, void>;

/** A load or store hit no mapping, or one that forbids it (SIGSEGV), or no device memory (SIGBUS). */
export class Segfault extends Error {
  readonly address: number;
  constructor(address: number, why: string) {
    super(`segmentation fault at 0x${address.toString(16)}: ${why}`);
    this.name = 'Segfault';
    this.address = address;
  }
}

/**
 * The CPU as the process's own code uses it: loads and stores at its virtual addresses (below 2^47).
 * Mapped device memory is reached by the same instructions. All throw Segfault.
 */
export interface UserMemory {
  read(address: number, into: Uint8Array): void;
  write(address: number, from: Uint8Array): void;
  /** memmove inside the address space; RAM only. */
  copy(to: number, from: number, length: number): void;
  /** `size` 1, 2, 4 or 8, naturally aligned. */
  load(address: number, size: number): bigint;
  store(address: number, size: number, value: bigint): void;
  /** MOVDIR64B: 64 bytes, one posted write. */
  movdir64b(address: number, bytes: Uint8Array): void;
  /** ENQCMD with the PASID already in place. True: accepted (ZF=0); false: retry (ZF=1). */
  enqcmd(address: number, bytes: Uint8Array): boolean;
}

/** Results are >= 0, or -errno. Pointers are addresses in the caller's memory. */
export interface Syscalls {
  readonly pid: number;
  readonly memory: UserMemory;
  open(path: string, flags: number): Task<number>;
  close(fd: number): Task<number>;
  ioctl(fd: number, request: number, argument: number): Task<number>;
  read(fd: number, buffer: number, count: number): Task<number>;
  write(fd: number, buffer: number, count: number): Task<number>;
  pread(fd: number, buffer: number, count: number, offset: number): Task<number>;
  pwrite(fd: number, buffer: number, count: number, offset: number): Task<number>;
  /** `fd` -1 with MAP_ANONYMOUS. Returns the address. */
  mmap(length: number, prot: number, flags: number, fd: number, offset: number): Task<number>;
  munmap(address: number, length: number): Task<number>;
  eventfd(initial: number, flags: number): Task<number>;
  /** `fds`: array of struct pollfd. `timeoutNs` -1: none. Returns how many are ready. */
  poll(fds: number, count: number, timeoutNs: number): Task<number>;
  /** A new thread of this process. */
  clone(name: string, body: () => Task): Task<number>;
  /** Ends the process: every thread, descriptor and mapping. */
  exit(code: number): Task<never>;
}
