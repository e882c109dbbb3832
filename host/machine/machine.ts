import type { Clock } from '../../devices/clock.ts';
import type { Fabric, PciFunction } from '../../devices/pci/fabric.ts';
import { rid } from '../../devices/spec/pci.ts';
import { HOST_CAP, HOST_ECAP } from '../../devices/spec/vtd/capabilities.ts';
import { RestlessUnit } from '../../devices/vtd/restless-unit.ts';
import { SanitizedFunction } from '../../devices/vtd/sanitizer/sanitized-function.ts';
import { SanitizedUnit } from '../../devices/vtd/sanitizer/sanitized-unit.ts';
import type { Sanitizer } from '../../devices/vtd/sanitizer/sanitizer.ts';
import { VtdUnit } from '../../devices/vtd/unit.ts';
import { Tracer } from '../../trace/tracer.ts';
import { VirtualClock } from './clock.ts';
import { type MemoryRange, runFirmware } from './firmware.ts';
import { InterruptController } from './interrupts.ts';
import { Ram } from './ram.ts';
import { Random } from './random.ts';
import { RootComplex } from './root-complex.ts';
import { Scheduler } from './scheduler.ts';
import { WatchedRam } from './watched-ram.ts';

/** What a function is given to live in. */
export interface FunctionWorld {
  readonly fabric: Fabric;
  readonly clock: Clock;
  readonly trace: Tracer;
}

export type MakeFunction = (rid: number, world: FunctionWorld) => PciFunction;

export interface MachineOptions {
  /** A multiple of 4096, more than 1 MiB, up to 8 GiB. */
  readonly ramBytes: number;
  readonly seed: number;
  /** Its time should be the machine's `clock.now`. Default: one of its own. */
  readonly trace?: Tracer;
  /** Host address width, 39 to 52 bits; default 46. */
  readonly haw?: number;
  /** What the unit reports; default `HOST_CAP`, `HOST_ECAP`. */
  readonly cap?: bigint;
  readonly ecap?: bigint;
  /** The unit's caches evict and prefetch at random moments, as hardware may; default false. */
  readonly restlessCaches?: boolean;
  /** Watches the unit and the memory; without it nothing is watched and nothing slower. */
  readonly sanitizer?: Sanitizer | undefined;
  /** Function n becomes 00:(n+1).0; at most 31. */
  readonly functions: readonly MakeFunction[];
}

const DEFAULT_HAW = 46;
const MAX_FUNCTIONS = 31;

/** The host's hardware, switched on, with its firmware done. */
export class Machine {
  readonly clock: VirtualClock;
  readonly trace: Tracer;
  readonly scheduler: Scheduler;
  readonly random: Random;
  readonly ram: Ram;
  readonly interrupts: InterruptController;
  readonly root: RootComplex;
  /** Only the harness may look at it, for its counters: the kernel reaches it through `root`. */
  readonly unit: VtdUnit;
  readonly haw: number;
  /** Physical address of the ACPI root pointer. */
  readonly rsdp: number;
  /** RAM that the kernel may use, ascending. */
  readonly usable: readonly MemoryRange[];

  constructor(options: MachineOptions) {
    const { functions, haw = DEFAULT_HAW, cap = HOST_CAP, ecap = HOST_ECAP } = options;
    if (!Number.isInteger(haw) || haw < 39 || haw > 52) throw new RangeError(`haw ${haw}`);
    if (functions.length > MAX_FUNCTIONS) throw new RangeError(`${functions.length} functions`);
    this.clock = new VirtualClock();
    this.trace = options.trace ?? new Tracer(() => this.clock.now);
    this.clock.trace = this.trace;
    this.scheduler = new Scheduler(this.clock, this.trace);
    this.random = new Random(options.seed);
    const { sanitizer } = options;
    this.ram =
      sanitizer === undefined
        ? new Ram(options.ramBytes)
        : new WatchedRam(options.ramBytes, (address, bytes) => sanitizer.stored(address, bytes));
    this.interrupts = new InterruptController(this.clock, this.trace);
    this.haw = haw;
    const { clock, trace, ram, interrupts } = this;
    this.root = new RootComplex({ ram, clock, interrupts });
    const watch = sanitizer?.watchHost(trace, {
      memory: ram,
      clock,
      readRegister: (offset, size) => this.unit.readRegister(offset, size),
    });
    const { world: bare } = this.root;
    const world = watch === undefined ? bare : { ...bare, observer: watch };
    const unit = { cap, ecap, haw, world, trace, name: 'host' };
    const { restlessCaches = false, seed } = options;
    this.unit = restlessCaches ? new RestlessUnit({ ...unit, seed }) : new VtdUnit(unit);
    this.root.connect(watch === undefined ? this.unit : new SanitizedUnit(this.unit, watch));
    const fabric = this.root.fabric;
    functions.forEach((make, n) => {
      const fn = make(rid(0, n + 1, 0), { fabric, clock, trace });
      this.root.attach(watch === undefined ? fn : new SanitizedFunction(fn, watch));
    });
    const boot = runFirmware({
      ram,
      functions: this.root.functions(),
      registerBytes: this.unit.registerBytes,
      haw,
    });
    this.rsdp = boot.rsdp;
    this.usable = boot.usable;
  }
}
