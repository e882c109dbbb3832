/** A process address space: mappings, demand paging, and who must hear of changes. */
import { ADDRESS_MASK, FS, PAGE_SIZE } from '../../devices/spec/x86/paging.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import type { Core } from '../core.ts';
import { GuestError } from '../errno.ts';
import type { Task } from '../task.ts';
import { PageTable } from './page-table.ts';
import { type Vma, VmaList } from './vma.ts';

/** End of user space: mappings stay below 2^47 with 5 levels too, as Linux does by default. */
export const TASK_SIZE = 2 ** 47 - PAGE_SIZE;

/** Where mappings start unless the caller names a place; the kernel adds a random offset. */
export const MMAP_BASE = 0x7f00_0000_0000;

/** Called after the CPU's tables changed (include/linux/mmu_notifier.h). */
export interface MmuNotifier {
  /** Translations of [start, end) were removed or lost rights. */
  invalidateRange(start: number, end: number): Task;
  /** The address space has a new top-level table; the old one is freed afterwards. */
  rootChanged(): Task;
  /** The address space goes away; its tables still live. */
  release(): Task;
}

export type FaultOutcome = 'mapped' | 'present' | 'no-vma' | 'access' | 'oom';

/** Whether the access may be tried again. */
export function faultResolved(outcome: FaultOutcome): boolean {
  return outcome === 'mapped' || outcome === 'present';
}

/** What the address space tells the CPU: its CR3 changed, or entries were removed. */
export interface CpuView {
  reload(mm: AddressSpace): void;
}

export interface MmapOptions {
  /** Place it exactly there; what is mapped there must have been unmapped before (EINVAL). */
  readonly at?: number | undefined;
  readonly write?: boolean;
  /** Device memory: mapped at once, no demand paging. */
  readonly device?: number;
  /** For the trace. */
  readonly what: string;
}

export class AddressSpace {
  readonly pid: number;
  readonly table: PageTable;
  readonly notifiers = new Set<MmuNotifier>();
  /** The PASID of all its SVA binds, 0 for none (iommu_mm_data). */
  pasid = 0;
  alive = true;
  readonly #core: Core;
  readonly #view: CpuView;
  readonly #vmas = new VmaList();
  readonly #base: number;

  /** `base`: where mappings start. Throws GuestError ENOMEM. */
  constructor(core: Core, view: CpuView, pid: number, base: number = MMAP_BASE) {
    this.#base = base;
    this.#core = core;
    this.#view = view;
    this.pid = pid;
    this.table = new PageTable(core);
  }

  /** Physical address of the top table. */
  get pgd(): number {
    return this.table.root;
  }

  get vmas(): readonly Vma[] {
    return this.#vmas.all;
  }

  /**
   * Maps `bytes` (rounded up to pages) and returns the address. Anonymous pages come on demand,
   * zeroed. Throws GuestError EINVAL (empty, not aligned, taken or outside user space) or ENOMEM.
   */
  mmap(bytes: number, options: MmapOptions): number {
    const length = Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
    const device = options.device ?? null;
    const start = options.at ?? this.#vmas.gap(length, this.#base, TASK_SIZE);
    const end = start + length;
    const place = `${bytes} bytes at 0x${start.toString(16)}`;
    if (start === -1) throw new GuestError('ENOMEM', `mmap: no room for ${bytes} bytes`);
    if (length === 0 || start < 0 || start % PAGE_SIZE !== 0 || end > TASK_SIZE) {
      throw new GuestError('EINVAL', `mmap of ${place}`);
    }
    if (this.#vmas.overlaps(start, end)) throw new GuestError('EINVAL', `mmap: ${place} is taken`);
    if (device === null) this.#core.pages.commit(length / PAGE_SIZE);
    const vma: Vma = { start, end, write: options.write ?? true, device };
    this.#vmas.add(vma);
    if (device !== null) this.#mapDevice(vma, device);
    const { trace, vm } = this.#core;
    trace.emit(guest.mmap, {
      vm,
      pid: this.pid,
      address: start,
      bytes: length,
      what: options.what,
    });
    return start;
  }

  #mapDevice(vma: Vma, device: number): void {
    for (let at = vma.start; at < vma.end; at += PAGE_SIZE) {
      this.table.map(at, device + (at - vma.start), vma.write);
    }
  }

