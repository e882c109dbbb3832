import {
  type AtsReply,
  type CompletionStatus,
  CPL,
  type PciFunction,
} from '../../../devices/pci/fabric.ts';
import {
  AtsCap,
  barSizeMask,
  extCapHeader,
  MsixCap,
  PasidCap,
  PciBar,
  PciCap,
  PciExtCap,
  PcieCap,
  PciHeader,
  PciStatus,
  PriCap,
} from '../../../devices/spec/pci.ts';
import { VirtualClock } from '../../../host/machine/clock.ts';
import { InterruptController } from '../../../host/machine/interrupts.ts';
import { Ram } from '../../../host/machine/ram.ts';
import type { RemappingUnit } from '../../../host/machine/remapping-unit.ts';
import { RootComplex } from '../../../host/machine/root-complex.ts';
import { Scheduler } from '../../../host/machine/scheduler.ts';

/** A unit that maps each page number through a table, and writes down what reaches it. */
export class FakeUnit implements RemappingUnit {
  readonly registerBytes = 0x1000;
  readonly log: string[] = [];
  readonly registers = new Map<number, bigint>();
  /** Untranslated page -> frame; a page that is missing is refused. */
  readonly pages = new Map<number, number>();
  /** Frames that translated requests may reach; undefined: all. */
  allowed: Set<number> | undefined;
  interruptsPass = true;
  readonly result = {
    pfn: 0,
    shift: 12,
    read: false,
    write: false,
    status: CPL.SUCCESS as CompletionStatus,
    noSnoop: false,
    priv: false,
    untranslatedOnly: false,
  };

  readRegister(offset: number, size: 4 | 8): bigint {
    this.log.push(`read ${offset} ${size}`);
    return this.registers.get(offset) ?? 0n;
  }

  writeRegister(offset: number, size: 4 | 8, value: bigint): void {
    this.log.push(`write ${offset} ${size} ${value}`);
    this.registers.set(offset, value);
  }

  translate(
    sid: number,
    pasid: number,
    _priv: boolean,
    type: number,
    vpn: number,
    write: boolean,
  ): boolean {
    this.log.push(`translate ${sid} ${pasid} ${type} ${vpn} ${write}`);
    const pfn = this.pages.get(vpn);
    this.result.status = pfn === undefined ? CPL.UNSUPPORTED_REQUEST : CPL.SUCCESS;
    this.result.pfn = pfn ?? 0;
    this.result.read = true;
    this.result.write = true;
    return pfn !== undefined;
  }

  translated(_sid: number, pfn: number): boolean {
    const ok = this.allowed?.has(pfn) ?? true;
    this.result.status = ok ? CPL.SUCCESS : CPL.COMPLETER_ABORT;
    return ok;
  }

  pageRequest(sid: number, pasid: number, _priv: boolean, vpn: number): void {
    this.log.push(`pageRequest ${sid} ${pasid} ${vpn}`);
  }

  interruptRequest(): boolean {
    return this.interruptsPass;
  }

  invalidateComplete(sid: number, itag: number): void {
    this.log.push(`invalidateComplete ${sid} ${itag}`);
  }
}

const CAP_PCIE = 0x40;
const CAP_MSIX = 0x80;
const CAP_PASID = 0x100;
const CAP_ATS = 0x110;
const CAP_PRI = 0x120;
const BAR0_BYTES = 0x10000;
const BAR2_BYTES = 0x4000;
const VECTORS = 4;

/** A function with PCIe, MSI-X, PASID, ATS and PRI capabilities and two 64-bit BARs of memory. */
export class FakeFunction implements PciFunction {
  readonly rid: number;
  readonly config = new DataView(new ArrayBuffer(4096));
  readonly bar0 = new DataView(new ArrayBuffer(BAR0_BYTES));
  readonly log: string[] = [];
  accepts = true;
  #sizing = new Set<number>();

  constructor(rid: number) {
    this.rid = rid;
    this.reset();
  }

  reset(): void {
    const { config } = this;
    for (let at = 0; at < 4096; at += 4) config.setUint32(at, 0, true);
    const put16 = (at: number, value: number): void => config.setUint16(at, value, true);
    const put32 = (at: number, value: number): void => config.setUint32(at, value, true);
    put16(PciHeader.VENDOR_ID, 0x8086);
    put16(PciHeader.DEVICE_ID, 0x0b25);
    put32(PciHeader.REVISION, 0x08800001);
    put16(PciHeader.STATUS, PciStatus.CAP_LIST);
    put32(PciHeader.BAR0, PciBar.TYPE_64 | PciBar.PREFETCHABLE);
    put32(PciHeader.BAR2, PciBar.TYPE_64 | PciBar.PREFETCHABLE);
    put16(PciHeader.CAP_PTR, CAP_PCIE);
    put16(CAP_PCIE, PciCap.PCIE | (CAP_MSIX << 8));
    put32(CAP_PCIE + PcieCap.DEVCAP, PcieCap.DEVCAP_FLR);
    put32(CAP_PCIE + PcieCap.DEVCAP2, PcieCap.DEVCAP2_END_END_TLP_PREFIX);
    put16(CAP_MSIX, PciCap.MSIX);
    put16(CAP_MSIX + MsixCap.CONTROL, VECTORS - 1);
    put32(CAP_MSIX + MsixCap.TABLE, 0x2000);
    put32(CAP_PASID, extCapHeader(PciExtCap.PASID, PasidCap.VERSION, CAP_ATS));
    put16(CAP_PASID + PasidCap.CAPABILITY, (20 << 8) | PasidCap.CAPABILITY_PRIVILEGED);
    put32(CAP_ATS, extCapHeader(PciExtCap.ATS, AtsCap.VERSION, CAP_PRI));
    put32(CAP_PRI, extCapHeader(PciExtCap.PRI, PriCap.VERSION, 0));
    put16(CAP_PRI + PriCap.STATUS, PriCap.STATUS_STOPPED | PriCap.STATUS_PRG_RESPONSE_PASID);
    put32(CAP_PRI + PriCap.MAX_REQUESTS, 64);
    for (let at = 0; at < BAR0_BYTES; at += 4) this.bar0.setUint32(at, 0, true);
    this.#sizing.clear();
    this.log.push('reset');
  }

