/** The vfio-pci driver takes the machine's functions and gives each a node (vfio_pci.c). */
import type { Task } from '../../syscall.ts';
import type { Kernel } from '../kernel.ts';
import { VfioDeviceFile } from './device-cdev.ts';
import { VfioPciDevice } from './pci-core.ts';

/**
 * Registers `/dev/vfio/devices/vfioN` for every PCI function that an IOMMU translates, N in bus
 * order: without an IOMMU a function cannot be given to a user.
 */
export function* vfioPciInit(kernel: Kernel): Task {
  let number = 0;
  for (const pdev of kernel.pciDevices) {
    if (kernel.iommu.deviceOf(pdev) === undefined) continue;
    const device = new VfioPciDevice(kernel, pdev);
    const name = `vfio${number++}`;
    kernel.registerDevice(`/dev/vfio/devices/${name}`, () => new VfioDeviceFile(name, device));
  }
}
