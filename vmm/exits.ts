import type { Task, UserMemory } from '../host/syscall.ts';
import { Segfault } from '../host/syscall.ts';
import { vmm as ev } from '../trace/catalogue/vmm.ts';
import type { Tracer } from '../trace/tracer.ts';
import { COST } from './costs.ts';
import type { VmExit } from './exit.ts';
import { allOnes } from './exit.ts';
import type { InterruptSink } from './interrupt-sink.ts';
import type { MemoryMap, MemoryRange, Range } from './memory-map.ts';

export interface ExitsOptions {
  readonly name: string;
  readonly map: MemoryMap;
  readonly memory: UserMemory;
  readonly interrupts: InterruptSink;
  readonly trace: Tracer;
}

/** Exit reasons as KVM's kvm_exit tracepoint names them on x86. */
const REASONS = {
  'mmio-read': 'EPT_MISCONFIG read',
  'mmio-write': 'EPT_MISCONFIG write',
  hlt: 'HLT',
  pause: 'PAUSE_INSTRUCTION',
  // ACPI power-off is a port write.
  shutdown: 'IO_INSTRUCTION',
} as const;

/** The vCPU thread's run loop: enter the guest, handle the exit, enter again (KVM_RUN). */
export class Exits {
  readonly #options: ExitsOptions;
  /** How many exits there were. */
  count = 0;

  constructor(options: ExitsOptions) {
    this.#options = options;
  }

  /** Runs the guest until it powers off; its exit code. What the guest itself throws passes through. */
  *run(guest: Generator<VmExit, number, bigint>): Task<number> {
    let reply = 0n;
    while (true) {
      const step = guest.next(reply);
      if (step.done === true) return step.value;
      this.count++;
      yield COST.VM_EXIT;
      const exit = step.value;
      if (exit.kind === 'shutdown') {
        this.#emit(exit.kind, 0, 0, `power off, code ${exit.code >>> 0}`);
        return exit.code;
      }
      reply = yield* this.#handle(exit);
    }
  }

  *#handle(exit: Exclude<VmExit, { kind: 'shutdown' }>): Task<bigint> {
    switch (exit.kind) {
      case 'mmio-read':
        return yield* this.#read(exit.address, exit.size);
      case 'mmio-write':
        yield* this.#write(exit.address, exit.size, exit.value);
        return 0n;
      case 'hlt':
        this.#emit(exit.kind, 0, 0, '');
        yield* this.#options.interrupts.halt();
        return 0n;
      case 'pause':
        yield* this.#options.interrupts.pause(pauseOf(exit.ns));
        return 0n;
    }
  }

  *#read(address: number, size: number): Task<bigint> {
    if (!isAccess(address, size)) return allOnes(8);
    const range = this.#options.map.find(address);
    using _span = this.#access('mmio-read', address, size, 0n, range);
    if (range === null || address + size > range.start + range.bytes) return allOnes(size);
    if (range.kind === 'trap') return yield* range.handler.read(address - range.start, size);
    return this.#load(range, address, size);
  }

  *#write(address: number, size: number, value: bigint): Task {
    if (!isAccess(address, size)) return;
    const range = this.#options.map.find(address);
    const stored = BigInt.asUintN(8 * size, value);
    using _span = this.#access('mmio-write', address, size, stored, range);
    if (range === null || address + size > range.start + range.bytes) return;
    if (range.kind === 'trap') yield* range.handler.write(address - range.start, size, stored);
    else this.#store(range, address, size, stored);
  }

  /** An exit on memory that needs none (KVM would fault the page in): the access just happens. */
  #load(range: MemoryRange, address: number, size: number): bigint {
    try {
      return this.#options.memory.load(range.hva + address - range.start, size);
    } catch (error) {
      if (error instanceof Segfault) return allOnes(size);
      throw error;
    }
  }

  #store(range: MemoryRange, address: number, size: number, value: bigint): void {
    try {
      this.#options.memory.store(range.hva + address - range.start, size, value);
    } catch (error) {
      if (!(error instanceof Segfault)) throw error;
    }
  }

  #access(
    kind: 'mmio-read' | 'mmio-write',
    address: number,
    bytes: number,
    value: bigint,
    range: Range | null,
  ): Disposable {
    const { name, trace } = this.#options;
    const what = trace.on ? nameOf(range, address) : '';
    const stored = kind === 'mmio-write' ? `0x${value.toString(16)}` : '';
    return trace.span(ev.vmExit, {
      vm: name,
      reason: REASONS[kind],
      what,
      address,
      bytes,
      value: stored,
    });
  }

  #emit(kind: VmExit['kind'], address: number, bytes: number, what: string): void {
    const { name, trace } = this.#options;
    if (!trace.on) return;
    trace.emit(ev.vmExit, { vm: name, reason: REASONS[kind], what, address, bytes, value: '' });
  }
}

function nameOf(range: Range | null, address: number): string {
  if (range === null) return 'nothing';
  return range.kind === 'trap' ? range.handler.describe(address - range.start) : range.kind;
}

/** A guest cannot name other accesses on hardware: aligned, 1 to 8 bytes, in the address space. */
function isAccess(address: number, size: number): boolean {
  const isSize = size === 1 || size === 2 || size === 4 || size === 8;
  return isSize && Number.isInteger(address) && address >= 0 && address % size === 0;
}

function pauseOf(ns: number): number {
  return Number.isFinite(ns) ? Math.min(Math.max(0, Math.floor(ns)), COST.LONGEST_PAUSE) : 0;
}
