import type { Task } from '../host/syscall.ts';
import { dsaRegisterName } from './dsa-names.ts';
import { allOnes } from './exit.ts';
import type { MmioHandler } from './memory-map.ts';
import type { Msix } from './msix.ts';
import type { Region, VfioDevice } from './vfio-device.ts';

/** A place in a BAR; `bar` -1: nowhere. */
export interface Place {
  readonly bar: number;
  readonly offset: number;
}

export interface BarContents {
  readonly table: Place;
  readonly pba: Place;
  readonly isDsa: boolean;
}

/** A BAR whose accesses go to the device one by one, but for the MSI-X structures in it. */
export class TrappedBar implements MmioHandler {
  readonly #device: VfioDevice;
  readonly #region: Region;
  readonly #msix: Msix;
  readonly #contents: BarContents;

  constructor(device: VfioDevice, region: Region, msix: Msix, contents: BarContents) {
    this.#device = device;
    this.#region = region;
    this.#msix = msix;
    this.#contents = contents;
  }

  describe(offset: number): string {
    const entry = this.#inTable(offset);
    if (entry >= 0) return `MSI-X table+0x${entry.toString(16)}`;
    if (this.#inPba(offset) >= 0) return 'MSI-X pending bits';
    if (this.#contents.isDsa && this.#region.index === 0) return `DSA ${dsaRegisterName(offset)}`;
    return `BAR${this.#region.index}+0x${offset.toString(16)}`;
  }

  *read(offset: number, size: number): Task<bigint> {
    const entry = this.#inTable(offset);
    if (entry >= 0) return this.#msix.readTable(entry, size);
    const bits = this.#inPba(offset);
    if (bits >= 0) return this.#msix.readPba(bits, size);
    if (offset + size > this.#region.size) return allOnes(size);
    return (yield* this.#device.read(this.#region, offset, size)) ?? allOnes(size);
  }

  *write(offset: number, size: number, value: bigint): Task {
    const entry = this.#inTable(offset);
    if (entry >= 0) this.#msix.writeTable(entry, size, value);
    else if (this.#inPba(offset) < 0 && offset + size <= this.#region.size) {
      yield* this.#device.write(this.#region, offset, size, value);
    }
  }

  #inTable(offset: number): number {
    return this.#inside(this.#contents.table, this.#msix.tableBytes, offset);
  }

  #inPba(offset: number): number {
    return this.#inside(this.#contents.pba, this.#msix.pbaBytes, offset);
  }

  #inside(place: Place, bytes: number, offset: number): number {
    const at = offset - place.offset;
    return place.bar === this.#region.index && at >= 0 && at < bytes ? at : -1;
  }
}
