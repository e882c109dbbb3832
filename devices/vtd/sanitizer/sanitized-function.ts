import type { PciFunction } from '../../pci/fabric.ts';
import { AtsCap, PciExtCap } from '../../spec/pci.ts';
import type { HostWatch } from './host-watch.ts';

const FIRST_EXTENDED = 0x100;
const MOST_CAPABILITIES = 64;

/** A function behind the host's unit, with the watch told when its device-TLB is turned off. */
export class SanitizedFunction implements PciFunction {
  readonly rid: number;
  readonly #fn: PciFunction;
  readonly #watch: HostWatch;
  readonly #control: number;

  constructor(fn: PciFunction, watch: HostWatch) {
    this.rid = fn.rid;
    this.#fn = fn;
    this.#watch = watch;
    const ats = findExtended(fn, PciExtCap.ATS);
    this.#control = ats === 0 ? 0 : ats + AtsCap.CONTROL;
  }

  configRead(offset: number, size: 1 | 2 | 4): number {
    return this.#fn.configRead(offset, size);
  }

  configWrite(offset: number, size: 1 | 2 | 4, value: number): void {
    const before = this.#isOn();
    this.#fn.configWrite(offset, size, value);
    if (before && !this.#isOn()) this.#watch.deviceForgot(this.rid);
  }

  barSize(bar: number): number {
    return this.#fn.barSize(bar);
  }

  barRead(bar: number, offset: number, size: number): bigint {
    return this.#fn.barRead(bar, offset, size);
  }

  barWrite(bar: number, offset: number, size: number, value: bigint): void {
    this.#fn.barWrite(bar, offset, size, value);
  }

  barWrite64(bar: number, offset: number, bytes: Uint8Array): void {
    this.#fn.barWrite64(bar, offset, bytes);
  }

  barEnqueue(bar: number, offset: number, bytes: Uint8Array): boolean {
    return this.#fn.barEnqueue(bar, offset, bytes);
  }

  invalidate(...request: Parameters<PciFunction['invalidate']>): void {
    this.#fn.invalidate(...request);
  }

  pageGroupResponse(pasid: number, prgi: number, code: number): void {
    this.#fn.pageGroupResponse(pasid, prgi, code);
  }

  reset(): void {
    this.#fn.reset();
    this.#watch.deviceForgot(this.rid);
  }

  #isOn(): boolean {
    if (this.#control === 0) return false;
    return (this.#fn.configRead(this.#control, 2) & AtsCap.CONTROL_ENABLE) !== 0;
  }
}

/** Offset of an extended capability, 0: none. */
function findExtended(fn: PciFunction, id: number): number {
  let at = FIRST_EXTENDED;
  for (let n = 0; n < MOST_CAPABILITIES && at !== 0; n++) {
    const header = fn.configRead(at, 4) >>> 0;
    if ((header & 0xffff) === id) return at;
    at = (header >>> 20) & 0xffc;
  }
  return 0;
}
