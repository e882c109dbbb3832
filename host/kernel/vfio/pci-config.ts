/**
 * Configuration space as the user of a VFIO device sees it (drivers/vfio/pci/vfio_pci_config.c): part
 * hardware, part made up, and capabilities of unknown use hidden.
 */
import {
  AcsCap,
  AtsCap,
  BAR_COUNT,
  barSizeMask,
  CONFIG_SPACE_BYTES,
  listCapabilities,
  listExtCapabilities,
  MsixCap,
  PciBar,
  PciCap,
  PciCommand,
  PciExtCap,
  PcieCap,
  PciHeader,
  PmCap,
  PriCap,
} from '../../../devices/spec/pci.ts';
import type { PciDev } from '../pci.ts';

/** AER, 72 bytes (PCIe 7.8.4). */
const AER_BYTES = 72;
const CAP_HEADER_BYTES = 2;
const EXT_HEADER_BYTES = 4;

/** Bytes of the capabilities that are shown; the others are hidden, PASID among them. */
const SHOWN: ReadonlyMap<number, number> = new Map([
  [PciCap.PM, PmCap.BYTES],
  [PciCap.PCIE, PcieCap.BYTES],
  [PciCap.MSIX, MsixCap.BYTES],
]);
const SHOWN_EXT: ReadonlyMap<number, number> = new Map([
  [PciExtCap.AER, AER_BYTES],
  [PciExtCap.ACS, AcsCap.BYTES],
  [PciExtCap.ATS, AtsCap.BYTES],
  [PciExtCap.PRI, PriCap.BYTES],
]);

/** COMMAND bits that go through to the function. */
const COMMAND_THROUGH =
  PciCommand.IO | PciCommand.MEMORY | PciCommand.BUS_MASTER | PciCommand.PARITY | PciCommand.SERR;

const ALL = 0xff;

/** What a write asks the owner to do. */
export type ConfigEffect = 'reset' | null;

export class VirtualConfig {
  readonly #pdev: PciDev;
  /** Made-up bytes, and which bits of a read come from them (the others from the function). */
  readonly #virtual = new Uint8Array(CONFIG_SPACE_BYTES);
  readonly #virtualMask = new Uint8Array(CONFIG_SPACE_BYTES);
  /** Which made-up bits a write changes. */
  readonly #writeMask = new Uint8Array(CONFIG_SPACE_BYTES);
  /** Offset of the PCI Express capability, 0 without. */
  readonly #pcie: number;

  constructor(pdev: PciDev) {
    this.#pdev = pdev;
    this.#pcie = pdev.findCap(PciCap.PCIE);
    this.#setHeader();
    this.#linkCapabilities();
    this.#linkExtCapabilities();
  }

  /** `length` bytes from `offset`, inside the space. */
  read(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
      const at = offset + i;
      const mask = this.#virtualMask[at]!;
      const hardware = mask === ALL ? 0 : this.#pdev.read8(at) & ~mask;
      bytes[i] = hardware | (this.#virtual[at]! & mask);
    }
    return bytes;
  }

  /** Writes what may be written; the rest is dropped. */
  write(offset: number, bytes: Uint8Array): ConfigEffect {
    for (let i = 0; i < bytes.length; i++) {
      const at = offset + i;
      const mask = this.#writeMask[at]!;
      this.#virtual[at] = (this.#virtual[at]! & ~mask) | (bytes[i]! & mask);
    }
    const touches = (at: number): boolean => at >= offset && at < offset + bytes.length;
    if (touches(PciHeader.COMMAND) || touches(PciHeader.COMMAND + 1)) {
      this.#writeCommand(offset, bytes);
    }
    const flr = this.#pcie + PcieCap.DEVCTL + 1;
    if (this.#pcie === 0 || !touches(flr)) return null;
    const asked = bytes[flr - offset]! & (PcieCap.DEVCTL_INITIATE_FLR >>> 8);
    return asked === 0 ? null : 'reset';
  }

  #writeCommand(offset: number, bytes: Uint8Array): void {
    const old = this.#pdev.read16(PciHeader.COMMAND);
    let value = old;
    for (let byte = 0; byte < 2; byte++) {
      const given = bytes[PciHeader.COMMAND + byte - offset];
      if (given === undefined) continue;
      value = (value & ~(ALL << (8 * byte))) | (given << (8 * byte));
    }
    this.#pdev.write16(PciHeader.COMMAND, (old & ~COMMAND_THROUGH) | (value & COMMAND_THROUGH));
  }

