/** The guest kernel: from the boot page to power-off. */
import {
  BOOT_PARAMS_BYTES,
  BOOT_PARAMS_GPA,
  type BootParams,
  decodeBootParams,
} from '../devices/spec/boot.ts';
import { DsaPci } from '../devices/spec/dsa/registers.ts';
import { FILESHARE_DEVICE, FILESHARE_VENDOR } from '../devices/spec/fileshare.ts';
import { PAGE_SIZE } from '../devices/spec/x86/paging.ts';
import { guest } from '../trace/catalogue/guest.ts';
import type { Tracer } from '../trace/tracer.ts';
import { type Platform, readPlatform } from './acpi.ts';
import type { Core } from './core.ts';
import type { Cpu, GuestMachine } from './cpu.ts';
import { CpuState } from './cpu-state.ts';
import { FileShare } from './drivers/fileshare.ts';
import { Idxd } from './drivers/idxd.ts';
import { GuestError } from './errno.ts';
import { type IntelIommu, startIommu } from './iommu/iommu.ts';
import { Interrupts } from './irq.ts';
import { MMAP_BASE } from './mm/mm.ts';
import { PageAllocator } from './mm/page-alloc.ts';
import { type KernelOptions, parseCommandLine } from './options.ts';
import { type PciFunction, scanPci } from './pci.ts';
import { Process, type Services } from './process.ts';
import { Scheduler, type Thread } from './sched.ts';
import { type Task, waitOn } from './task.ts';
import { copyProgram } from './user/copy.ts';
import { leaveProgram } from './user/leave.ts';

/** Power-off codes of the kernel itself; a failed program's power-off is 1. */
export const EXIT_CODE = { OK: 0, PROGRAM_FAILED: 1, KERNEL_FAILED: 2 } as const;

const FIRST_PID = 100;

/** Random pages added to where a process's mappings start: below 2^20. */
const MMAP_RANDOM_PAGES = 2 ** 20;

/**
 * Runs the guest on `cpu`: reads the boot page at BOOT_PARAMS_GPA, brings the platform up, runs
 * `procs` copies of the program and powers off, yielding exits all the while. Returns (and powers
 * off with) 0 if every program verified its work; see EXIT_CODE. What fails is told by a
 * guest:program_result event `error`, of pid 0 for the kernel.
 */
export function* bootGuest(cpu: Cpu, trace: Tracer): GuestMachine<number> {
  const cause = trace.cause;
  let vm = 'vm0';
  let code: number;
  try {
    const params = readBootPage(cpu);
    const options = parseCommandLine(params.commandLine);
    vm = options.name;
    code = yield* runKernel(cpu, trace, params, options);
  } catch (error) {
    if (!(error instanceof GuestError)) throw error;
    trace.emit(guest.result, { vm, pid: 0, what: 'error', value: error.message });
    code = EXIT_CODE.KERNEL_FAILED;
  }
  trace.cause = cause;
  trace.cause = trace.emit(guest.shutdown, { vm, code });
  yield { kind: 'shutdown', code };
  return code;
}

function readBootPage(cpu: Cpu): BootParams {
  const page = new Uint8Array(BOOT_PARAMS_BYTES);
  cpu.readBytes(BOOT_PARAMS_GPA, page);
  try {
    return decodeBootParams(page);
  } catch (error) {
    if (error instanceof RangeError) throw new GuestError('EINVAL', error.message);
    throw error;
  }
}

function* runKernel(
  cpu: Cpu,
  trace: Tracer,
  params: BootParams,
  options: KernelOptions,
): GuestMachine<number> {
  const vm = options.name;
  const platform = readPlatform(cpu, params.rsdp);
  const interrupts = new Interrupts(cpu, trace, vm);
  const core: Core = {
    cpu,
    trace,
    vm,
    interrupts,
    sched: new Scheduler(cpu, trace, interrupts),
    pages: new PageAllocator(cpu, params.ranges, platform.reserved),
    pagingLevels: options.la57 && cpu.features.la57 ? 5 : 4,
    bugs: options.bugs,
  };
  const init = core.sched.spawn('init', initThread(core, platform, params, options));
  return yield* core.sched.run(init);
}

function* initThread(
  core: Core,
  platform: Platform,
  params: BootParams,
  options: KernelOptions,
): Task<number> {
  const { services, iommu } = yield* bringUp(core, platform, params, options);
  const threads: Thread<number>[] = [];
  for (let index = 0; index < options.processes; index++) {
    threads.push(startProcess(services, index, options));
  }
  let code: number = EXIT_CODE.OK;
  for (const thread of threads) {
    while (!thread.done) yield* waitOn(thread.finished);
    if (thread.result !== 0) code = EXIT_CODE.PROGRAM_FAILED;
  }
  yield* services.idxd.shutdown();
  yield* iommu.shutdown();
  return code;
}

function* bringUp(
  core: Core,
  platform: Platform,
  params: BootParams,
  options: KernelOptions,
): Task<{ services: Services; iommu: IntelIommu }> {
  const { trace, vm } = core;
  const ramBytes = params.ranges.reduce((sum, range) => sum + range.bytes, 0);
  const { commandLine } = params;
  using _span = trace.span(guest.boot, { vm, ramBytes, commandLine });
  if (!core.cpu.features.enqcmd) throw new GuestError('EOPNOTSUPP', 'the CPU has no ENQCMD');
  const cpuState = new CpuState(core);
  const iommu = yield* startIommu(core, platform.dmar, { passThrough: options.passThrough });
  const functions = yield* scanPci(core, platform.ecam);
  const accelerator = find(functions, DsaPci.VENDOR_ID, DsaPci.DEVICE_ID, 'accelerator');
  const shareFunction = find(functions, FILESHARE_VENDOR, FILESHARE_DEVICE, 'file share');
  const share = yield* FileShare.probe(core, shareFunction);
  const idxd = yield* Idxd.probe(core, accelerator, iommu);
  return { services: { core, cpuState, share, idxd, sva: iommu.sva }, iommu };
}

function find(
  functions: readonly PciFunction[],
  vendor: number,
  device: number,
  what: string,
): PciFunction {
  const found = functions.find((pci) => pci.vendor === vendor && pci.device === device);
  if (found === undefined) throw new GuestError('ENODEV', `no ${what} on the bus`);
  return found;
}

/** Starts process `index` with its own place for mappings, drawn from the seed. */
function startProcess(
  services: Services,
  index: number,
  { seed, program }: KernelOptions,
): Thread<number> {
  const pid = FIRST_PID + index;
  const base = MMAP_BASE + randomPages(seed, pid) * PAGE_SIZE;
  const process = new Process(services, pid, program, base);
  const run = program === 'copy' ? copyProgram : leaveProgram;
  const task = process.run((user) => run(user, index));
  return services.core.sched.spawn(`${program}/${pid}`, task, process);
}

/** A number of pages from seed and pid (the finalizer of MurmurHash3). */
function randomPages(seed: number, pid: number): number {
  let h = Math.imul((seed % 2 ** 32) ^ Math.imul(pid, 0x9e37_79b1), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return ((h ^ (h >>> 16)) >>> 0) % MMAP_RANDOM_PAGES;
}
