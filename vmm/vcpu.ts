import { Mmu, PF } from '../devices/cpu/mmu.ts';
import { decodeIa32Pasid, IA32_PASID, ia32Pasid } from '../devices/spec/msr.ts';
import type { UserMemory } from '../host/syscall.ts';
import { Segfault } from '../host/syscall.ts';
import type { Tracer } from '../trace/tracer.ts';
import type { VcpuPageFault } from './exit.ts';
import { PendingInterrupts } from './interrupts.ts';
import { GUEST_ADDRESS_BITS } from './layout.ts';
import type { MemoryMap } from './memory-map.ts';

export interface VcpuFeatures {
  readonly la57: boolean;
  readonly gbpages: boolean;
  readonly enqcmd: boolean;
}

export interface VcpuOptions {
  /** The VM's name: the trace space of its interrupts. */
  readonly name: string;
  readonly map: MemoryMap;
  /** The VMM's own memory, where guest RAM and the device's BARs are mapped. */
  readonly memory: UserMemory;
  readonly features: VcpuFeatures;
  /** Virtual nanoseconds: the host CPU's time stamp counter. */
  readonly now: () => number;
  readonly trace: Tracer;
  /** Hears of guest frames that go back to the guest's allocator. */
  readonly freed?: ((gpa: number) => void) | undefined;
}

const ALL_ONES_32 = 0xffff_ffff;
const ALL_ONES_64 = 0xffff_ffff_ffff_ffffn;
const SUBMISSION_BYTES = 64;
const ZEROS = new Uint8Array(0x1000);
const PASID_MSR_BITS = ia32Pasid.masks.PASID | ia32Pasid.masks.VALID;

/**
 * The virtual CPU as guest code uses it, without exits: guest RAM through the VMM's mapping, user-mode
 * accesses through CR3, and ENQCMD / MOVDIR64B into mapped device memory. Physical addresses that are
 * no memory read all ones and ignore writes. Nothing that the guest passes makes it throw.
 */
export class Vcpu {
  readonly features: VcpuFeatures;
  readonly interrupts: PendingInterrupts;
  readonly #map: MemoryMap;
  readonly #memory: UserMemory;
  readonly #now: () => number;
  readonly #freed: ((gpa: number) => void) | undefined;
  readonly #mmu: Mmu;
  readonly #submission = new Uint8Array(SUBMISSION_BYTES);
  #pasidMsr = 0n;

  constructor(options: VcpuOptions) {
    this.features = options.features;
    this.interrupts = new PendingInterrupts(options.name, options.trace);
    this.#map = options.map;
    this.#memory = options.memory;
    this.#now = options.now;
    this.#freed = options.freed;
    const { gbpages } = options.features;
    this.#mmu = new Mmu(this, { physicalBits: GUEST_ADDRESS_BITS, gbpages });
  }

  get tsc(): number {
    return this.#now();
  }

