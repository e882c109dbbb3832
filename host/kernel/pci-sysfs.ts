/** Attributes of a PCI function (drivers/pci/pci-sysfs.c). */
import { CONFIG_SPACE_BYTES, PciBar, PciHeader } from '../../devices/spec/pci.ts';
import type { PciDev } from './pci.ts';

/** Name, content, permission bits. */
export type PciAttribute = readonly [name: string, bytes: string | Uint8Array, mode: number];

const READ = 0o444;
const READ_WRITE = 0o644;
/** BARs and the ROM: what `resource` lists of a function without a bridge. */
const RESOURCES = 7;
/** include/linux/ioport.h */
const IORESOURCE = {
  MEM: 0x200,
  PREFETCH: 0x2000,
  SIZEALIGN: 0x4_0000,
  MEM_64: 0x10_0000,
} as const;

/** All attributes, as configuration space has them now. */
export function pciAttributes(pdev: PciDev): PciAttribute[] {
  const subsystemVendor = pdev.read16(PciHeader.SUBSYSTEM_VENDOR_ID);
  const subsystem = pdev.read16(PciHeader.SUBSYSTEM_ID);
  const modalias = modaliasOf(pdev, subsystemVendor, subsystem);
  return [
    ['vendor', `${hex(pdev.vendor, 4)}\n`, READ],
    ['device', `${hex(pdev.device, 4)}\n`, READ],
    ['class', `${hex(pdev.classCode, 6)}\n`, READ],
    ['revision', `${hex(pdev.read8(PciHeader.REVISION), 2)}\n`, READ],
    ['subsystem_vendor', `${hex(subsystemVendor, 4)}\n`, READ],
    ['subsystem_device', `${hex(subsystem, 4)}\n`, READ],
    ['irq', `${pdev.read8(PciHeader.INT_LINE)}\n`, READ],
    ['numa_node', '-1\n', READ_WRITE],
    ['local_cpus', '1\n', READ],
    ['local_cpulist', '0\n', READ],
    ['enable', `${Number(pdev.memoryEnabled)}\n`, READ_WRITE],
    ['power_state', 'D0\n', READ],
    ['dma_mask_bits', '64\n', READ],
    ['consistent_dma_mask_bits', '64\n', READ],
    ['msi_bus', '1\n', READ_WRITE],
    ['driver_override', '(null)\n', READ_WRITE],
    ['modalias', `${modalias}\n`, READ],
    ['uevent', ueventOf(pdev, subsystemVendor, subsystem, modalias), READ_WRITE],
    ['resource', resourceLines(pdev), READ],
    ['config', configSpace(pdev), READ_WRITE],
    ...(pdev.hasFlr ? ([['reset_method', 'flr\n', READ_WRITE]] as const) : []),
  ];
}

function resourceLines(pdev: PciDev): string {
  const lines: string[] = [];
  for (let index = 0; index < RESOURCES; index++) {
    const { address, size } = pdev.bars[index] ?? { address: 0, size: 0 };
    const last = size === 0 ? 0 : address + size - 1;
    const flags = size === 0 ? 0 : resourceFlags(pdev, index);
    lines.push(`${hex(address, 16)} ${hex(last, 16)} ${hex(flags, 16)}\n`);
  }
  return lines.join('');
}

function resourceFlags(pdev: PciDev, bar: number): number {
  const low = pdev.read32(PciHeader.BAR0 + 4 * bar) & PciBar.MEMORY_FLAGS_MASK;
  const wide = (low & PciBar.TYPE_MASK) === PciBar.TYPE_64 ? IORESOURCE.MEM_64 : 0;
  const prefetch = (low & PciBar.PREFETCHABLE) === 0 ? 0 : IORESOURCE.PREFETCH;
  return low | IORESOURCE.MEM | IORESOURCE.SIZEALIGN | wide | prefetch;
}

function configSpace(pdev: PciDev): Uint8Array {
  const bytes = new Uint8Array(CONFIG_SPACE_BYTES);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < bytes.length; at += 4) view.setUint32(at, pdev.read32(at), true);
  return bytes;
}

function modaliasOf(pdev: PciDev, subsystemVendor: number, subsystem: number): string {
  const upper = (value: number, digits: number): string =>
    value.toString(16).toUpperCase().padStart(digits, '0');
  const [base, sub, interface_] = [16, 8, 0].map((shift) =>
    upper((pdev.classCode >>> shift) & 0xff, 2),
  );
  const ids = `v${upper(pdev.vendor, 8)}d${upper(pdev.device, 8)}`;
  const board = `sv${upper(subsystemVendor, 8)}sd${upper(subsystem, 8)}`;
  return `pci:${ids}${board}bc${base!}sc${sub!}i${interface_!}`;
}

function ueventOf(
  pdev: PciDev,
  subsystemVendor: number,
  subsystem: number,
  modalias: string,
): string {
  const upper = (value: number): string => value.toString(16).toUpperCase().padStart(4, '0');
  return [
    'DRIVER=vfio-pci',
    `PCI_CLASS=${pdev.classCode.toString(16).toUpperCase()}`,
    `PCI_ID=${upper(pdev.vendor)}:${upper(pdev.device)}`,
    `PCI_SUBSYS_ID=${upper(subsystemVendor)}:${upper(subsystem)}`,
    `PCI_SLOT_NAME=${pdev.name}`,
    `MODALIAS=${modalias}`,
    '',
  ].join('\n');
}

function hex(value: number, digits: number): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}