  /**
   * Removes the mappings of [start, start + bytes): entries are cleared, the CPU's TLB and then
   * whoever else walks these tables is flushed, and only then the frames are free again.
   * Throws GuestError EINVAL for an empty or misaligned range.
   */
  *munmap(start: number, bytes: number): Task {
    const end = start + Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
    if (bytes <= 0 || start < 0 || start % PAGE_SIZE !== 0 || end > TASK_SIZE) {
      throw new GuestError('EINVAL', `munmap of ${bytes} bytes at 0x${start.toString(16)}`);
    }
    const removed = this.#vmas.remove(start, end);
    const frames = removed.flatMap((vma) => this.#zap(vma));
    this.#view.reload(this);
    const { trace, vm } = this.#core;
    using _span = trace.span(guest.munmap, {
      vm,
      pid: this.pid,
      address: start,
      bytes: end - start,
      pagesPresent: frames.length,
    });
    const { bugs } = this.#core;
    const early = bugs?.has('guest-munmap-frees-early') === true;
    if (early) for (const frame of frames) this.#core.pages.free(frame);
    if (removed.length > 0 && bugs?.has('guest-munmap-no-flush') !== true) {
      for (const notifier of [...this.notifiers]) yield* notifier.invalidateRange(start, end);
    }
    if (!early) for (const frame of frames) this.#core.pages.free(frame);
    for (const vma of removed) this.#uncommit(vma);
  }

  /** Clears the entries of a mapping and returns the frames of anonymous memory. */
  #zap(vma: Vma): number[] {
    const frames: number[] = [];
    let at = this.table.nextMapped(vma.start, vma.end);
    for (; at < vma.end; at = this.table.nextMapped(at + PAGE_SIZE, vma.end)) {
      const entry = this.table.clear(at);
      const present = (entry & FS.P) !== 0n;
      if (present && vma.device === null) frames.push(Number(entry & ADDRESS_MASK));
    }
    return frames;
  }

  #uncommit(vma: Vma): void {
    if (vma.device === null) this.#core.pages.uncommit((vma.end - vma.start) / PAGE_SIZE);
  }

  /**
   * Brings the page of `address` in (mm/memory.c handle_mm_fault). A read fault on anonymous memory
   * gets its own zeroed page, writable if the mapping is, so that no later upgrade is needed.
   */
  handleFault(address: number, write: boolean, by: 'cpu' | 'device'): FaultOutcome {
    const page = Math.floor(address / PAGE_SIZE) * PAGE_SIZE;
    const outcome = this.#resolve(page, write);
    const { trace, vm } = this.#core;
    if (trace.on) {
      const pte = `0x${(faultResolved(outcome) ? this.table.entry(page) : 0n).toString(16)}`;
      const values = { vm, pid: this.pid, address: page, write: write ? 1 : 0, by, pte };
      trace.emit(guest.fault, { ...values, result: outcome });
    }
    return outcome;
  }

  #resolve(page: number, write: boolean): FaultOutcome {
    const vma = this.alive ? this.#vmas.find(page) : undefined;
    if (vma === undefined) return 'no-vma';
    if (write && !vma.write) return 'access';
    if ((this.table.entry(page) & FS.P) !== 0n) return 'present';
    const { pages } = this.#core;
    if (pages.freePages < this.table.levels) return 'oom';
    const frame = vma.device === null ? pages.alloc() : vma.device + (page - vma.start);
    this.table.map(page, frame, vma.write);
    return 'mapped';
  }

  /**
   * Moves to another top-level table: new table, same entries, CR3 switched, then everybody who
   * walks from the old root is told, and the old table is freed last. Throws GuestError ENOMEM.
   */
  *moveRoot(): Task {
    const from = this.table.moveRoot();
    this.#view.reload(this);
    const { trace, vm, pages } = this.#core;
    using _span = trace.span(guest.moveRoot, { vm, pid: this.pid, from, to: this.pgd });
    const early = this.#core.bugs?.has('guest-replace-frees-early') === true;
    if (early) pages.free(from);
    for (const notifier of [...this.notifiers]) yield* notifier.rootChanged();
    if (!early) pages.free(from);
  }

  /** The end of the address space: notifiers first, while the tables live, then all memory. */
  *exit(): Task {
    this.alive = false;
    const late = this.#core.bugs?.has('guest-exit-frees-early') === true;
    if (!late) for (const notifier of [...this.notifiers]) yield* notifier.release();
    for (const vma of this.#vmas.remove(0, TASK_SIZE)) {
      for (const frame of this.#zap(vma)) this.#core.pages.free(frame);
      this.#uncommit(vma);
    }
    this.#view.reload(this);
    this.table.free();
    if (late) for (const notifier of [...this.notifiers]) yield* notifier.release();
  }
}
