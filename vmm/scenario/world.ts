import { DEVICE_BUGS } from '../../devices/dsa/bugs.ts';
import { DsaDevice } from '../../devices/dsa/dsa.ts';
import { rid } from '../../devices/spec/pci.ts';
import { CAP, HOST_CAP } from '../../devices/spec/vtd/capabilities.ts';
import { Sanitizer } from '../../devices/vtd/sanitizer/sanitizer.ts';
import { GUEST_BUGS } from '../../guest/bugs.ts';
import { bootGuest } from '../../guest/kernel.ts';
import { bootKernel } from '../../host/kernel/boot.ts';
import { HOST_BUGS } from '../../host/kernel/bugs.ts';
import type { Kernel } from '../../host/kernel/kernel.ts';
import { Machine } from '../../host/machine/machine.ts';
import type { Task } from '../../host/syscall.ts';
import { engine } from '../../trace/catalogue/engine.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import { host } from '../../trace/catalogue/host.ts';
import { vmm } from '../../trace/catalogue/vmm.ts';
import type { Listener, Sink } from '../../trace/tracer.ts';
import { VMM_BUGS } from '../bugs.ts';
import type { Vcpu } from '../vcpu.ts';
import { runVmm, type VmmResult } from '../vmm.ts';
import { type Bug, bugsOf } from './bugs.ts';
import { hostileGuest } from './hostile-guest.ts';

const MIB = 2 ** 20;

/** Exit code of a guest that lost power. */
const POWER_CUT = 137;

/** What the host needs beside its guests: kernel, tables, queues, the VMMs' own memory. */
const HOST_BYTES = 64 * MIB;

/** What each VMM takes of the host beside guest RAM: the file share's window, buffers, page tables. */
const HOST_BYTES_PER_VM = 8 * MIB;

/** Physical memory is one buffer, and the fastest one is at most this large. */
export const MAX_HOST_BYTES = 8 * 1024 * MIB;

/** One accelerator per VM, all on bus 0 beside the host bridge. */
export const MAX_VMS = 31;

export interface WorldOptions {
  readonly seed: number;
  /** 1..MAX_VMS, each with a device of its own. */
  readonly vms: number;
  /** Guest processes per VM, each with a PASID of its own. */
  readonly procs: number;
  /** RAM of each guest in bytes, a multiple of 4096. */
  readonly guestBytes: number;
  /** The file that each guest process copies. */
  readonly input: Uint8Array;
  /** The unit walks five-level first-stage tables (CAP.FS5LP), and the guests use them (LA57). */
  readonly fiveLevel?: boolean;
  /** The host unit's caches evict and prefetch at random moments, as hardware may. */
  readonly restlessCaches?: boolean;
  /** Watch the units, and file what drivers, VMMs and devices do wrong. */
  readonly sanitize?: boolean;
  /** The guests lose power after so many descriptors of each have completed. */
  readonly powerCut?: number | undefined;
  /** What guest processes run; default `copy`. */
  readonly program?: 'copy' | 'leave' | undefined;
  /** The host maps guest memory in 4 KiB pages only (IOMMU_OPTION_HUGE_PAGES off). */
  readonly smallPages?: boolean | undefined;
  /** The first guest is no kernel but does, at random, what it should not: so many acts. */
  readonly hostile?: number | undefined;
  /** The host has no memory for so many attachments that are to replace one of a PASID. */
  readonly refusedReplaces?: number | undefined;
  /** VMMs give guest memory back before they detach the device. */
  readonly unmapFirst?: boolean | undefined;
  /** Mistakes to make on purpose. */
  readonly bugs?: ReadonlySet<Bug>;
  readonly listeners: readonly Listener[];
  /** Who takes the whole stream, from power-on. */
  readonly sinks?: readonly Sink[];
}

export interface Leftovers {
  readonly objects: number;
  readonly pins: number;
  readonly pasidEntries: number;
  readonly fds: number;
}

export interface WorldResult {
  readonly vms: readonly VmmResult[];
  readonly leftovers: Leftovers;
  /** Virtual time at the end. */
  readonly ns: number;
}

/** Physical memory of a host that can hold these guests. */
export function hostBytesNeeded(vms: number, guestBytes: number): number {
  return HOST_BYTES + vms * (guestBytes + HOST_BYTES_PER_VM);
}

