/** A host kernel with iommufd and VFIO over a mock IOMMU driver, and user programs in it. */
import { parseMcfg } from '../../../../devices/spec/acpi.ts';
import { IommuCore } from '../../../../host/kernel/iommu/core.ts';
import type { IommuDev } from '../../../../host/kernel/iommu/ops.ts';
import { iommufdInit } from '../../../../host/kernel/iommufd/main.ts';
import { Kernel, type KernelOptions } from '../../../../host/kernel/kernel.ts';
import type { PciDev } from '../../../../host/kernel/pci.ts';
import { enumeratePci } from '../../../../host/kernel/pci.ts';
import type { Process } from '../../../../host/kernel/process.ts';
import type { VfioPciDevice } from '../../../../host/kernel/vfio/pci-core.ts';
import { vfioPciInit } from '../../../../host/kernel/vfio/vfio-pci.ts';
import { VirtualClock } from '../../../../host/machine/clock.ts';
import { runFirmware } from '../../../../host/machine/firmware.ts';
import { InterruptController } from '../../../../host/machine/interrupts.ts';
import type { Machine } from '../../../../host/machine/machine.ts';
import { Ram } from '../../../../host/machine/ram.ts';
import { Random } from '../../../../host/machine/random.ts';
import type { RemappingUnit } from '../../../../host/machine/remapping-unit.ts';
import { RootComplex } from '../../../../host/machine/root-complex.ts';
import { Scheduler } from '../../../../host/machine/scheduler.ts';
import type { Task } from '../../../../host/syscall.ts';
import { errnoName } from '../../../../host/uapi/errno.ts';
import {
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  O_RDWR,
  PROT_READ,
  PROT_WRITE,
} from '../../../../host/uapi/poll.ts';
import type { Fields, Struct, Values } from '../../../../host/uapi/struct.ts';
import type { EventRecord } from '../../../../trace/event.ts';
import { Tracer } from '../../../../trace/tracer.ts';
import { TestFunction } from './function.ts';
import { MockDriver } from './mock-driver.ts';

const SCRATCH_BYTES = 0x4000;

/** Lets every message pass: DMA is not what these tests are about. */
const TRANSPARENT: RemappingUnit = {
  registerBytes: 0x1000,
  readRegister: () => 0n,
  writeRegister: () => undefined,
  translate: () => false,
  result: {
    pfn: 0,
    shift: 12,
    read: false,
    write: false,
    status: 1,
    noSnoop: false,
    priv: false,
    untranslatedOnly: false,
  },
  translated: () => false,
  pageRequest: () => undefined,
  interruptRequest: () => true,
  invalidateComplete: () => undefined,
};

export interface World {
  readonly machine: Machine;
  readonly kernel: Kernel;
  readonly driver: MockDriver;
  readonly functions: readonly TestFunction[];
  readonly pdevs: readonly PciDev[];
  readonly devs: readonly IommuDev[];
  /** What vfio-pci has. */
  readonly vfio: readonly VfioPciDevice[];
  readonly events: EventRecord[];
  run<T>(task: Task<T>): T;
  settle(): void;
  user(name?: string): User;
}

export interface WorldOptions {
  readonly functions?: readonly { flr?: boolean }[];
  readonly maxPasids?: number;
  /** All functions are in one IOMMU group. */
  readonly oneGroup?: boolean;
  readonly kernel?: KernelOptions;
}

