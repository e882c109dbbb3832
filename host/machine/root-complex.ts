import type { Clock } from '../../devices/clock.ts';
import type { Fabric, PciFunction } from '../../devices/pci/fabric.ts';
import { BAR_COUNT, ecamDecode, PciBar, PciCommand, PciHeader } from '../../devices/spec/pci.ts';
import type { VtdWorld } from '../../devices/vtd/world.ts';
import { MACHINE_NS } from './costs.ts';
import type { InterruptController } from './interrupts.ts';
import { ECAM_BASE, ECAM_BYTES, UNIT_BASE } from './memory-map.ts';
import type { Ram } from './ram.ts';
import type { RemappingUnit } from './remapping-unit.ts';
import { Upstream } from './upstream.ts';

const DWORD_ONES = 0xffff_ffffn;

/** A memory BAR as it is programmed and enabled. */
interface BarWindow {
  readonly fn: PciFunction;
  readonly bar: number;
  readonly base: number;
  readonly size: number;
}

/**
 * Joins processors, memory, the remapping unit and the functions. It decodes the processors'
 * physical addresses (RAM, the unit's registers, configuration space, BARs as the functions' own
 * registers say), delivers the unit's messages to the functions, and holds their way up (`fabric`).
 */
export class RootComplex {
  /** The world of the unit that sits here. */
  readonly world: VtdWorld;
  readonly #ram: Ram;
  readonly #clock: Clock;
  readonly #interrupts: InterruptController;
  readonly #functions = new Map<number, PciFunction>();
  #unit: RemappingUnit | null = null;
  #fabric: Fabric | null = null;
  /** The window that was hit last; looked at again before each use. */
  #lastBar: BarWindow | null = null;

  constructor(parts: { ram: Ram; clock: Clock; interrupts: InterruptController }) {
    this.#ram = parts.ram;
    this.#clock = parts.clock;
    this.#interrupts = parts.interrupts;
    this.world = {
      memory: parts.ram,
      clock: parts.clock,
      interrupt: (address, data) => this.#interrupts.deliver(address, data),
      deviceInvalidate: (sid, itag, pasid, global, vpn, shift) =>
        this.#downstream(sid, MACHINE_NS.DEVICE_INVALIDATE, (fn) =>
          fn.invalidate(itag, pasid, global, vpn, shift),
        ),
      pageGroupResponse: (sid, pasid, prgi, code) => {
        this.#downstream(sid, MACHINE_NS.PAGE_RESPONSE, (fn) =>
          fn.pageGroupResponse(pasid, prgi, code),
        );
      },
    };
  }

  /** Puts the remapping unit in the path: once, and before functions are made. */
  connect(unit: RemappingUnit): void {
    this.#unit = unit;
    this.#fabric = new Upstream(this.#ram, this.#interrupts, this.#functions, unit);
  }

  /** The functions' way up. Throws before `connect`. */
  get fabric(): Fabric {
    if (this.#fabric === null) throw new Error('no remapping unit is connected');
    return this.#fabric;
  }

  /** Plugs a function in. Throws if its requester id is taken. */
  attach(fn: PciFunction): void {
    if (this.#functions.has(fn.rid)) throw new Error(`requester id ${fn.rid} is taken`);
    this.#functions.set(fn.rid, fn);
  }

  functions(): readonly PciFunction[] {
    return [...this.#functions.values()];
  }

  /**
   * A processor's load of `size` 1, 2, 4 or 8 bytes, naturally aligned. All ones where nothing
   * answers.
   */
  read(pa: number, size: number): bigint {
    if (pa % size !== 0) return ones(size);
    if (this.#ram.contains(pa, size)) return readRam(this.#ram, pa, size);
    const unit = this.#unitAt(pa, size);
    if (unit !== null) return unit.readRegister(pa - UNIT_BASE, size === 8 ? 8 : 4);
    if (inEcam(pa)) return this.#configRead(pa - ECAM_BASE, size);
    const hit = this.#barAt(pa, size);
    return hit === null ? ones(size) : hit.fn.barRead(hit.bar, pa - hit.base, size);
  }

  /** A processor's store, as `read`. Dropped where nothing answers. */
  write(pa: number, size: number, value: bigint): void {
    if (pa % size !== 0) return;
    if (this.#ram.contains(pa, size)) {
      writeRam(this.#ram, pa, size, value);
      return;
    }
    const unit = this.#unitAt(pa, size);
    if (unit !== null) {
      unit.writeRegister(pa - UNIT_BASE, size === 8 ? 8 : 4, value);
    } else if (inEcam(pa)) {
      this.#configWrite(pa - ECAM_BASE, size, value);
    } else {
      const hit = this.#barAt(pa, size);
      hit?.fn.barWrite(hit.bar, pa - hit.base, size, value);
    }
  }

  /** MOVDIR64B: one posted write of 64 bytes to a multiple of 64. Dropped where nothing answers. */
  movdir64b(pa: number, bytes: Uint8Array): void {
    if (pa % 64 !== 0) return;
    if (this.#ram.contains(pa, 64)) {
      this.#ram.write(pa, bytes.subarray(0, 64));
      return;
    }
    const hit = this.#barAt(pa, 64);
    hit?.fn.barWrite64(hit.bar, pa - hit.base, bytes);
  }

  /** ENQCMD: true when a device took it (ZF=0). Memory and empty addresses never do. */
  enqcmd(pa: number, bytes: Uint8Array): boolean {
    if (pa % 64 !== 0 || this.#ram.contains(pa, 64)) return false;
    const hit = this.#barAt(pa, 64);
    return hit?.fn.barEnqueue(hit.bar, pa - hit.base, bytes) ?? false;
  }

  /** Hands `message` to function `rid` after `ns`. False: there is no such function. */
  #downstream(rid: number, ns: number, message: (fn: PciFunction) => void): boolean {
    const fn = this.#functions.get(rid);
    if (fn === undefined) return false;
    this.#clock.after(ns, () => message(fn));
    return true;
  }

  /** The unit, when the access lies in its registers; narrow accesses there go nowhere. */
  #unitAt(pa: number, size: number): RemappingUnit | null {
    const unit = this.#unit;
    if (unit === null || pa < UNIT_BASE || pa + size > UNIT_BASE + unit.registerBytes) return null;
    return size === 4 || size === 8 ? unit : null;
  }

  #configRead(offset: number, size: number): bigint {
    if (size === 8) {
      return this.#configRead(offset, 4) | (this.#configRead(offset + 4, 4) << 32n);
    }
    const { rid, register } = ecamDecode(offset);
    const fn = this.#functions.get(rid);
    if (fn === undefined) return ones(size);
    return BigInt(fn.configRead(register, size as 1 | 2 | 4) >>> 0);
  }

  #configWrite(offset: number, size: number, value: bigint): void {
    if (size === 8) {
      this.#configWrite(offset, 4, value & DWORD_ONES);
      this.#configWrite(offset + 4, 4, value >> 32n);
      return;
    }
    const { rid, register } = ecamDecode(offset);
    this.#functions.get(rid)?.configWrite(register, size as 1 | 2 | 4, Number(value & ones(size)));
  }

  /** The enabled BAR that holds the whole access. */
  #barAt(pa: number, size: number): BarWindow | null {
    const last = this.#lastBar;
    if (last !== null && pa >= last.base && pa + size <= last.base + last.size) {
      if (decodesMemory(last.fn) && barBase(last.fn, last.bar) === last.base) return last;
    }
    for (const fn of this.#functions.values()) {
      if (!decodesMemory(fn)) continue;
      for (let bar = 0; bar < BAR_COUNT; bar++) {
        const bytes = fn.barSize(bar);
        if (bytes === 0) continue;
        const base = barBase(fn, bar);
        if (pa < base || pa + size > base + bytes) continue;
        this.#lastBar = { fn, bar, base, size: bytes };
        return this.#lastBar;
      }
    }
    return null;
  }
}

