import type { AddressType } from '../../pci/fabric.ts';
import type { VtdUnit } from '../unit.ts';
import type { HostWatch } from './host-watch.ts';

/** The host's unit on the requests' path, with the watch looking at each request and its answer. */
export class SanitizedUnit {
  readonly #unit: VtdUnit;
  readonly #watch: HostWatch;

  constructor(unit: VtdUnit, watch: HostWatch) {
    this.#unit = unit;
    this.#watch = watch;
  }

  get registerBytes(): number {
    return this.#unit.registerBytes;
  }

  get result(): VtdUnit['result'] {
    return this.#unit.result;
  }

  readRegister(offset: number, size: 4 | 8): bigint {
    return this.#unit.readRegister(offset, size);
  }

  writeRegister(offset: number, size: 4 | 8, value: bigint): void {
    this.#unit.writeRegister(offset, size, value);
  }

  translate(
    sid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    vpn: number,
    write: boolean,
    noWrite: boolean,
  ): boolean {
    const done = this.#unit.translate(sid, pasid, priv, type, vpn, write, noWrite);
    if (done) this.#watch.translated(sid, pasid, priv, type, vpn, write, this.#unit.result);
    return done;
  }

  translated(sid: number, pfn: number, write: boolean): boolean {
    const passed = this.#unit.translated(sid, pfn, write);
    if (passed) this.#watch.passed(sid, pfn, write);
    return passed;
  }

  pageRequest(...request: Parameters<VtdUnit['pageRequest']>): void {
    this.#unit.pageRequest(...request);
  }

  interruptRequest(sid: number, address: number, data: number): boolean {
    return this.#unit.interruptRequest(sid, address, data);
  }

  invalidateComplete(sid: number, itag: number): void {
    this.#watch.deviceConfirmed(sid, itag);
    this.#unit.invalidateComplete(sid, itag);
  }
}
