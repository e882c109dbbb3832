import type { PciFunction } from '../../../../devices/pci/fabric.ts';
import {
  extCapHeader,
  PciCap,
  PciExtCap,
  PcieCap,
  PciHeader,
  PciStatus,
  PriCap,
} from '../../../../devices/spec/pci.ts';

const PCIE = 0x40;
const ATS = 0x100;
const PRI = 0x110;
const PASID = 0x130;

/** A function with configuration space and nothing behind it. */
export class BareFunction implements PciFunction {
  readonly rid: number;
  readonly #config = new DataView(new ArrayBuffer(4096));
  readonly offsets = { ats: ATS, pri: PRI, pasid: PASID };
  /** What the unit sends down. */
  onInvalidate: (itag: number, pasid: number) => void = () => {
    throw new Error('no invalidation was expected');
  };
  onResponse: (pasid: number, prgi: number, code: number) => void = () => {
    throw new Error('no response was expected');
  };

  constructor(rid: number, options: { pasidBits?: number; pri?: boolean } = {}) {
    const { pasidBits = 20, pri = true } = options;
    this.rid = rid;
    const config = this.#config;
    config.setUint16(PciHeader.VENDOR_ID, 0x8086, true);
    config.setUint16(PciHeader.DEVICE_ID, 0x0b25, true);
    config.setUint16(PciHeader.STATUS, PciStatus.CAP_LIST, true);
    config.setUint8(PciHeader.CAP_PTR, PCIE);
    config.setUint8(PCIE, PciCap.PCIE);
    config.setUint32(PCIE + PcieCap.DEVCAP2, PcieCap.DEVCAP2_END_END_TLP_PREFIX, true);
    config.setUint32(ATS, extCapHeader(PciExtCap.ATS, 1, pri ? PRI : PASID), true);
    config.setUint32(PRI, extCapHeader(PciExtCap.PRI, 1, PASID), true);
    const status = PriCap.STATUS_STOPPED | PriCap.STATUS_PRG_RESPONSE_PASID;
    config.setUint16(PRI + PriCap.STATUS, status, true);
    config.setUint32(PRI + PriCap.MAX_REQUESTS, 512, true);
    if (pasidBits > 0) {
      config.setUint32(PASID, extCapHeader(PciExtCap.PASID, 1, 0), true);
      config.setUint16(PASID + 4, pasidBits << 8, true);
    }
  }

  configRead(offset: number, size: 1 | 2 | 4): number {
    if (size === 1) return this.#config.getUint8(offset);
    return size === 2 ? this.#config.getUint16(offset, true) : this.#config.getUint32(offset, true);
  }

  configWrite(offset: number, size: 1 | 2 | 4, value: number): void {
    if (offset >= PciHeader.BAR0 && offset < PciHeader.CAP_PTR) return;
    if (size === 1) this.#config.setUint8(offset, value);
    else if (size === 2) this.#config.setUint16(offset, value, true);
    else this.#config.setUint32(offset, value, true);
  }

  barSize(): number {
    return 0;
  }

  barRead(): bigint {
    return 0n;
  }

  barWrite(): void {
    // No BAR.
  }

  barWrite64(): void {
    // No BAR.
  }

  barEnqueue(): boolean {
    return false;
  }

  invalidate(itag: number, pasid: number): void {
    this.onInvalidate(itag, pasid);
  }

  pageGroupResponse(pasid: number, prgi: number, code: number): void {
    this.onResponse(pasid, prgi, code);
  }

  reset(): void {
    // Nothing to reset.
  }
}