  configRead(offset: number, size: 1 | 2 | 4): number {
    const bar = (offset - PciHeader.BAR0) >> 2;
    if (size === 4 && this.#sizing.has(bar)) {
      const mask = barSizeMask(bar < 2 ? BAR0_BYTES : BAR2_BYTES, 0xc);
      return mask[bar % 2]!;
    }
    if (size === 1) return this.config.getUint8(offset);
    return size === 2 ? this.config.getUint16(offset, true) : this.config.getUint32(offset, true);
  }

  configWrite(offset: number, size: 1 | 2 | 4, value: number): void {
    if (offset >= PciHeader.BAR0 && offset < PciHeader.BAR0 + 24) {
      this.#barWrite((offset - PciHeader.BAR0) >> 2, value >>> 0);
      return;
    }
    if (offset < PciHeader.COMMAND || (offset === PciHeader.STATUS && size === 2)) return;
    if (size === 1) this.config.setUint8(offset, value);
    else if (size === 2) this.config.setUint16(offset, value, true);
    else this.config.setUint32(offset, value, true);
    const control = CAP_PCIE + PcieCap.DEVCTL;
    if (offset === control && (value & PcieCap.DEVCTL_INITIATE_FLR) !== 0) this.reset();
  }

  barSize(bar: number): number {
    return bar === 0 ? BAR0_BYTES : bar === 2 ? BAR2_BYTES : 0;
  }

  barRead(bar: number, offset: number, size: number): bigint {
    this.log.push(`barRead ${bar} ${offset} ${size}`);
    if (bar !== 0) return 0n;
    let value = 0n;
    for (let i = 0; i < size; i++) value |= BigInt(this.bar0.getUint8(offset + i)) << BigInt(8 * i);
    return value;
  }

  barWrite(bar: number, offset: number, size: number, value: bigint): void {
    this.log.push(`barWrite ${bar} ${offset} ${size} ${value}`);
    if (bar !== 0) return;
    for (let i = 0; i < size; i++) {
      this.bar0.setUint8(offset + i, Number((value >> BigInt(8 * i)) & 0xffn));
    }
  }

  barWrite64(bar: number, offset: number, bytes: Uint8Array): void {
    this.log.push(`barWrite64 ${bar} ${offset} ${bytes[0]}`);
  }

  barEnqueue(bar: number, offset: number, bytes: Uint8Array): boolean {
    this.log.push(`barEnqueue ${bar} ${offset} ${bytes[0]}`);
    return this.accepts;
  }

  invalidate(itag: number, pasid: number, global: boolean, vpn: number, shift: number): void {
    this.log.push(`invalidate ${itag} ${pasid} ${global} ${vpn} ${shift}`);
  }

  pageGroupResponse(pasid: number, prgi: number, code: number): void {
    this.log.push(`pageGroupResponse ${pasid} ${prgi} ${code}`);
  }

  #barWrite(bar: number, value: number): void {
    if (bar > 3) return;
    if (value === 0xffff_ffff) {
      this.#sizing.add(bar);
      return;
    }
    this.#sizing.delete(bar);
    const flags = bar % 2 === 0 ? PciBar.TYPE_64 | PciBar.PREFETCHABLE : 0;
    const size = bar < 2 ? BAR0_BYTES : BAR2_BYTES;
    const address = bar % 2 === 0 ? (value & -size) >>> 0 : value;
    this.config.setUint32(PciHeader.BAR0 + 4 * bar, address | flags, true);
  }
}

export function blankReply(): AtsReply {
  return {
    status: CPL.SUCCESS,
    pfn: 0,
    shift: 0,
    read: false,
    write: false,
    untranslatedOnly: false,
    noSnoop: false,
    priv: false,
  };
}

/** A machine without firmware around a fake unit. */
export function fakeMachine(ramBytes = 64 << 20) {
  const clock = new VirtualClock();
  const { trace } = clock;
  const ram = new Ram(ramBytes);
  const interrupts = new InterruptController(clock, trace);
  const root = new RootComplex({ ram, clock, interrupts });
  const unit = new FakeUnit();
  root.connect(unit);
  return { clock, trace, ram, interrupts, root, unit, scheduler: new Scheduler(clock, trace) };
}
