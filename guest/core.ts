/** What every part of the guest kernel needs of the rest. */
import type { Tracer } from '../trace/tracer.ts';
import type { GuestBug } from './bugs.ts';
import type { Cpu } from './cpu.ts';
import type { Interrupts } from './irq.ts';
import type { PageAllocator } from './mm/page-alloc.ts';
import type { Scheduler } from './sched.ts';

export interface Core {
  readonly cpu: Cpu;
  readonly trace: Tracer;
  /** The VM's name, which all events carry and which names the space of queue slots. */
  readonly vm: string;
  readonly interrupts: Interrupts;
  readonly sched: Scheduler;
  readonly pages: PageAllocator;
  /** 4, or 5 with LA57. */
  readonly pagingLevels: 4 | 5;
  /** Mistakes to make on purpose; none by default. */
  readonly bugs?: ReadonlySet<GuestBug> | undefined;
}
