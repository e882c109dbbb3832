/** A host whose remapping unit is scripted by the test, with the driver up. */

import { parseMcfg } from '../../../../devices/spec/acpi.ts';
import { HOST_CAP, HOST_ECAP } from '../../../../devices/spec/vtd/capabilities.ts';
import { IntelDevice } from '../../../../host/kernel/intel/device.ts';
import { intelIommuInit } from '../../../../host/kernel/intel/init.ts';
import { NestedDomain } from '../../../../host/kernel/intel/nested.ts';
import { PagingDomain } from '../../../../host/kernel/intel/paging.ts';
import type { IommuCore } from '../../../../host/kernel/iommu/core.ts';
import type { AttachHandle, IommuDev, IommuDomain } from '../../../../host/kernel/iommu/ops.ts';
import type { KernelOptions } from '../../../../host/kernel/kernel.ts';
import { Kernel } from '../../../../host/kernel/kernel.ts';
import { enumeratePci } from '../../../../host/kernel/pci.ts';
import { VirtualClock } from '../../../../host/machine/clock.ts';
import { runFirmware } from '../../../../host/machine/firmware.ts';
import { InterruptController } from '../../../../host/machine/interrupts.ts';
import type { Machine } from '../../../../host/machine/machine.ts';
import { Ram } from '../../../../host/machine/ram.ts';
import { Random } from '../../../../host/machine/random.ts';
import { RootComplex } from '../../../../host/machine/root-complex.ts';
import { Scheduler } from '../../../../host/machine/scheduler.ts';
import type { Task } from '../../../../host/syscall.ts';
import {
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_DATA_VTD_S1,
  iommu_hwpt_vtd_s1,
} from '../../../../host/uapi/iommufd.ts';
import type { EventRecord } from '../../../../trace/event.ts';
import { Tracer } from '../../../../trace/tracer.ts';
import { BareFunction } from './function.ts';
import { ScriptedUnit } from './scripted-unit.ts';

export interface World {
  readonly machine: Machine;
  readonly unit: ScriptedUnit;
  readonly kernel: Kernel;
  readonly core: IommuCore;
  readonly devs: readonly IommuDev[];
  readonly functions: readonly BareFunction[];
  readonly events: EventRecord[];
  /** Runs a task to its end and gives its result, or throws what it throws. */
  run<T>(task: Task<T>): T;
  /** Lets the machine run until nothing is left to do. */
  settle(): void;
}

export interface WorldOptions {
  readonly kernel?: KernelOptions;
  readonly cap?: bigint;
  readonly ecap?: bigint;
  readonly functions?: readonly ConstructorParameters<typeof BareFunction>[1][];
}

export function makeWorld(options: WorldOptions = {}): World {
  const clock = new VirtualClock();
  const trace = new Tracer(() => clock.now);
  clock.trace = trace;
  const events: EventRecord[] = [];
  trace.listen((record) => events.push(record));
  const scheduler = new Scheduler(clock, trace);
  const random = new Random(1);
  const ram = new Ram(64 << 20);
  const interrupts = new InterruptController(clock, trace);
  const root = new RootComplex({ ram, clock, interrupts });
  const parts = { ram, clock, interrupts };
  const unit = new ScriptedUnit(parts, options.cap ?? HOST_CAP, options.ecap ?? HOST_ECAP);
  root.connect(unit);
  const functions = (options.functions ?? [{}]).map((o, n) => new BareFunction((n + 1) << 3, o));
  for (const fn of functions) root.attach(fn);
  const boot = runFirmware({ ram, functions, registerBytes: unit.registerBytes, haw: 46 });
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
  const core = run(intelIommuInit(kernel));
  const devs = kernel.pciDevices.map((pci) => core.deviceOf(pci)!);
  unit.log.length = 0;
  return { machine, unit, kernel, core, devs, functions, events, run, settle: () => clock.run() };
}

export function deviceState(dev: IommuDev): IntelDevice {
  if (dev.priv instanceof IntelDevice) return dev.priv;
  throw new Error(`${dev.name} is not the driver's`);
}

/** The entry of a PASID as it stands in memory. */
export function entryOf(dev: IommuDev, pasid: number): bigint[] {
  return [...deviceState(dev).table.read(pasid)];
}

/** A nest parent for the first device. */
export function nestParent(world: World): PagingDomain {
  return nestParentOf(world.devs[0]!);
}

export function nestParentOf(dev: IommuDev): PagingDomain {
  const flags = IOMMU_HWPT_ALLOC_NEST_PARENT | IOMMU_HWPT_ALLOC_PASID;
  const domain = dev.ops.domainAllocPaging(dev, flags, null);
  if (!(domain instanceof PagingDomain)) throw new Error('not a paging domain');
  return domain;
}

export function nested(
  dev: IommuDev,
  parent: IommuDomain,
  root: bigint,
  more: { width?: number; flags?: bigint } = {},
): NestedDomain {
  const bytes = iommu_hwpt_vtd_s1.encode({
    flags: more.flags ?? 0n,
    pgtbl_addr: root,
    addr_width: more.width ?? 48,
  });
  const data = { type: IOMMU_HWPT_DATA_VTD_S1, bytes };
  const domain = dev.ops.domainAllocNested!(dev, parent, IOMMU_HWPT_ALLOC_PASID, data);
  if (!(domain instanceof NestedDomain)) throw new Error('not a nested domain');
  return domain;
}

export const handleOf = (domain: IommuDomain): AttachHandle => ({ domain });
