/** What sysfs shows of the simulated machine to programs that look for devices. */
import type { Kernel } from './kernel.ts';
import type { PciDev } from './pci.ts';
import { pciAttributes } from './pci-sysfs.ts';

/** A directory, a link's text, or a file's content and permission bits. */
export type SysfsNode =
  | { readonly kind: 'directory' }
  | { readonly kind: 'link'; readonly to: string }
  | { readonly kind: 'file'; readonly bytes: string | Uint8Array; readonly mode: number };

export type SysfsEntry = readonly [path: string, node: SysfsNode];

const DIRECTORY: SysfsNode = { kind: 'directory' };
const READ = 0o444;
const WRITE = 0o200;
const READ_WRITE = 0o644;
const VTD_VERSION = '1:0';

/**
 * Directories, links and attributes as they are now, in an order that has directories first.
 *
 * @param numberOf major and minor number of a device node, as `511:0`
 */
export function* sysfs(kernel: Kernel, numberOf: (path: string) => string): Generator<SysfsEntry> {
  yield* emptyDirectories();
  yield* pciBus();
  let cdev = 0;
  for (const pdev of kernel.pciDevices) {
    const home = homeOf(pdev);
    yield [`/sys/bus/pci/devices/${pdev.name}`, link(`../../../${home}`)];
    yield [`/sys/${home}/subsystem`, link('../../../bus/pci')];
    for (const [name, bytes, mode] of pciAttributes(pdev)) {
      yield [`/sys/${home}/${name}`, file(bytes, mode)];
    }
    const dev = kernel.iommu.deviceOf(pdev);
    if (dev === undefined) continue;
    yield* iommuOf(kernel, pdev);
    yield* driverOf(pdev);
    const { id } = kernel.iommu.groupOf(dev);
    yield* vfioGroup(id, numberOf(`/dev/vfio/${id}`));
    const name = `vfio${cdev++}`;
    yield* vfioDev(pdev, name, numberOf(`/dev/vfio/devices/${name}`));
  }
  yield* iommuClass(kernel);
}

/** The group as VFIO has it, which leads to the number of its node. */
function* vfioGroup(id: number, number: string): Generator<SysfsEntry> {
  const home = `devices/virtual/vfio/${id}`;
  yield [`/sys/class/vfio/${id}`, link(`../../${home}`)];
  yield [`/sys/${home}/dev`, file(`${number}\n`, READ)];
  yield [`/sys/${home}/subsystem`, link('../../../../class/vfio')];
}

function* emptyDirectories(): Generator<SysfsEntry> {
  const names = ['bus/pci/devices', 'bus/pci/slots', 'class/iommu', 'class/vfio-dev', 'class/vfio'];
  for (const name of [...names, 'kernel/iommu_groups']) yield [`/sys/${name}`, DIRECTORY];
}

function* pciBus(): Generator<SysfsEntry> {
  const attributes = [
    ['drivers_autoprobe', '1\n', READ_WRITE],
    ['drivers_probe', '', WRITE],
    ['rescan', '', WRITE],
    ['drivers/vfio-pci/bind', '', WRITE],
    ['drivers/vfio-pci/unbind', '', WRITE],
    ['drivers/vfio-pci/new_id', '', WRITE],
    ['drivers/vfio-pci/remove_id', '', WRITE],
  ] as const;
  for (const [name, text, mode] of attributes) yield [`/sys/bus/pci/${name}`, file(text, mode)];
}

/** Its group and its unit. */
function* iommuOf(kernel: Kernel, pdev: PciDev): Generator<SysfsEntry> {
  const dev = kernel.iommu.deviceOf(pdev)!;
  const { id, defaultDomain } = kernel.iommu.groupOf(dev);
  const home = homeOf(pdev);
  const group = `kernel/iommu_groups/${id}`;
  yield [`/sys/${home}/iommu_group`, link(`../../../${group}`)];
  yield [`/sys/${home}/iommu`, link('../../virtual/iommu/dmar0')];
  yield [`/sys/${group}/devices/${pdev.name}`, link(`../../../../${home}`)];
  const type = defaultDomain.type === 'identity' ? 'identity' : 'DMA';
  yield [`/sys/${group}/type`, file(`${type}\n`, READ_WRITE)];
  const regions = dev.ops.reservedRegions(dev);
  const hex = (address: bigint): string => `0x${address.toString(16).padStart(16, '0')}`;
  const lines = regions.map(({ start, last }) => `${hex(start)} ${hex(last)} msi\n`);
  yield [`/sys/${group}/reserved_regions`, file(lines.join(''), READ)];
  yield [
    `/sys/devices/virtual/iommu/dmar0/devices/${pdev.name}`,
    link(`../../../../${home.slice('devices/'.length)}`),
  ];
}

function* driverOf(pdev: PciDev): Generator<SysfsEntry> {
  const home = homeOf(pdev);
  yield [`/sys/${home}/driver`, link('../../../bus/pci/drivers/vfio-pci')];
  yield [`/sys/bus/pci/drivers/vfio-pci/${pdev.name}`, link(`../../../../${home}`)];
}

/** The cdev's device, from which a client learns the node's name and number. */
function* vfioDev(pdev: PciDev, name: string, number: string): Generator<SysfsEntry> {
  const home = `${homeOf(pdev)}/vfio-dev/${name}`;
  const [major, minor] = number.split(':');
  const uevent = `MAJOR=${major!}\nMINOR=${minor!}\nDEVNAME=vfio/devices/${name}\n`;
  yield [`/sys/${home}/dev`, file(`${number}\n`, READ)];
  yield [`/sys/${home}/uevent`, file(uevent, READ_WRITE)];
  yield [`/sys/${home}/device`, link(`../../../${pdev.name}`)];
  yield [`/sys/${home}/subsystem`, link('../../../../../class/vfio-dev')];
  yield [`/sys/class/vfio-dev/${name}`, link(`../../${home}`)];
}

function* iommuClass(kernel: Kernel): Generator<SysfsEntry> {
  const pdev = kernel.pciDevices.find((each) => kernel.iommu.deviceOf(each) !== undefined);
  if (pdev === undefined) return;
  const home = 'devices/virtual/iommu/dmar0';
  yield ['/sys/class/iommu/dmar0', link(`../../${home}`)];
  yield [`/sys/${home}/subsystem`, link('../../../../class/iommu')];
  yield [`/sys/${home}/uevent`, file('', READ_WRITE)];
  const dev = kernel.iommu.deviceOf(pdev)!;
  const info = dev.ops.hwInfo?.(dev, 0).bytes;
  if (info === undefined) return;
  const view = new DataView(info.buffer, info.byteOffset, info.byteLength);
  const word = (offset: number): string => `${view.getBigUint64(offset, true).toString(16)}\n`;
  yield [`/sys/${home}/intel-iommu/cap`, file(word(8), READ)];
  yield [`/sys/${home}/intel-iommu/ecap`, file(word(16), READ)];
  yield [`/sys/${home}/intel-iommu/version`, file(`${VTD_VERSION}\n`, READ)];
}

/** Its directory, below /sys. */
function homeOf({ name }: PciDev): string {
  return `devices/pci${name.slice(0, 'DDDD:BB'.length)}/${name}`;
}

function link(to: string): SysfsNode {
  return { kind: 'link', to };
}

function file(bytes: string | Uint8Array, mode: number): SysfsNode {
  return { kind: 'file', bytes, mode };
}