export function makeWorld(options: WorldOptions = {}): World {
  const clock = new VirtualClock();
  const trace = new Tracer(() => clock.now);
  clock.trace = trace;
  const events: EventRecord[] = [];
  trace.listen((record) => events.push(record));
  const scheduler = new Scheduler(clock, trace);
  const ram = new Ram(64 << 20);
  const interrupts = new InterruptController(clock, trace);
  const root = new RootComplex({ ram, clock, interrupts });
  root.connect(TRANSPARENT);
  const functions = (options.functions ?? [{}]).map(
    (one, n) => new TestFunction((n + 1) << 3, root.fabric, one),
  );
  for (const fn of functions) root.attach(fn);
  const boot = runFirmware({ ram, functions, registerBytes: 0x1000, haw: 46 });
  const random = new Random(1);
  const base = { clock, trace, scheduler, random, ram, interrupts, root, haw: 46, ...boot };
  const machine = base as unknown as Machine;
  const kernel = new Kernel(machine, options.kernel);
  for (const window of parseMcfg(kernel.acpi.table('MCFG')!)) {
    kernel.pciDevices.push(...enumeratePci(root, window));
  }
  const run = <T>(task: Task<T>): T => {
    const thread = scheduler.spawn('test', task);
    clock.run(() => thread.done);
    if (thread.failed) {
      scheduler.observed(thread);
      throw thread.error;
    }
    if (!thread.done) throw new Error('the task waits for ever');
    return thread.result as T;
  };
  const driver = new MockDriver(kernel);
  if (options.maxPasids !== undefined) driver.maxPasids = options.maxPasids;
  kernel.iommu = new IommuCore(kernel);
  const devs: IommuDev[] = [];
  for (const pdev of kernel.pciDevices) {
    const [first] = devs;
    const home =
      options.oneGroup === true && first !== undefined ? kernel.iommu.groupOf(first) : undefined;
    devs.push(run(kernel.iommu.addDevice(pdev, driver, home)));
  }
  iommufdInit(kernel);
  const vfio = run(vfioPciInit(kernel));
  kernel.failpoints.disarm();
  return {
    machine,
    kernel,
    driver,
    functions,
    pdevs: kernel.pciDevices,
    devs,
    vfio,
    events,
    run,
    settle: () => clock.run(),
    user: (name = 'test') => new User(kernel.createProcess(name), run),
  };
}

/** A user program that makes one system call after the other. */
export class User {
  readonly process: Process;
  /** Memory for arguments. */
  readonly scratch: number;
  readonly #run: <T>(task: Task<T>) => T;

  constructor(process: Process, run: <T>(task: Task<T>) => T) {
    this.process = process;
    this.#run = run;
    this.scratch = this.map(SCRATCH_BYTES);
  }

  /** Anonymous memory. */
  map(bytes: number, prot = PROT_READ | PROT_WRITE): number {
    return this.#run(this.process.mmap(bytes, prot, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0));
  }

  open(path: string): number {
    return this.#run(this.process.open(path, O_RDWR));
  }

  close(fd: number): number {
    return this.#run(this.process.close(fd));
  }

  write(address: number, bytes: Uint8Array): void {
    this.process.memory.write(address, bytes);
  }

  read(address: number, length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    this.process.memory.read(address, bytes);
    return bytes;
  }

  run<T>(task: Task<T>): T {
    return this.#run(task);
  }

  /** An ioctl with raw argument bytes: 'OK' or the error's name. */
  raw(fd: number, request: number, bytes: Uint8Array): string {
    this.write(this.scratch, bytes);
    return name(this.#run(this.process.ioctl(fd, request, this.scratch)));
  }

  /** An ioctl: 'OK' or the error's name, and the argument as it came back. */
  call<F extends Fields>(
    fd: number,
    request: number,
    struct: Struct<F>,
    values: Partial<Values<F>>,
  ): { result: string; out: Values<F> } {
    const bytes = struct.encode(values);
    // `size` or `argsz`, whichever comes first.
    const view = new DataView(bytes.buffer);
    if (view.getUint32(0, true) === 0) view.setUint32(0, struct.size, true);
    const result = this.raw(fd, request, bytes);
    return { result, out: struct.read(new DataView(this.read(this.scratch, struct.size).buffer)) };
  }

  /** An ioctl that must succeed. */
  ok<F extends Fields>(
    fd: number,
    request: number,
    struct: Struct<F>,
    values: Partial<Values<F>>,
  ): Values<F> {
    const { result, out } = this.call(fd, request, struct, values);
    if (result !== 'OK') throw new Error(`${struct.name}: ${result}`);
    return out;
  }

  /** An ioctl that is expected to be refused: the error's name. */
  refused<F extends Fields>(
    fd: number,
    request: number,
    struct: Struct<F>,
    values: Partial<Values<F>>,
  ): string {
    return this.call(fd, request, struct, values).result;
  }
}

const name = (result: number): string => (result < 0 ? errnoName(result) : 'OK');