  read32(gpa: number): number {
    const hva = this.#map.memory(gpa, 4);
    return hva < 0 || gpa % 4 !== 0 ? ALL_ONES_32 : Number(this.#memory.load(hva, 4));
  }

  write32(gpa: number, value: number): void {
    const hva = this.#map.memory(gpa, 4);
    if (hva >= 0 && gpa % 4 === 0) this.#memory.store(hva, 4, BigInt(value >>> 0));
  }

  read64(gpa: number): bigint {
    const hva = this.#map.memory(gpa, 8);
    return hva < 0 || gpa % 8 !== 0 ? ALL_ONES_64 : this.#memory.load(hva, 8);
  }

  write64(gpa: number, value: bigint): void {
    const hva = this.#map.memory(gpa, 8);
    if (hva >= 0 && gpa % 8 === 0) this.#memory.store(hva, 8, BigInt.asUintN(64, value));
  }

  /** Atomic: nothing else of the world runs between the load and the store. */
  cmpxchg64(gpa: number, expected: bigint, value: bigint): bigint {
    const old = this.read64(gpa);
    if (old === BigInt.asUintN(64, expected)) this.write64(gpa, value);
    return old;
  }

  readBytes(gpa: number, into: Uint8Array): void {
    const hva = this.#map.memory(gpa, into.length);
    if (hva < 0) into.fill(0xff);
    else this.#memory.read(hva, into);
  }

  writeBytes(gpa: number, from: Uint8Array): void {
    const hva = this.#map.memory(gpa, from.length);
    if (hva >= 0) this.#memory.write(hva, from);
  }

  /** Nothing happens unless both sides are memory. */
  copy(to: number, from: number, length: number): void {
    const target = this.#map.memory(to, length);
    const source = this.#map.memory(from, length);
    if (target >= 0 && source >= 0) this.#memory.copy(target, source, length);
  }

  zero(gpa: number, length: number): void {
    const hva = this.#map.memory(gpa, length);
    if (hva < 0) return;
    for (let done = 0; done < length; done += ZEROS.length) {
      const chunk = Math.min(ZEROS.length, length - done);
      this.#memory.write(hva + done, chunk === ZEROS.length ? ZEROS : ZEROS.subarray(0, chunk));
    }
  }

  /** CR3, and LA57 of CR4 where the CPU has it. */
  setCr3(gpa: number, la57: boolean): void {
    this.#mmu.cr3 = gpa;
    this.#mmu.la57 = la57 && this.features.la57;
  }

  readVirtual(address: bigint, into: Uint8Array): VcpuPageFault | null {
    for (let done = 0; done < into.length; ) {
      const at = BigInt.asUintN(64, address + BigInt(done));
      if (!this.#mmu.translate(at, false, true)) return this.#pageFault(at);
      const chunk = Math.min(this.#mmu.room, into.length - done);
      this.readBytes(this.#mmu.address, into.subarray(done, done + chunk));
      done += chunk;
    }
    return null;
  }

  writeVirtual(address: bigint, from: Uint8Array): VcpuPageFault | null {
    for (let done = 0; done < from.length; ) {
      const at = BigInt.asUintN(64, address + BigInt(done));
      if (!this.#mmu.translate(at, true, true)) return this.#pageFault(at);
      const chunk = Math.min(this.#mmu.room, from.length - done);
      this.writeBytes(this.#mmu.address, from.subarray(done, done + chunk));
      done += chunk;
    }
    return null;
  }

  /**
   * ENQCMD (SDM volume 2): 64 bytes with the PASID of IA32_PASID in bits 19:0 and the user bit 31
   * clear. -1: #GP, when IA32_PASID is not valid, the CPU lacks the instruction, the destination is
   * not 64-byte aligned or the source's bits 31:0 are not zero. 1 (retry): the device refused, or no device takes such writes there.
   */
  enqcmd(address: bigint, descriptor: Uint8Array): -1 | 0 | 1 | VcpuPageFault {
    const pasid = decodeIa32Pasid(this.#pasidMsr);
    if (!this.features.enqcmd || pasid === undefined || (address & 63n) !== 0n) return -1;
    if (descriptor.subarray(0, 4).some((byte) => byte !== 0)) return -1;
    if (!this.#mmu.translate(BigInt.asUintN(64, address), true, true)) {
      return this.#pageFault(address);
    }
    const portal = this.#map.device(this.#mmu.address, SUBMISSION_BYTES);
    if (portal < 0) return 1;
    this.#load(descriptor);
    this.#submission[0] = pasid & 0xff;
    this.#submission[1] = (pasid >>> 8) & 0xff;
    this.#submission[2] = (pasid >>> 16) & 0x0f;
    this.#submission[3] = 0;
    return this.#reach(() => this.#memory.enqcmd(portal, this.#submission)) ? 0 : 1;
  }

  /** MOVDIR64B: one 64-byte write, to memory or to a device; elsewhere it is dropped. */
  movdir64b(address: bigint, descriptor: Uint8Array): VcpuPageFault | null {
    const at = BigInt.asUintN(64, address) & ~63n;
    if (!this.#mmu.translate(at, true, true)) return this.#pageFault(at);
    this.#load(descriptor);
    const gpa = this.#mmu.address;
    const portal = this.#map.device(gpa, SUBMISSION_BYTES);
    if (portal < 0) this.writeBytes(gpa, this.#submission);
    else this.#reach(() => this.#memory.movdir64b(portal, this.#submission));
    return null;
  }

  /** IA32_PASID; every other register reads 0. */
  rdmsr(index: number): bigint {
    return index === IA32_PASID ? this.#pasidMsr : 0n;
  }

  /** IA32_PASID, without its reserved bits; writes to other registers are ignored. */
  wrmsr(index: number, value: bigint): void {
    if (index === IA32_PASID) this.#pasidMsr = value & PASID_MSR_BITS;
  }

  freed(gpa: number): void {
    this.#freed?.(gpa);
  }

  takeInterrupt(): number {
    return this.interrupts.take();
  }

  #load(descriptor: Uint8Array): void {
    this.#submission.fill(0);
    this.#submission.set(descriptor.subarray(0, SUBMISSION_BYTES));
  }

  /** A device that does not decode memory (SIGBUS on the mapping) takes nothing. */
  #reach(store: () => unknown): boolean {
    try {
      return store() === true;
    } catch (error) {
      if (error instanceof Segfault) return false;
      throw error;
    }
  }

  #pageFault(address: bigint): VcpuPageFault {
    const { error } = this.#mmu;
    return {
      address: BigInt.asUintN(64, address),
      present: (error & PF.PRESENT) !== 0,
      write: (error & PF.WRITE) !== 0,
      user: (error & PF.USER) !== 0,
      reserved: (error & PF.RESERVED) !== 0,
    };
  }
}