/** Everything from silicon to guest program, composed; time passes only as `step` is called. */
export class World {
  readonly #options: WorldOptions;
  readonly #machine: Machine;
  readonly #devices: DsaDevice[] = [];
  /** Descriptors that completed, by VM; counted for a power cut. */
  readonly #completions = new Map<string, number>();
  readonly #sanitizer: Sanitizer | undefined;
  readonly #bugs: ReadonlySet<Bug>;
  readonly #results: VmmResult[] = [];
  #kernel: Kernel | undefined;
  #done = false;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#sanitizer = options.sanitize === true ? new Sanitizer() : undefined;
    this.#bugs = options.bugs ?? new Set();
    const bugs = bugsOf(this.#bugs, DEVICE_BUGS);
    const ramBytes = hostBytesNeeded(options.vms, options.guestBytes);
    this.#machine = new Machine({
      ramBytes,
      seed: options.seed,
      restlessCaches: options.restlessCaches ?? false,
      sanitizer: this.#sanitizer,
      ...(options.fiveLevel === true && { cap: HOST_CAP | CAP.masks.FS5LP }),
      functions: Array.from({ length: options.vms }, () => (rid, world) => {
        const device = new DsaDevice({ rid, ...world, bugs });
        this.#devices.push(device);
        return device;
      }),
    });
    const { trace } = this.#machine;
    for (const listener of options.listeners) trace.listen(listener);
    for (const sink of options.sinks ?? []) trace.attach(sink);
    if (options.powerCut !== undefined) {
      trace.listen(({ def, values }) => {
        const vm = String(values['vm']);
        if (def !== guest.completion) return;
        this.#completions.set(vm, (this.#completions.get(vm) ?? 0) + 1);
      });
    }
    if (options.refusedReplaces !== undefined) this.#refuseReplaces(options.refusedReplaces);
    trace.cause = trace.emit(engine.powerOn, {
      seed: options.seed,
      ramBytes,
      functions: options.vms,
    });
    this.#machine.scheduler.spawn('world', this.#main());
    trace.cause = 0;
  }

  /** Virtual time in nanoseconds. */
  get ns(): number {
    return this.#machine.clock.now;
  }

  /** Lets the next thing happen. False: nothing is left to happen. Rethrows what a thread threw. */
  step(): boolean {
    const { clock, scheduler } = this.#machine;
    const more = clock.step();
    const failure = scheduler.failures[0];
    if (failure !== undefined) throw failure.error;
    return more;
  }

  /** Whether all programs have ended. */
  get done(): boolean {
    return this.#done;
  }

  /** What came of it so far, when somebody waits for ever. */
  unfinished(): WorldResult {
    this.#sanitizer?.end();
    const none = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };
    return { vms: this.#results, leftovers: this.#kernel?.leftovers() ?? none, ns: this.ns };
  }

  /** Different things that the sanitizer found so far. */
  get findings(): number {
    return this.#sanitizer?.count ?? 0;
  }

  /** What came of it, once `step` has returned false. */
  result(): WorldResult {
    if (!this.#done || this.#kernel === undefined) {
      throw new Error('the world stopped before its programs ended: something waits for ever');
    }
    return { vms: this.#results, leftovers: this.#kernel.leftovers(), ns: this.ns };
  }

  /** Attachments of a PASID fail when the VMM is about to replace one, as if memory had run out. */
  #refuseReplaces(count: number): void {
    let left = count;
    this.#machine.trace.listen(({ def, values }) => {
      const replaces = def === vmm.guestEntry && values['change'] === 'replace';
      if (!replaces || values['pasid'] === 0 || left === 0) return;
      left--;
      this.#kernel?.failpoints.failAt('iommufd:replace_handle');
    });
  }

  *#main(): Task {
    const { vms, procs } = this.#options;
    const frames = this.#sanitizer ?? null;
    const bugs = bugsOf(this.#bugs, HOST_BUGS);
    const kernel = yield* bootKernel(this.#machine, { frames, bugs });
    this.#kernel = kernel;
    this.#sanitizer?.watchFrames((pfn) => kernel.pages.isFree(pfn));
    const processes = Array.from({ length: vms }, (_, n) => {
      const process = kernel.createProcess(`vmm${n}`);
      process.start(() => this.#vmm(process, n));
      return process;
    });
    for (const process of processes) {
      yield* process.wait();
    }
    this.#finish(vms * procs);
  }

  *#vmm(sys: Parameters<typeof runVmm>[0], n: number): Task {
    const { guestBytes, procs, seed, input, fiveLevel = false, program = 'copy' } = this.#options;
    const { clock, trace } = this.#machine;
    const name = `vm${n}`;
    const paging = fiveLevel ? ' la57=1' : '';
    const sanitizer = this.#sanitizer;
    const mistakes = [...bugsOf(this.#bugs, GUEST_BUGS)].map((bug) => ` bug=${bug}`).join('');
    this.#results[n] = yield* runVmm(sys, {
      name,
      ramBytes: guestBytes,
      device: `/dev/vfio/devices/vfio${n}`,
      commandLine: `name=${name} procs=${procs} seed=${seed}${paging}${mistakes} program=${program}`,
      input,
      outputs: procs,
      trace,
      guest: (cpu) => this.#guest(name, this.#program(n, cpu)),
      unmapFirst: this.#options.unmapFirst,
      smallPages: this.#options.smallPages,
      now: () => clock.now,
      sanitize: sanitizer && { sanitizer, hostRid: rid(0, n + 1, 0) },
      bugs: bugsOf(this.#bugs, VMM_BUGS),
    });
  }

  /** What runs on the processor of a VM. */
  #program(n: number, cpu: Vcpu): ReturnType<typeof bootGuest> {
    const { hostile, guestBytes, seed } = this.#options;
    if (n > 0 || hostile === undefined) return bootGuest(cpu, this.#machine.trace);
    return hostileGuest(cpu, { ramBytes: guestBytes, seed, operations: hostile });
  }

  /** The guest, until its power is cut. */
  *#guest(name: string, machine: ReturnType<typeof bootGuest>): ReturnType<typeof bootGuest> {
    const { powerCut = Infinity } = this.#options;
    let answer = 0n;
    for (;;) {
      const next = machine.next(answer);
      if (next.done === true) return next.value;
      if ((this.#completions.get(name) ?? 0) >= powerCut) return POWER_CUT;
      answer = yield next.value;
    }
  }

  #finish(processes: number): void {
    const { trace, unit } = this.#machine;
    this.#sanitizer?.end();
    trace.cause = trace.emit(engine.settled, { vms: this.#options.vms, processes });
    unit.emitStats();
    for (const device of this.#devices) device.emitStats();
    if (this.#kernel !== undefined) trace.emit(host.leftovers, { ...this.#kernel.leftovers() });
    this.#done = true;
  }
}
