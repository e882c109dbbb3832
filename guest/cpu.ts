/**
 * The virtual CPU as guest code uses it: the only door between the guest and the machine.
 * What exits to the VMM is yielded (an Exit, plain data); what runs without an exit is a method.
 */

/** A VM exit, as KVM_RUN would report it. The value sent back is the loaded value (0n for others). */
export type Exit =
  | { readonly kind: 'mmio-read'; readonly address: number; readonly size: 1 | 2 | 4 | 8 }
  | {
      readonly kind: 'mmio-write';
      readonly address: number;
      readonly size: 1 | 2 | 4 | 8;
      readonly value: bigint;
    }
  /** Wait for an interrupt. */
  | { readonly kind: 'hlt' }
  /** A pause loop of about `ns` nanoseconds (polling a status word). */
  | { readonly kind: 'pause'; readonly ns: number }
  /** The guest powers off. */
  | { readonly kind: 'shutdown'; readonly code: number };

/** Guest code that exits and nothing else (what the VMM runs). */
export type GuestMachine<T = void> = Generator<Exit, T, bigint>;

/** #PF as the hardware reports it: address in CR2, error code bits. */
export interface PageFault {
  readonly address: bigint;
  readonly present: boolean;
  readonly write: boolean;
  readonly user: boolean;
  readonly reserved: boolean;
}

export interface Cpu {
  /** Time stamp counter, in virtual nanoseconds. */
  readonly tsc: number;
  /** CPUID facts: five-level paging, 1 GiB pages, ENQCMD. */
  readonly features: {
    readonly la57: boolean;
    readonly gbpages: boolean;
    readonly enqcmd: boolean;
  };
  /**
   * Guest physical memory (kernel direct map); RAM only, never exits. A hole reads as all ones and
   * ignores writes. 32/64-bit accesses are naturally aligned.
   */
  read32(gpa: number): number;
  write32(gpa: number, value: number): void;
  read64(gpa: number): bigint;
  write64(gpa: number, value: bigint): void;
  /** Atomic compare and exchange; returns the old value (the IOMMU sets A/D bits in the same tables). */
  cmpxchg64(gpa: number, expected: bigint, value: bigint): bigint;
  readBytes(gpa: number, into: Uint8Array): void;
  writeBytes(gpa: number, from: Uint8Array): void;
  copy(to: number, from: number, length: number): void;
  zero(gpa: number, length: number): void;
  /** CR3: guest physical address of the top page table; `la57` as in CR4. */
  setCr3(gpa: number, la57: boolean): void;
  /** User-mode access through CR3: all bytes, or the page fault of the first that failed. */
  readVirtual(address: bigint, into: Uint8Array): PageFault | null;
  writeVirtual(address: bigint, from: Uint8Array): PageFault | null;
  /** User-mode instructions on a mapped portal. -1: #GP (IA32_PASID not valid); 0 accepted; 1 retry. */
  enqcmd(address: bigint, descriptor: Uint8Array): -1 | 0 | 1 | PageFault;
  movdir64b(address: bigint, descriptor: Uint8Array): PageFault | null;
  rdmsr(index: number): bigint;
  wrmsr(index: number, value: bigint): void;
  /**
   * Told of a frame that goes back to the kernel's allocator, for whoever watches memory from
   * outside (as KASAN's hooks in an allocator are); nothing on a CPU that nobody watches.
   */
  freed?(gpa: number): void;
  /** Takes the highest pending interrupt vector (as IDT vectoring does), or -1. */
  takeInterrupt(): number;
}
