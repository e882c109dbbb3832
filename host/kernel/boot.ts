import { parseMcfg } from '../../devices/spec/acpi.ts';
import { parseDmar } from '../../devices/spec/dmar.ts';
import { host as events } from '../../trace/catalogue/host.ts';
import type { Machine } from '../machine/machine.ts';
import type { Task } from '../syscall.ts';
import { intelIommuInit } from './intel/init.ts';
import { iommufdInit } from './iommufd/main.ts';
import { Kernel, type KernelOptions } from './kernel.ts';
import { selftestCommands } from './mock/selftest.ts';
import { enumeratePci } from './pci.ts';
import { vfioPciInit } from './vfio/vfio-pci.ts';

/**
 * Brings up the host kernel: PCI functions from the ACPI tables, the intel-iommu driver, /dev/iommu,
 * and a vfio cdev for every accelerator. RangeError when the firmware's tables are broken.
 */
export function* bootKernel(machine: Machine, options: KernelOptions = {}): Task<Kernel> {
  const kernel = new Kernel(machine, options);
  const mcfg = kernel.acpi.table('MCFG');
  for (const window of mcfg === null ? [] : parseMcfg(mcfg)) {
    kernel.pciDevices.push(...enumeratePci(machine.root, window));
  }
  yield* intelIommuInit(kernel);
  iommufdInit(kernel, kernel.options.selftest ? selftestCommands(kernel) : new Map());
  yield* vfioPciInit(kernel);
  const dmar = kernel.acpi.table('DMAR');
  // What the programs do descends from it.
  kernel.trace.cause = kernel.trace.emit(events.boot, {
    ramBytes: machine.ram.size,
    units: dmar === null ? 0 : parseDmar(dmar).drhds.length,
    functions: kernel.pciDevices.length,
  });
  return kernel;
}
