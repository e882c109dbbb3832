import type { PhysicalMemory } from '../../../devices/memory.ts';
import type { Tracer } from '../../../trace/tracer.ts';
import type { InterruptController } from '../../machine/interrupts.ts';
import type { Scheduler } from '../../machine/scheduler.ts';
import type { HostBug } from '../bugs.ts';
import type { FailPoints } from '../failpoint.ts';

const PAGE_BYTES = 4096;

/** What the driver needs of the kernel and the machine; `Kernel` is one. */
export interface Platform {
  readonly trace: Tracer;
  readonly failpoints: Pick<FailPoints, 'point'>;
  /** Page frames by number. `alloc` gives a zeroed one; Errno ENOMEM. */
  readonly pages: {
    alloc(): number;
    allocRun(count: number): number;
    free(pfn: number): void;
    freeRun(pfn: number, count: number): void;
  };
  readonly options: {
    readonly replace: 'hitless' | 'break-before-make';
    readonly bugs?: ReadonlySet<HostBug>;
  };
  readonly machine: {
    readonly ram: PhysicalMemory;
    /** Loads and stores of the CPU at physical addresses. */
    readonly root: {
      read(pa: number, size: number): bigint;
      write(pa: number, size: number, value: bigint): void;
    };
    readonly interrupts: Pick<InterruptController, 'allocate'>;
    readonly scheduler: Pick<Scheduler, 'spawn'>;
  };
}

/** Whether the kernel makes a mistake on purpose. */
export function hasBug({ options }: Pick<Platform, 'options'>, bug: HostBug): boolean {
  return options.bugs?.has(bug) === true;
}

/** A zeroed page of RAM for the unit to read; its physical address. Errno ENOMEM. */
export function allocTable(platform: Platform, failpoint: string): number {
  platform.failpoints.point(failpoint);
  return platform.pages.alloc() * PAGE_BYTES;
}

export function freeTable(platform: Platform, address: number): void {
  platform.pages.free(address / PAGE_BYTES);
}

/** Contiguous zeroed pages of RAM; their physical address. Errno ENOMEM. */
export function allocTables(platform: Platform, count: number, failpoint: string): number {
  platform.failpoints.point(failpoint);
  return platform.pages.allocRun(count) * PAGE_BYTES;
}

export function freeTables(platform: Platform, address: number, count: number): void {
  platform.pages.freeRun(address / PAGE_BYTES, count);
}
