/** The vfio-pci driver takes the machine's functions and gives each a node (vfio_pci.c). */
import type { Task } from '../../syscall.ts';
import type { IommuGroup } from '../iommu/group.ts';
import type { Kernel } from '../kernel.ts';
import { VfioDeviceFile } from './device-cdev.ts';
import { VfioGroup } from './group.ts';
import { VfioPciDevice } from './pci-core.ts';

/**
 * Registers `/dev/vfio/devices/vfioN` for every PCI function that an IOMMU translates, N in bus
 * order, and `/dev/vfio/N` for its group: without an IOMMU a function cannot be given to a user.
 */
export function* vfioPciInit(kernel: Kernel): Task<VfioPciDevice[]> {
  const devices: VfioPciDevice[] = [];
  const groups = new Map<number, VfioGroup>();
  let number = 0;
  for (const pdev of kernel.pciDevices) {
    const dev = kernel.iommu.deviceOf(pdev);
    if (dev === undefined) continue;
    const device = new VfioPciDevice(kernel, pdev);
    const group = groupFor(kernel, groups, kernel.iommu.groupOf(dev));
    group.add(device);
    const name = `vfio${number++}`;
    kernel.registerDevice(`/dev/vfio/devices/${name}`, () => {
      device.opened();
      return new VfioDeviceFile(name, device, group);
    });
    devices.push(device);
  }
  return devices;
}

/** Hot removal: the user gives the function back, and the IOMMU forgets it. */
export function* vfioPciRemove(kernel: Kernel, device: VfioPciDevice): Task {
  yield* device.unregister();
  yield* kernel.iommu.removeDevice(device.pdev);
}

function groupFor(kernel: Kernel, groups: Map<number, VfioGroup>, home: IommuGroup): VfioGroup {
  const known = groups.get(home.id);
  if (known !== undefined) return known;
  const group = new VfioGroup(home);
  groups.set(home.id, group);
  kernel.registerDevice(`/dev/vfio/${home.id}`, () => group.open());
  return group;
}
