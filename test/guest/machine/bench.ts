/** Parts of the guest kernel on the fake machine, for tests of one part. */

import { readPlatform } from '../../../guest/acpi.ts';
import type { Core } from '../../../guest/core.ts';
import { CpuState } from '../../../guest/cpu-state.ts';
import { type IntelIommu, startIommu } from '../../../guest/iommu/iommu.ts';
import type { IommuDevice } from '../../../guest/iommu/unit.ts';
import { Interrupts } from '../../../guest/irq.ts';
import { AddressSpace } from '../../../guest/mm/mm.ts';
import { PageAllocator } from '../../../guest/mm/page-alloc.ts';
import { scanPci } from '../../../guest/pci.ts';
import { Scheduler } from '../../../guest/sched.ts';
import type { Task } from '../../../guest/task.ts';
import { FakeMachine, type MachineOptions } from './machine.ts';

export class Bench {
  readonly machine: FakeMachine;
  readonly core: Core;
  readonly cpuState: CpuState;

  constructor(options: MachineOptions = {}, pagingLevels: 4 | 5 = 4) {
    this.machine = new FakeMachine(options);
    const { cpu, trace } = this.machine;
    const interrupts = new Interrupts(cpu, trace, 'vm0');
    const sched = new Scheduler(cpu, trace, interrupts);
    const ranges = [{ start: 0, bytes: cpu.ram.length }];
    const pages = new PageAllocator(cpu, ranges, []);
    this.core = { cpu, trace, vm: 'vm0', interrupts, sched, pages, pagingLevels };
    this.cpuState = new CpuState(this.core);
  }

  /** Runs a task to its end as a thread; what it throws comes out here. */
  run<T>(task: Task<T>): T {
    const thread = this.core.sched.spawn('test', task);
    return this.machine.run(this.core.sched.run(thread));
  }

  mm(pid = 1): AddressSpace {
    return new AddressSpace(this.core, this.cpuState, pid);
  }

  /** The unit up, the accelerator probed, page requests on. */
  iommu(): { iommu: IntelIommu; device: IommuDevice } {
    return this.run(this.#startIommu());
  }

  *#startIommu(): Task<{ iommu: IntelIommu; device: IommuDevice }> {
    const platform = readPlatform(this.core.cpu, 0x20_0000);
    const iommu = yield* startIommu(this.core, platform.dmar, { passThrough: false });
    const [pci] = yield* scanPci(this.core, platform.ecam);
    const device = yield* iommu.probeDevice(pci!);
    yield* iommu.enablePageRequests(device);
    return { iommu, device };
  }
}
