import {
  AtsCap,
  BAR_COUNT,
  barSizeFromMask,
  ecamAddress,
  findCapability,
  findExtCapability,
  rid as makeRid,
  PasidCap,
  PciBar,
  PciCap,
  PciCommand,
  PciExtCap,
  PcieCap,
  PciHeader,
  PciHeaderType,
  PriCap,
  ridToSysfsName,
} from '../../devices/spec/pci.ts';
import type { Task } from '../syscall.ts';
import { KERNEL_NS } from './costs.ts';
import { Errno } from './errno.ts';
import { Msix, type MsixFunction } from './msix.ts';
import { type PciState, restorePciState, savePciState } from './pci-state.ts';

/** Loads and stores at physical addresses: the root complex. */
export interface PciBus {
  read(pa: number, size: number): bigint;
  write(pa: number, size: number, value: bigint): void;
}

/** A memory BAR; `address` and `size` are 0 for a register that starts none. */
export interface PciResource {
  readonly address: number;
  readonly size: number;
}

const NO_VENDOR = 0xffff;
const NO_RESOURCE: PciResource = { address: 0, size: 0 };

/** struct pci_dev: a function, driven through configuration space alone. */
export class PciDev implements MsixFunction {
  readonly rid: number;
  /** As sysfs names it: 0000:00:01.0. */
  readonly name: string;
  readonly vendor: number;
  readonly device: number;
  /** 24 bits: class, subclass, programming interface. */
  readonly classCode: number;
  /** Six, one for each register. */
  readonly bars: readonly PciResource[];
  /** Null without the capability. */
  readonly msix: Msix | null;
  /** Width of the PASIDs it can send, 0 to 20; 0 without the capability. */
  readonly maxPasidBits: number;
  readonly #bus: PciBus;
  readonly #ecam: number;
  readonly #pasid: number;
  readonly #ats: number;
  readonly #pri: number;
  readonly #pcie: number;

  /** @param ecam where the window of bus 0 is */
  constructor(bus: PciBus, ecam: number, rid: number) {
    this.#bus = bus;
    this.#ecam = ecam;
    this.rid = rid;
    this.name = ridToSysfsName(rid);
    this.vendor = this.read16(PciHeader.VENDOR_ID);
    this.device = this.read16(PciHeader.DEVICE_ID);
    this.classCode = this.read32(PciHeader.REVISION) >>> 8;
    this.#pasid = this.findExtCap(PciExtCap.PASID);
    this.#ats = this.findExtCap(PciExtCap.ATS);
    this.#pri = this.findExtCap(PciExtCap.PRI);
    this.#pcie = this.findCap(PciCap.PCIE);
    this.bars = this.#sizeBars();
    const msix = this.findCap(PciCap.MSIX);
    this.msix = msix === 0 ? null : new Msix(this, msix);
    const { CAPABILITY, CAPABILITY_WIDTH_MASK, CAPABILITY_WIDTH_SHIFT } = PasidCap;
    const pasid = this.#pasid === 0 ? 0 : this.read16(this.#pasid + CAPABILITY);
    this.maxPasidBits = (pasid & CAPABILITY_WIDTH_MASK) >>> CAPABILITY_WIDTH_SHIFT;
  }

  // Configuration space.

