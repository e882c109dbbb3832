import { host as events } from '../../trace/catalogue/host.ts';
import type { Tracer } from '../../trace/tracer.ts';
import type { Machine } from '../machine/machine.ts';
import { Acpi } from './acpi.ts';
import type { HostBug } from './bugs.ts';
import { Errno } from './errno.ts';
import { FailPoints } from './failpoint.ts';
import type { Caller, FileOps } from './file.ts';
import { KernelMemory } from './kernel-memory.ts';
import { type FrameWatcher, PageAllocator } from './page-alloc.ts';
import type { PciDev } from './pci.ts';
import { Process, type ProcessHost } from './process.ts';
import { type Behaviour, behaviourOf, DEFAULT_RELEASE } from './release.ts';

/** What of the machine shows in the kernel's own interface, for those who see only the kernel. */
export type { ForeignMemory } from '../machine/ram.ts';
export type { Thread } from '../machine/scheduler.ts';

/** Where Linux versions differ: the kernel's named options. */
export interface KernelOptions {
  /**
   * How a live PASID entry changes: in place with the hitless sequence (VT-d driver up to 6.19), or
   * torn down first (7.0). Default `hitless`.
   */
  readonly replace?: 'hitless' | 'break-before-make';
  /**
   * IOMMU_TEST_CMD and the mock devices, as in a kernel built with CONFIG_IOMMUFD_TEST. Default
   * false: the command is ENOTTY.
   */
  readonly selftest?: boolean;
  /** The Linux release whose answers count where releases differ (`release.ts`): `6.12`. */
  readonly release?: string;
  /**
   * iommufd's `allow_unsafe_interrupts`: whether a device is given away whose interrupts are not
   * remapped, so that its user could forge any. Default true: this host does not remap any.
   */
  readonly unsafeInterrupts?: boolean;
  /** How many objects, areas, ranges and events its users may have at a time. Default 2^21. */
  readonly memory?: number;
  /** Hears of every frame that is freed or loses its last pin. */
  readonly frames?: FrameWatcher | null;
  /** Mistakes that the kernel makes on purpose, to show that they are found (`bugs.ts`). */
  readonly bugs?: ReadonlySet<HostBug>;
}

const DEFAULTS: Required<KernelOptions> = {
  replace: 'hitless',
  selftest: false,
  release: DEFAULT_RELEASE,
  unsafeInterrupts: true,
  memory: 2 ** 21,
  frames: null,
  bugs: new Set(),
};

/** What is still held when it should be nothing. */
export interface Leftovers {
  readonly objects: number;
  readonly pins: number;
  readonly pasidEntries: number;
  readonly fds: number;
}

type Counted = 'objects' | 'pins' | 'pasidEntries';

/** Opens a device node for a process. May throw Errno. */
export type OpenDevice = (caller: Caller, flags: number) => FileOps;

/** The machine as the kernel sees it: the unit only through registers and memory. */
export type KernelMachine = Omit<Machine, 'unit'>;

/** The host kernel: what its subsystems share. `bootKernel` brings one up whole. */
export class Kernel implements ProcessHost {
  readonly machine: KernelMachine;
  readonly trace: Tracer;
  readonly options: Required<KernelOptions>;
  readonly behaviour: Behaviour;
  readonly pages: PageAllocator;
  readonly failpoints = new FailPoints();
  readonly memory: KernelMemory;
  readonly acpi: Acpi;
  /** In bus order. */
  readonly pciDevices: PciDev[] = [];
  readonly #devices = new Map<string, OpenDevice>();
  readonly #processes: Process[] = [];
  readonly #leftovers: { readonly name: Counted; readonly count: () => number }[] = [];
  #pid = 0;

  constructor(machine: KernelMachine, options: KernelOptions = {}) {
    this.machine = machine;
    this.trace = machine.trace;
    this.options = { ...DEFAULTS, ...options };
    this.memory = new KernelMemory(this.options.memory);
    this.behaviour = behaviourOf(this.options.release);
    this.pages = new PageAllocator(machine.ram, machine.random, machine.usable);
    this.pages.watcher = this.options.frames;
    this.acpi = new Acpi(machine.root, machine.rsdp);
    this.failpoints.currentTask = () => machine.scheduler.current;
  }

  /** Makes a device node. Throws if the path is taken. */
  registerDevice(path: string, open: OpenDevice): void {
    if (this.#devices.has(path)) throw new Error(`${path} is registered`);
    this.#devices.set(path, open);
  }

  /** The paths of all device nodes, in the order they were made. */
  devicePaths(): string[] {
    return [...this.#devices.keys()];
  }

  openDevice(path: string, caller: Caller, flags: number): FileOps {
    this.failpoints.point('fs:path');
    this.failpoints.point('fs:open_file');
    const open = this.#devices.get(path);
    if (open === undefined) throw new Errno('ENOENT', `there is no ${path}`);
    return open(caller, flags);
  }

  createProcess(name: string): Process {
    const process = new Process(this, name);
    this.#processes.push(process);
    return process;
  }

  nextPid(): number {
    return ++this.#pid;
  }

  /** Open file descriptors of all processes. */
  openFds(): number {
    return this.#processes.reduce((sum, process) => sum + process.files.size, 0);
  }

  /** A subsystem tells how to count what it holds. Counters of one name add up. */
  addLeftover(name: Counted, count: () => number): void {
    this.#leftovers.push({ name, count });
  }

  leftovers(): Leftovers {
    const sum = (name: Counted): number =>
      this.#leftovers.reduce((n, each) => (each.name === name ? n + each.count() : n), 0);
    return {
      objects: sum('objects'),
      pins: this.pages.pinned + sum('pins'),
      pasidEntries: sum('pasidEntries'),
      fds: this.openFds(),
    };
  }

  /** The same, told to the trace. */
  reportLeftovers(): Leftovers {
    const leftovers = this.leftovers();
    this.trace.emit(events.leftovers, { ...leftovers });
    return leftovers;
  }
}