  #setHeader(): void {
    this.#fix(PciHeader.VENDOR_ID, 2, this.#pdev.vendor);
    this.#fix(PciHeader.DEVICE_ID, 2, this.#pdev.device);
    const intxDisable = PciHeader.COMMAND + 1;
    this.#virtualMask[intxDisable] = PciCommand.INTX_DISABLE >>> 8;
    this.#writeMask[intxDisable] = PciCommand.INTX_DISABLE >>> 8;
    for (const at of [PciHeader.CACHE_LINE_SIZE, PciHeader.LATENCY_TIMER, PciHeader.INT_LINE]) {
      this.#fix(at, 1, this.#pdev.read8(at));
      this.#writeMask[at] = ALL;
    }
    this.#fix(PciHeader.ROM_BAR, 4, 0);
    for (let bar = 0; bar < BAR_COUNT; bar++) this.#setBar(bar);
  }

  /** A BAR keeps what is written to it, as far as its size leaves bits; the device does not move. */
  #setBar(bar: number): void {
    const at = PciHeader.BAR0 + 4 * bar;
    const { size } = this.#pdev.bars[bar]!;
    const low = this.#pdev.read32(at);
    if (size === 0) {
      const below = bar === 0 ? 0 : this.#pdev.bars[bar - 1]!.size;
      const upper = below > 0 && (this.#pdev.read32(at - 4) & PciBar.TYPE_MASK) === PciBar.TYPE_64;
      // The upper half of a 64-bit BAR was set up with its lower half.
      if (!upper) this.#fix(at, 4, 0);
      return;
    }
    const flags = low & PciBar.MEMORY_FLAGS_MASK;
    const [lowMask, highMask] = barSizeMask(size, 0);
    this.#fix(at, 4, low);
    this.#writable(at, 4, (lowMask & ~PciBar.MEMORY_FLAGS_MASK) >>> 0);
    if ((flags & PciBar.TYPE_MASK) !== PciBar.TYPE_64) return;
    this.#fix(at + 4, 4, this.#pdev.read32(at + 4));
    this.#writable(at + 4, 4, highMask);
  }

  #linkCapabilities(): void {
    const caps = listCapabilities((offset) => this.#pdev.read8(offset));
    let link: number = PciHeader.CAP_PTR;
    this.#fix(link, 1, 0);
    for (const { id, offset } of caps) {
      const bytes = SHOWN.get(id);
      if (bytes === undefined) {
        this.#hide(offset, this.#extent(offset, caps));
        continue;
      }
      this.#virtual[link] = offset;
      link = offset + 1;
      this.#fix(offset, CAP_HEADER_BYTES, id);
    }
    if (this.#pcie === 0) return;
    // The function's own controls stay the kernel's; a write of INITIATE_FLR is carried out apart.
    for (const at of [PcieCap.DEVCTL, PcieCap.DEVCTL2]) {
      this.#fix(this.#pcie + at, 2, this.#pdev.read16(this.#pcie + at));
      this.#writable(this.#pcie + at, 2, ~PcieCap.DEVCTL_INITIATE_FLR & 0xffff);
    }
  }

  #linkExtCapabilities(): void {
    const caps = listExtCapabilities((offset) => this.#pdev.read32(offset));
    let previous = -1;
    for (const { id, version, offset } of caps) {
      const shown = SHOWN_EXT.has(id);
      if (!shown) this.#hide(offset, this.#extent(offset, caps));
      // The first header is where the chain begins: when hidden it stays as a link without an id.
      if (!shown && previous >= 0) continue;
      if (previous >= 0) this.#setNext(previous, offset);
      this.#fix(offset, EXT_HEADER_BYTES, shown ? ((version << 16) | id) >>> 0 : 0);
      previous = offset;
    }
  }

  #setNext(header: number, next: number): void {
    this.#virtual[header + 2] = (this.#virtual[header + 2]! & 0xf) | ((next & 0xf) << 4);
    this.#virtual[header + 3] = next >>> 4;
  }

  /** Bytes up to the next capability, at most 256: what a hidden one may occupy. */
  #extent(offset: number, caps: readonly { readonly offset: number }[]): number {
    const end = offset < 256 ? 256 : Math.min(offset + 256, CONFIG_SPACE_BYTES);
    const next = caps.map((cap) => cap.offset).filter((at) => at > offset);
    return Math.min(end, ...next) - offset;
  }

  #hide(offset: number, bytes: number): void {
    this.#fix(offset, bytes, 0);
  }

  /** Makes `bytes` bytes virtual and read-only with this little-endian value. */
  #fix(offset: number, bytes: number, value: number): void {
    for (let i = 0; i < bytes; i++) {
      this.#virtual[offset + i] = i < 4 ? value >>> (8 * i) : 0;
      this.#virtualMask[offset + i] = ALL;
    }
  }

  #writable(offset: number, bytes: number, mask: number): void {
    for (let i = 0; i < bytes; i++) this.#writeMask[offset + i] = mask >>> (8 * i);
  }
}