function inEcam(pa: number): boolean {
  return pa >= ECAM_BASE && pa < ECAM_BASE + ECAM_BYTES;
}

function decodesMemory(fn: PciFunction): boolean {
  return (fn.configRead(PciHeader.COMMAND, 2) & PciCommand.MEMORY) !== 0;
}

/** Address in a memory BAR; -1 for an I/O BAR, which nothing decodes here. */
function barBase(fn: PciFunction, bar: number): number {
  const register = PciHeader.BAR0 + 4 * bar;
  const low = fn.configRead(register, 4) >>> 0;
  if ((low & PciBar.SPACE_IO) !== 0) return -1;
  const address = (low & ~PciBar.MEMORY_FLAGS_MASK) >>> 0;
  if ((low & PciBar.TYPE_MASK) !== PciBar.TYPE_64) return address;
  return (fn.configRead(register + 4, 4) >>> 0) * 2 ** 32 + address;
}

/** All ones of `size` bytes. */
function ones(size: number): bigint {
  return (1n << BigInt(8 * size)) - 1n;
}

function readRam(ram: Ram, pa: number, size: number): bigint {
  switch (size) {
    case 8:
      return ram.read64(pa);
    case 4:
      return BigInt(ram.read32(pa) >>> 0);
    default: {
      const bytes = new Uint8Array(size);
      ram.read(pa, bytes);
      return BigInt(size === 2 ? bytes[0]! | (bytes[1]! << 8) : bytes[0]!);
    }
  }
}

function writeRam(ram: Ram, pa: number, size: number, value: bigint): void {
  switch (size) {
    case 8:
      ram.write64(pa, value);
      return;
    case 4:
      ram.write32(pa, Number(value & DWORD_ONES));
      return;
    default:
      ram.write(pa, Uint8Array.of(Number(value & 0xffn), Number(value >> 8n)).subarray(0, size));
  }
}
