/** What is loaded in the CPU: the address space and the per-thread PASID register. */
import { IA32_PASID } from '../devices/spec/msr.ts';
import type { Core } from './core.ts';
import type { AddressSpace, CpuView } from './mm/mm.ts';

export class CpuState implements CpuView {
  readonly #core: Core;
  /** An empty table for when no address space is loaded. */
  readonly #idleRoot: number;
  #mm: AddressSpace | null = null;
  #pasidMsr = 0n;

  constructor(core: Core) {
    this.#core = core;
    this.#idleRoot = core.pages.alloc();
    this.#setCr3(this.#idleRoot);
  }

  /** Loads a thread's address space and IA32_PASID (switch_mm, XRSTORS). */
  activate(mm: AddressSpace, pasidMsr: bigint): void {
    if (this.#mm !== mm && mm.alive) {
      this.#mm = mm;
      this.#setCr3(mm.pgd);
    }
    this.setPasid(pasidMsr);
  }

  setPasid(value: bigint): void {
    if (value === this.#pasidMsr) return;
    this.#pasidMsr = value;
    this.#core.cpu.wrmsr(IA32_PASID, value);
  }

  /** The address space's root or entries changed: writing CR3 again flushes the CPU's TLB. */
  reload(mm: AddressSpace): void {
    if (this.#mm !== mm) return;
    if (!mm.alive) this.#mm = null;
    this.#setCr3(mm.alive ? mm.pgd : this.#idleRoot);
  }

  #setCr3(root: number): void {
    this.#core.cpu.setCr3(root, this.#core.pagingLevels === 5);
  }
}
