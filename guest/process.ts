/** A guest process: its address space, its open work queue, and its system calls. */
import { decodeDescriptor, describeDescriptor } from '../devices/spec/dsa/descriptor.ts';
import { encodeIa32Pasid, IA32_PASID } from '../devices/spec/msr.ts';
import { guest } from '../trace/catalogue/guest.ts';
import type { Core } from './core.ts';
import type { PageFault } from './cpu.ts';
import type { CpuState } from './cpu-state.ts';
import type { FileShare } from './drivers/fileshare.ts';
import type { Idxd, WqFile } from './drivers/idxd.ts';
import { GuestError } from './errno.ts';
import type { IommuSva } from './iommu/iommu-sva.ts';
import { AddressSpace } from './mm/mm.ts';
import { copyFromUser, copyToUser, retryFaults } from './mm/uaccess.ts';
import type { ThreadContext } from './sched.ts';
import { sleep, type Task } from './task.ts';
import type { DeviceInfo, User } from './user/user.ts';

/** What a process may reach of the kernel. */
export interface Services {
  readonly core: Core;
  readonly cpuState: CpuState;
  readonly share: FileShare;
  readonly idxd: Idxd;
  readonly sva: IommuSva;
}

/** Exit code of a program that a fault ended, as a shell reports SIGSEGV. */
export const EXIT_FAULT = 139;

export class Process implements User, ThreadContext {
  readonly pid: number;
  readonly mm: AddressSpace;
  readonly #services: Services;
  readonly #name: string;
  #file: WqFile | null = null;
  /** IA32_PASID of the only thread; 0 until the first ENQCMD raised #GP. */
  #pasidMsr = 0n;

  /** Throws GuestError ENOMEM. */
  constructor(services: Services, pid: number, name: string, mmapBase: number) {
    this.#services = services;
    this.pid = pid;
    this.#name = name;
    this.mm = new AddressSpace(services.core, services.cpuState, pid, mmapBase);
  }

  activate(): void {
    this.#services.cpuState.activate(this.mm, this.#pasidMsr);
  }

  /** The process's life: the program, then its end. A program that fails ends with its own code. */
  *run(program: (user: User) => Task<number>): Task<number> {
    const { trace, vm } = this.#services.core;
    const { pid } = this;
    using _span = trace.span(guest.exec, { vm, pid, name: this.#name, pgd: this.mm.pgd });
    let code: number;
    try {
      code = yield* program(this);
    } catch (error) {
      this.#report(error);
      code = EXIT_FAULT;
    }
    yield* this.#exit(code);
    return code;
  }

  /** Tells of an errno; anything else is a bug of the kernel and goes on. */
  #report(error: unknown): void {
    if (!(error instanceof GuestError)) throw error;
    this.result('error', error.message);
  }

  /** The order of do_exit: the address space ends first, then the files are closed. */
  *#exit(code: number): Task {
    const { core, sva } = this.#services;
    const { trace, vm } = core;
    using _span = trace.span(guest.exit, { vm, pid: this.pid, code });
    yield* this.mm.exit();
    try {
      yield* this.closeDevice();
    } catch (error) {
      // Nobody is left who could be told: an error of release() ends nothing else.
      this.#report(error);
    }
    sva.dropPasid(this.mm);
  }

  get fileSize(): number {
    return this.#services.share.size;
  }

  step(text: string): Disposable {
    const { trace, vm } = this.#services.core;
    return trace.span(guest.program, { vm, pid: this.pid, step: text });
  }

  result(what: string, value: string): void {
    const { trace, vm } = this.#services.core;
    trace.emit(guest.result, { vm, pid: this.pid, what, value });
  }

  completed(operation: string, status: string, bytes: number, crc: number): void {
    const { trace, vm } = this.#services.core;
    trace.emit(guest.completion, { vm, pid: this.pid, operation, status, bytes, crc });
  }

  load(address: number, into: Uint8Array): void {
    copyFromUser(this.#services.core.cpu, this.mm, address, into);
  }

  store(address: number, from: Uint8Array): void {
    copyToUser(this.#services.core.cpu, this.mm, address, from);
  }

  *readFile(address: number, count: number, position: number): Task {
    yield* this.#services.share.read(this.mm, address, count, position);
  }

  *writeOutput(output: number, address: number, count: number): Task {
    yield* this.#services.share.write(this.mm, address, count, 0, output);
  }

  mmap(bytes: number, what: string, at?: number): number {
    return this.mm.mmap(bytes, { what, at });
  }

  *munmap(address: number, bytes: number): Task {
    yield* this.mm.munmap(address, bytes);
  }

  *moveRoot(): Task {
    yield* this.mm.moveRoot();
  }

  *openDevice(): Task<DeviceInfo> {
    if (this.#file !== null) throw new GuestError('EBUSY', 'the work queue is open already');
    const { idxd } = this.#services;
    const file = yield* idxd.open(this.mm);
    this.#file = file;
    const { maxTransferBytes, size, blockOnFault, interruptHandle } = idxd.attributes;
    const portal = idxd.mapPortal(file);
    const wq = { maxTransferBytes, queueSize: size, blockOnFault, interruptHandle };
    return { portal, pasid: file.sva.domain.pasid, ...wq };
  }

  *closeDevice(): Task {
    const file = this.#file;
    if (file === null) return;
    this.#file = null;
    yield* this.#services.idxd.close(file);
  }

  /**
   * ENQCMD on a mapped portal: true when the queue took the descriptor, false to try again. The
   * first one of a process raises #GP, on which the kernel loads IA32_PASID. GuestError EFAULT.
   */
  enqcmd(address: number, descriptor: Uint8Array): boolean {
    const { cpu, trace, vm } = this.#services.core;
    const { pid } = this;
    const pasid = this.mm.pasid;
    const text = trace.on ? describeDescriptor({ ...decodeDescriptor(descriptor), pasid }) : '';
    using _span = trace.span(guest.enqcmd, { vm, pid, pasid, descriptor: text, result: 'issued' });
    const zf = retryFaults(this.mm, (): 0 | 1 | PageFault => {
      const first = cpu.enqcmd(BigInt(address), descriptor);
      if (first !== -1) return first;
      this.#fixupGeneralProtection();
      const again = cpu.enqcmd(BigInt(address), descriptor);
      if (again === -1) throw new GuestError('EFAULT', 'ENQCMD: #GP with a valid IA32_PASID');
      return again;
    });
    if (zf === 1) {
      trace.emit(guest.enqcmd, { vm, pid, pasid, descriptor: text, result: 'ZF=1, retry' });
    }
    return zf === 0;
  }

  /** try_fixup_enqcmd_gp: only for an mm with a PASID, and once per thread. */
  #fixupGeneralProtection(): void {
    const { core, cpuState } = this.#services;
    if (this.mm.pasid === 0 || this.#pasidMsr !== 0n) {
      throw new GuestError('EFAULT', 'general protection fault at ENQCMD');
    }
    this.#pasidMsr = encodeIa32Pasid(this.mm.pasid);
    cpuState.setPasid(this.#pasidMsr);
    const { trace, vm } = core;
    trace.emit(guest.pasidMsr, { vm, pid: this.pid, msr: IA32_PASID, value: this.#pasidMsr });
  }

  *waitForCompletion(): Task {
    if (this.#file !== null) yield* this.#services.idxd.waitForCompletion(this.#file);
  }

  *sleep(ns: number): Task {
    yield* sleep(ns);
  }
}
