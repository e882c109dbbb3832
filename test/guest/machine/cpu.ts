/** A CPU over a flat buffer, with a page walker of its own. */
import { IA32_PASID } from '../../../devices/spec/msr.ts';
import type { Cpu, PageFault } from '../../../guest/cpu.ts';

const P = 1n;
const RW = 2n;
const US = 4n;
const ACCESSED = 0x20n;
const DIRTY = 0x40n;
const ADDRESS = 0x000f_ffff_ffff_f000n;

export class FakeCpu implements Cpu {
  tsc = 0;
  features = { la57: true, gbpages: true, enqcmd: true };
  readonly ram: Uint8Array;
  readonly pending: number[] = [];
  readonly cr3Writes: number[] = [];
  cr3 = 0;
  la57 = false;
  pasidMsr = 0n;
  /** Plain memory outside RAM (the file share's window). */
  window: { start: number; bytes: Uint8Array } = { start: -1, bytes: new Uint8Array(0) };
  /** Takes a 64-byte store to device memory. */
  portal: (gpa: number, descriptor: Uint8Array) => 0 | 1 = () => 1;
  readonly #view: DataView;

  constructor(ramBytes: number) {
    this.ram = new Uint8Array(ramBytes);
    this.#view = new DataView(this.ram.buffer);
  }

  raise(vector: number): void {
    if (!this.pending.includes(vector)) this.pending.push(vector);
  }

  #slice(gpa: number, length: number): Uint8Array | null {
    if (gpa >= 0 && gpa + length <= this.ram.length) return this.ram.subarray(gpa, gpa + length);
    const at = gpa - this.window.start;
    const inside = at >= 0 && at + length <= this.window.bytes.length;
    return inside ? this.window.bytes.subarray(at, at + length) : null;
  }

  #isRam(gpa: number, length: number): boolean {
    return gpa >= 0 && gpa + length <= this.ram.length && gpa % length === 0;
  }

  read32(gpa: number): number {
    return this.#isRam(gpa, 4) ? this.#view.getUint32(gpa, true) : 0xffff_ffff;
  }

  write32(gpa: number, value: number): void {
    if (this.#isRam(gpa, 4)) this.#view.setUint32(gpa, value, true);
  }

  read64(gpa: number): bigint {
    return this.#isRam(gpa, 8) ? this.#view.getBigUint64(gpa, true) : (1n << 64n) - 1n;
  }

  write64(gpa: number, value: bigint): void {
    if (this.#isRam(gpa, 8)) this.#view.setBigUint64(gpa, value, true);
  }

  cmpxchg64(gpa: number, expected: bigint, value: bigint): bigint {
    const old = this.read64(gpa);
    if (old === expected) this.write64(gpa, value);
    return old;
  }

  readBytes(gpa: number, into: Uint8Array): void {
    const from = this.#slice(gpa, into.length);
    if (from === null) into.fill(0xff);
    else into.set(from);
  }

  writeBytes(gpa: number, from: Uint8Array): void {
    this.#slice(gpa, from.length)?.set(from);
  }

  copy(to: number, from: number, length: number): void {
    this.ram.copyWithin(to, from, from + length);
  }

  zero(gpa: number, length: number): void {
    this.#slice(gpa, length)?.fill(0);
  }

  setCr3(gpa: number, la57: boolean): void {
    this.cr3 = gpa;
    this.la57 = la57;
    this.cr3Writes.push(gpa);
  }

  /** Physical address behind a user address, or null; sets A and D as hardware does. */
  walk(root: number, levels: number, address: bigint, write: boolean): number | null {
    const path: number[] = [];
    let table = root;
    for (let level = levels; level >= 1; level--) {
      const at = table + 8 * Number((address >> BigInt(3 + 9 * level)) & 0x1ffn);
      const entry = this.read64(at);
      if ((entry & P) === 0n || (entry & US) === 0n) return null;
      if (write && (entry & RW) === 0n) return null;
      path.push(at);
      table = Number(entry & ADDRESS);
    }
    path.forEach((at, i) => {
      const dirty = write && i === path.length - 1 ? DIRTY : 0n;
      this.write64(at, this.read64(at) | ACCESSED | dirty);
    });
    return table + Number(address & 0xfffn);
  }

  #user(address: bigint, write: boolean): number | PageFault {
    const gpa = this.walk(this.cr3, this.la57 ? 5 : 4, address, write);
    return gpa ?? { address, present: false, write, user: true, reserved: false };
  }

  #eachPage(
    address: bigint,
    bytes: Uint8Array,
    write: boolean,
    act: (gpa: number, part: Uint8Array) => void,
  ): PageFault | null {
    for (let done = 0; done < bytes.length; ) {
      const at = address + BigInt(done);
      const gpa = this.#user(at, write);
      if (typeof gpa !== 'number') return gpa;
      const length = Math.min(4096 - (gpa % 4096), bytes.length - done);
      act(gpa, bytes.subarray(done, done + length));
      done += length;
    }
    return null;
  }

  readVirtual(address: bigint, into: Uint8Array): PageFault | null {
    return this.#eachPage(address, into, false, (gpa, part) => {
      this.readBytes(gpa, part);
    });
  }

  writeVirtual(address: bigint, from: Uint8Array): PageFault | null {
    return this.#eachPage(address, from, true, (gpa, part) => {
      this.writeBytes(gpa, part);
    });
  }

  enqcmd(address: bigint, descriptor: Uint8Array): -1 | 0 | 1 | PageFault {
    if ((this.pasidMsr & 0x8000_0000n) === 0n) return -1;
    const gpa = this.#user(address, true);
    if (typeof gpa !== 'number') return gpa;
    const bytes = descriptor.slice();
    new DataView(bytes.buffer).setUint32(0, Number(this.pasidMsr & 0xf_ffffn), true);
    return this.portal(gpa, bytes);
  }

  movdir64b(): PageFault | null {
    return null;
  }

  rdmsr(index: number): bigint {
    return index === IA32_PASID ? this.pasidMsr : 0n;
  }

  wrmsr(index: number, value: bigint): void {
    if (index === IA32_PASID) this.pasidMsr = value;
  }

  takeInterrupt(): number {
    return this.pending.shift() ?? -1;
  }
}