  read8(offset: number): number {
    return Number(this.#bus.read(ecamAddress(this.#ecam, this.rid, offset), 1));
  }

  read16(offset: number): number {
    return Number(this.#bus.read(ecamAddress(this.#ecam, this.rid, offset), 2));
  }

  read32(offset: number): number {
    return Number(this.#bus.read(ecamAddress(this.#ecam, this.rid, offset), 4));
  }

  write8(offset: number, value: number): void {
    this.#bus.write(ecamAddress(this.#ecam, this.rid, offset), 1, BigInt(value & 0xff));
  }

  write16(offset: number, value: number): void {
    this.#bus.write(ecamAddress(this.#ecam, this.rid, offset), 2, BigInt(value & 0xffff));
  }

  write32(offset: number, value: number): void {
    this.#bus.write(ecamAddress(this.#ecam, this.rid, offset), 4, BigInt(value >>> 0));
  }

  /** Offset of a conventional capability (`PciCap`), 0 without. */
  findCap(id: number): number {
    return findCapability((offset) => this.read8(offset), id);
  }

  /** Offset of an extended capability (`PciExtCap`), 0 without. */
  findExtCap(id: number): number {
    return findExtCapability((offset) => this.read32(offset), id);
  }

  // Memory.

  /** A 32-bit load from a BAR. Errno EIO while memory decoding is off, EINVAL outside the BAR. */
  barRead32(bar: number, offset: number): number {
    return Number(this.#bus.read(this.#barAddress(bar, offset), 4));
  }

  barWrite32(bar: number, offset: number, value: number): void {
    this.#bus.write(this.#barAddress(bar, offset), 4, BigInt(value >>> 0));
  }

  get memoryEnabled(): boolean {
    return (this.read16(PciHeader.COMMAND) & PciCommand.MEMORY) !== 0;
  }

  enableMemory(): void {
    this.#command(PciCommand.MEMORY, 0);
  }

  disableMemory(): void {
    this.#command(0, PciCommand.MEMORY);
  }

  get busMasterEnabled(): boolean {
    return (this.read16(PciHeader.COMMAND) & PciCommand.BUS_MASTER) !== 0;
  }

  enableBusMaster(): void {
    this.#command(PciCommand.BUS_MASTER, 0);
  }

  disableBusMaster(): void {
    this.#command(0, PciCommand.BUS_MASTER);
  }

  // PASID, ATS, PRI: drivers/pci/ats.c.

  get hasPasid(): boolean {
    return this.#pasid !== 0;
  }

  get hasAts(): boolean {
    return this.#ats !== 0;
  }

  get hasPri(): boolean {
    return this.#pri !== 0;
  }

  get pasidEnabled(): boolean {
    const { CONTROL, CONTROL_ENABLE } = PasidCap;
    return this.hasPasid && (this.read16(this.#pasid + CONTROL) & CONTROL_ENABLE) !== 0;
  }

  get atsEnabled(): boolean {
    const { CONTROL, CONTROL_ENABLE } = AtsCap;
    return this.hasAts && (this.read16(this.#ats + CONTROL) & CONTROL_ENABLE) !== 0;
  }

  get priEnabled(): boolean {
    const { CONTROL, CONTROL_ENABLE } = PriCap;
    return this.hasPri && (this.read16(this.#pri + CONTROL) & CONTROL_ENABLE) !== 0;
  }

  /** Invalidate requests the function queues, 1 to 32; 0 without ATS. */
  get atsQueueDepth(): number {
    if (!this.hasAts) return 0;
    const { CAPABILITY, CAPABILITY_QUEUE_DEPTH_MASK } = AtsCap;
    const depth = this.read16(this.#ats + CAPABILITY) & CAPABILITY_QUEUE_DEPTH_MASK;
    return depth === 0 ? 32 : depth;
  }

  /** Whether page group responses must carry the PASID. */
  get prgResponsePasid(): boolean {
    const { STATUS, STATUS_PRG_RESPONSE_PASID } = PriCap;
    return this.hasPri && (this.read16(this.#pri + STATUS) & STATUS_PRG_RESPONSE_PASID) !== 0;
  }

  /**
   * Enables PASID with the features (`PasidCap.CONTROL_*`, default all it has). Errno EINVAL (no
   * capability, no end-to-end prefix, a feature it has not), EBUSY (enabled, or ATS is on).
   */
  enablePasid(features?: number): void {
    if (!this.hasPasid) throw new Errno('EINVAL', `${this.name} has no PASID capability`);
    if (this.pasidEnabled) throw new Errno('EBUSY', `${this.name}: PASID is enabled`);
    if (this.atsEnabled) throw new Errno('EBUSY', `${this.name}: PASID must come before ATS`);
    if (!this.#passesPrefixes()) {
      throw new Errno('EINVAL', `${this.name} takes no end-to-end TLP prefix`);
    }
    const { CAPABILITY, CAPABILITY_EXEC, CAPABILITY_PRIVILEGED, CONTROL, CONTROL_ENABLE } =
      PasidCap;
    const has = this.read16(this.#pasid + CAPABILITY) & (CAPABILITY_EXEC | CAPABILITY_PRIVILEGED);
    const wanted = features ?? has;
    if ((wanted & ~has) !== 0) {
      throw new Errno('EINVAL', `${this.name}: PASID features 0x${wanted.toString(16)}`);
    }
    this.write16(this.#pasid + CONTROL, CONTROL_ENABLE | wanted);
  }

  disablePasid(): void {
    if (this.hasPasid) this.write16(this.#pasid + PasidCap.CONTROL, 0);
  }

  /**
   * Enables ATS with a smallest translation unit of 2^(stu + 12) bytes. Errno EINVAL (no capability,
   * not 0 to 31), EBUSY (enabled).
   */
  enableAts(stu = 0): void {
    if (!this.hasAts) throw new Errno('EINVAL', `${this.name} has no ATS capability`);
    if (this.atsEnabled) throw new Errno('EBUSY', `${this.name}: ATS is enabled`);
    if ((stu & AtsCap.CONTROL_STU_MASK) !== stu) throw new Errno('EINVAL', `STU ${stu}`);
    this.write16(this.#ats + AtsCap.CONTROL, AtsCap.CONTROL_ENABLE | stu);
  }

  disableAts(): void {
    this.#clear16(this.#ats, AtsCap.CONTROL, AtsCap.CONTROL_ENABLE);
  }

  /** Errno EINVAL (no capability), EBUSY (enabled). */
  resetPri(): void {
    if (!this.hasPri) throw new Errno('EINVAL', `${this.name} has no PRI capability`);
    if (this.priEnabled) throw new Errno('EBUSY', `${this.name}: PRI is enabled`);
    this.write16(this.#pri + PriCap.CONTROL, PriCap.CONTROL_RESET);
  }

  /**
   * Enables page requests, at most `requests` outstanding (and no more than it can). Errno EINVAL
   * (no capability), EBUSY (enabled, or it has not stopped yet).
   */
  enablePri(requests: number): void {
    if (!this.hasPri) throw new Errno('EINVAL', `${this.name} has no PRI capability`);
    if (this.priEnabled) throw new Errno('EBUSY', `${this.name}: PRI is enabled`);
    if ((this.read16(this.#pri + PriCap.STATUS) & PriCap.STATUS_STOPPED) === 0) {
      throw new Errno('EBUSY', `${this.name}: page requests are still outstanding`);
    }
    const most = this.read32(this.#pri + PriCap.MAX_REQUESTS);
    this.write32(this.#pri + PriCap.ALLOCATION, Math.min(requests, most));
    this.write16(this.#pri + PriCap.CONTROL, PriCap.CONTROL_ENABLE);
  }

  disablePri(): void {
    this.#clear16(this.#pri, PriCap.CONTROL, PriCap.CONTROL_ENABLE);
  }

  // Reset.

  get hasFlr(): boolean {
    return (
      this.#pcie !== 0 && (this.read32(this.#pcie + PcieCap.DEVCAP) & PcieCap.DEVCAP_FLR) !== 0
    );
  }

  /**
   * Function level reset: waits for outstanding requests, resets, waits until the function is back.
   * Its configuration is then the reset one. Errno ENOTTY without the capability.
   */
  *flr(): Task {
    if (!this.hasFlr) throw new Errno('ENOTTY', `${this.name} has no function level reset`);
    for (let waited = 0; waited < KERNEL_NS.FLR_PENDING; waited += KERNEL_NS.FLR_POLL) {
      if ((this.read16(this.#pcie + PcieCap.DEVSTA) & PcieCap.DEVSTA_TRANSACTIONS_PENDING) === 0) {
        break;
      }
      yield KERNEL_NS.FLR_POLL;
    }
    const control = this.read16(this.#pcie + PcieCap.DEVCTL);
    this.write16(this.#pcie + PcieCap.DEVCTL, control | PcieCap.DEVCTL_INITIATE_FLR);
    yield KERNEL_NS.FLR;
  }

  /**
   * pci_reset_function: a function level reset that keeps the configuration (header, PASID, ATS,
   * PRI, MSI-X vectors). Errno ENOTTY.
   */
  *reset(): Task {
    if (!this.hasFlr) throw new Errno('ENOTTY', `${this.name} has no function level reset`);
    const state = this.saveState();
    this.write16(PciHeader.COMMAND, PciCommand.INTX_DISABLE);
    yield* this.flr();
    this.restoreState(state);
  }

  /** What `restoreState` needs after a reset. */
  saveState(): PciState {
    const { pasid, ats, pri, pcie } = this.#capabilities();
    return savePciState(this, { pasid, ats, pri, pcie }, this.msix?.enabled ?? false);
  }

  restoreState(state: PciState): void {
    restorePciState(this, this.#capabilities(), state);
    if (this.memoryEnabled) this.msix?.restore(state.msixEnabled);
  }

  #capabilities(): { pasid: number; ats: number; pri: number; pcie: number } {
    return { pasid: this.#pasid, ats: this.#ats, pri: this.#pri, pcie: this.#pcie };
  }

  #passesPrefixes(): boolean {
    const { DEVCAP2, DEVCAP2_END_END_TLP_PREFIX } = PcieCap;
    return (
      this.#pcie !== 0 && (this.read32(this.#pcie + DEVCAP2) & DEVCAP2_END_END_TLP_PREFIX) !== 0
    );
  }

  #command(set: number, clear: number): void {
    this.write16(PciHeader.COMMAND, (this.read16(PciHeader.COMMAND) & ~clear) | set);
  }

  #clear16(cap: number, offset: number, bits: number): void {
    if (cap !== 0) this.write16(cap + offset, this.read16(cap + offset) & ~bits);
  }

  #barAddress(bar: number, offset: number): number {
    const { address, size } = this.bars[bar] ?? NO_RESOURCE;
    if (offset < 0 || offset + 4 > size) {
      throw new Errno('EINVAL', `${this.name}: offset 0x${offset.toString(16)} of BAR ${bar}`);
    }
    if (!this.memoryEnabled) throw new Errno('EIO', `${this.name} does not decode memory`);
    return address + offset;
  }

  /** Sizes the BARs with decoding off, and leaves them as they were (PCI 6.2.5.1). */
  #sizeBars(): PciResource[] {
    const command = this.read16(PciHeader.COMMAND);
    this.write16(PciHeader.COMMAND, command & ~(PciCommand.MEMORY | PciCommand.IO));
    const bars: PciResource[] = [];
    while (bars.length < BAR_COUNT) {
      const resource = this.#sizeBar(bars.length);
      bars.push(resource.bar);
      if (resource.is64 && bars.length < BAR_COUNT) bars.push(NO_RESOURCE);
    }
    this.write16(PciHeader.COMMAND, command);
    return bars;
  }

  #sizeBar(bar: number): { readonly bar: PciResource; readonly is64: boolean } {
    const at = PciHeader.BAR0 + 4 * bar;
    const low = this.read32(at);
    if ((low & PciBar.SPACE_IO) !== 0) return { bar: NO_RESOURCE, is64: false };
    const is64 = (low & PciBar.TYPE_MASK) === PciBar.TYPE_64;
    const high = is64 ? this.read32(at + 4) : 0;
    this.write32(at, 0xffff_ffff);
    if (is64) this.write32(at + 4, 0xffff_ffff);
    const size = barSizeFromMask(this.read32(at), is64 ? this.read32(at + 4) : 0);
    this.write32(at, low);
    if (is64) this.write32(at + 4, high);
    const address = high * 2 ** 32 + ((low & ~PciBar.MEMORY_FLAGS_MASK) >>> 0);
    return { bar: size === 0 ? NO_RESOURCE : { address, size }, is64 };
  }
}

/** Finds the functions of buses `startBus` to `endBus`, in order of requester id. */
export function enumeratePci(
  bus: PciBus,
  ecam: { readonly base: number; readonly startBus: number; readonly endBus: number },
): PciDev[] {
  const found: PciDev[] = [];
  const present = (rid: number): boolean =>
    Number(bus.read(ecamAddress(ecam.base, rid, PciHeader.VENDOR_ID), 2)) !== NO_VENDOR;
  for (let number = ecam.startBus; number <= ecam.endBus; number++) {
    for (let device = 0; device < 32; device++) {
      const first = makeRid(number, device, 0);
      if (!present(first)) continue;
      const type = bus.read(ecamAddress(ecam.base, first, PciHeader.HEADER_TYPE), 1);
      const functions = (Number(type) & PciHeaderType.MULTI_FUNCTION) !== 0 ? 8 : 1;
      for (let fn = 0; fn < functions; fn++) {
        const rid = makeRid(number, device, fn);
        if (present(rid)) found.push(new PciDev(bus, ecam.base, rid));
      }
    }
  }
  return found;
}
