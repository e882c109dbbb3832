import type { EventRecord } from '../../../trace/event.ts';
import { Tracer } from '../../../trace/tracer.ts';
import type { Clock } from '../../clock.ts';
import type { PhysicalMemory } from '../../memory.ts';
import type { CacheEntry } from './cache-entry.ts';
import { type Assigned, GuestWatch } from './guest-watch.ts';
import { descendsFrom, History, type Trail } from './history.ts';
import { HostWatch } from './host-watch.ts';
import { type Finding, Reports } from './report.ts';
import type { Scene } from './scene.ts';
import { type Change, isDetach, type TableEntry, Tables } from './tables.ts';
import type { UnitWatch, WatchedUnit } from './unit-watch.ts';

const PAGE_BYTES = 4096;

/** Parts of a unit that its watch reads. */
export interface UnitParts {
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  readRegister(offset: number, size: 4 | 8): bigint;
}

/**
 * The IOMMU sanitizer of one machine: watches the host's unit and the virtual units of its guests
 * and files what drivers, VMMs and devices do wrong, as trace events. They know nothing of it: it
 * sees writes to memory that is known to be tables, registers, descriptors, device requests, and
 * which frames the kernels give back.
 */
export class Sanitizer implements Scene {
  readonly history = new History();
  readonly order = { value: 0 };
  readonly stale = new Map<Change, Set<CacheEntry>>();
  readonly #reports = new Reports();
  readonly #guests = new Map<string, GuestWatch>();
  #trace: Tracer = new Tracer(() => 0);
  #clock: Clock | null = null;
  #tables: Tables | null = null;
  #host: HostWatch | null = null;
  #isFree: (frame: number) => boolean = () => false;

  /** Different findings so far. */
  get count(): number {
    return this.#reports.count;
  }

  get trace(): Tracer {
    return this.#trace;
  }

  get tables(): Tables {
    if (this.#tables === null) throw new Error('the sanitizer has no machine');
    return this.#tables;
  }

  /** Starts to watch a machine's unit. The trace is on from here on. */
  watchHost(trace: Tracer, parts: UnitParts): HostWatch {
    this.#trace = trace;
    this.#clock = parts.clock;
    this.#reports.begin(trace);
    trace.listen((record) => this.#heard(record));
    this.#tables = new Tables(parts.memory, (...change) => this.#change(...change));
    this.#host = new HostWatch(
      this,
      unitOf('host', parts, (address) => address),
    );
    return this.#host;
  }

  /** Watches the virtual unit of a VM, whose function is `assigned`. After `watchHost`. */
  watchGuest(name: string, parts: UnitParts, assigned: Assigned): GuestWatch {
    const host = this.#host;
    if (host === null) throw new Error('the sanitizer has no machine');
    const toHost = (address: number): number => host.guestAddress(assigned.host, address);
    const guest = new GuestWatch(this, unitOf(name, parts, toHost), host, assigned);
    this.#guests.set(name, guest);
    host.assign(assigned.host, guest);
    return guest;
  }

  /** Tells how to know whether a host frame is in nobody's hands. */
  watchFrames(isFree: (frame: number) => boolean): void {
    this.#isFree = isFree;
  }

  isFree(frame: number): boolean {
    return this.#isFree(frame);
  }

  /** The kernel has a frame back: whoever needed it is done with it. */
  freed(frame: number): void {
    this.#host?.structures.forget(frame);
    this.#host?.freed(frame, 'memory freed');
  }

  /** The last pin of a frame is gone. */
  unpinned(frame: number): void {
    this.#host?.freed(frame, 'memory unpinned');
  }

  /** A frame of a VM's memory went back to the guest's allocator. */
  guestFreed(name: string, gpa: number): void {
    this.#guests.get(name)?.freed(gpa);
  }

  /** Host physical memory was written. */
  stored(address: number, bytes: number): void {
    for (let at = address; at < address + bytes; ) {
      const run = Math.min(PAGE_BYTES - (at % PAGE_BYTES), address + bytes - at);
      this.#tables?.stored(at, run);
      for (const watch of this.#watches()) watch.stored(at, run);
      at += run;
    }
  }

  /** A device is about to write to a frame: if it holds tables, they are looked at afterwards. */
  written(frame: number): void {
    const watched =
      this.#tables?.watches(frame) === true ||
      this.#watches().some(({ structures }) => structures.watches(frame));
    if (watched) this.#clock?.after(0, () => this.stored(frame * PAGE_BYTES, PAGE_BYTES));
  }

  /** Files what was owed and never done. */
  end(): void {
    // A guest that lost power owes nothing to anybody.
    for (const guest of this.#guests.values()) if (guest.isRunning) guest.abandon();
    for (const watch of this.#watches()) watch.end();
    this.#check({ what: 'the run is over', trail: null }, () => true);
  }

  now(): number {
    return this.#clock?.now ?? 0;
  }

  here(): Trail | null {
    return this.history.at(this.#trace.cause);
  }

  file(finding: Finding): void {
    this.#reports.file(finding);
  }

  #watches(): UnitWatch[] {
    return this.#host === null ? [] : [this.#host, ...this.#guests.values()];
  }

  #heard(record: EventRecord): void {
    this.history.add(record);
    const { name } = record.def;
    if (name === 'syscalls:sys_exit_ioctl') {
      const call = record.cause;
      const what = `${String(record.values['name'])} returned`;
      const trail = this.history.at(call);
      // Not in the midst of the event that others are still to hear of.
      this.#clock?.after(0, () => {
        this.#check({ what, trail }, (changed) => descendsFrom(changed, call));
      });
    } else if (name === 'vmm:error_report') {
      this.#guests.get(String(record.values['vm']))?.refused();
    }
  }

  /** Software goes on as if these changes were all invalidated. */
  #check(acted: Finding['acted'], owes: (trail: Trail | null) => boolean): void {
    this.#host?.ended(acted.what, owes);
    for (const change of [...this.stale.keys()]) {
      if (!owes(change.trail)) continue;
      for (const watch of this.#watches()) {
        watch.fileStale(change, watch.heldAfter(change), acted);
      }
    }
  }

  #change(entry: TableEntry, now: readonly bigint[], seen: boolean): Change {
    return {
      entry,
      before: entry.describe(),
      after: entry.describe(now),
      detach: isDetach(entry, now),
      ns: this.now(),
      order: this.order.value,
      trail: seen ? this.here() : null,
      used: null,
    };
  }
}

function unitOf(name: string, parts: UnitParts, toHost: (address: number) => number): WatchedUnit {
  const { memory, clock } = parts;
  return {
    name,
    memory,
    clock,
    readRegister: (offset, size) => parts.readRegister(offset, size),
    toHost,
  };
}
