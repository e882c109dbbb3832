/** A machine for guest tests: firmware tables, ECAM, virtual unit, accelerator and file share. */
import { buildMcfg, buildRsdp, buildXsdt } from '../../../devices/spec/acpi.ts';
import { BOOT_PARAMS_GPA, encodeBootParams } from '../../../devices/spec/boot.ts';
import { buildDmar } from '../../../devices/spec/dmar.ts';
import { DsaPci } from '../../../devices/spec/dsa/registers.ts';
import {
  FILESHARE_DEVICE,
  FILESHARE_MAGIC,
  FILESHARE_REG,
  FILESHARE_VENDOR,
  FILESHARE_WINDOW_BYTES,
} from '../../../devices/spec/fileshare.ts';
import { ecamDecode } from '../../../devices/spec/pci.ts';
import { GUEST_CAP, GUEST_ECAP } from '../../../devices/spec/vtd/registers.ts';
import type { Exit, GuestMachine } from '../../../guest/cpu.ts';
import type { EventRecord } from '../../../trace/event.ts';
import { Tracer } from '../../../trace/tracer.ts';
import { FakeAccelerator } from './accelerator.ts';
import { FakeCpu } from './cpu.ts';
import { FakeUnit } from './unit.ts';

export const UNIT_BASE = 0xfed9_0000;
export const ECAM_BASE = 0xb000_0000;
export const ACCELERATOR_BAR0 = 0x40_0000_0000;
export const ACCELERATOR_BAR2 = 0x40_1000_0000;
const SHARE_BAR0 = 0xc000_0000;
const SHARE_BAR2 = 0xc010_0000;

export interface MachineOptions {
  readonly ramBytes?: number;
  readonly input?: Uint8Array;
  readonly commandLine?: string;
  readonly cap?: bigint;
  readonly ecap?: bigint;
  readonly dmar?: boolean;
}

/** Configuration space as bytes, with BAR masks and PRI status. */
class Config {
  readonly bytes = new DataView(new ArrayBuffer(4096));
  readonly bars: Record<number, number> = {};

  set32(at: number, value: number): this {
    this.bytes.setUint32(at, value, true);
    return this;
  }

  bar(index: number, address: number, size: number, is64: boolean): this {
    this.set32(0x10 + 4 * index, (address % 2 ** 32) + (is64 ? 0xc : 0));
    if (is64) this.set32(0x14 + 4 * index, Math.floor(address / 2 ** 32));
    this.bars[index] = size;
    if (is64) this.bars[index + 1] = -1;
    return this;
  }

  read(at: number, size: number): bigint {
    if (size === 1) return BigInt(this.bytes.getUint8(at));
    return BigInt(size === 2 ? this.bytes.getUint16(at, true) : this.bytes.getUint32(at, true));
  }

  write(at: number, size: number, value: number): void {
    const bar = (at - 0x10) / 4;
    if (at >= 0x10 && at < 0x28) {
      const size64 = this.bars[bar];
      if (size64 === undefined) return;
      const mask = size64 === -1 ? 0xffff_ffff : -size64;
      const flags = size64 === -1 ? 0 : this.bytes.getUint32(at, true) & 0xf;
      this.set32(at, ((value & mask) | flags) >>> 0);
    } else if (size === 2) {
      this.bytes.setUint16(at, value, true);
    } else {
      this.set32(at, value);
    }
  }
}

function acceleratorConfig(): Config {
  const config = new Config()
    .set32(0, (DsaPci.DEVICE_ID << 16) | DsaPci.VENDOR_ID)
    .set32(4, 0x0010_0000)
    .set32(0x34, 0x40)
    .set32(0x40, 0x0008_0011)
    .set32(0x44, 0xf000)
    .set32(0x48, 0xf800)
    .bar(0, ACCELERATOR_BAR0, 0x1_0000, true)
    .bar(2, ACCELERATOR_BAR2, 0x2_0000, true)
    .set32(0x100, 0x1101_000f)
    .set32(0x104, 0x0000_0061)
    .set32(0x110, 0x1201_0013)
    .set32(0x114, 0x8100_0000)
    .set32(0x118, 32)
    .set32(0x120, 0x0001_001b)
    .set32(0x124, 0x0000_1404);
  return config;
}

function shareConfig(): Config {
  return new Config()
    .set32(0, (FILESHARE_DEVICE << 16) | FILESHARE_VENDOR)
    .bar(0, SHARE_BAR0, 0x1000, false)
    .bar(2, SHARE_BAR2, FILESHARE_WINDOW_BYTES, false);
}

/** What stands in for the small accelerator. */
export interface Replacement {
  configRead(register: number, size: number): number;
  configWrite(register: number, size: number, value: number): void;
  barRead(bar: number, offset: number, size: number): bigint;
  barWrite(bar: number, offset: number, size: number, value: bigint): void;
  /** Lets `ns` pass, or null: until an interrupt is pending. False: nothing can ever happen. */
  advance(ns: number | null): boolean;
}

export class FakeMachine {
  readonly cpu: FakeCpu;
  readonly unit: FakeUnit;
  readonly accelerator: FakeAccelerator;
  readonly trace: Tracer;
  readonly events: EventRecord[] = [];
  readonly outputs = new Map<number, Uint8Array>();
  readonly configs: ReadonlyMap<number, Config>;
  /** Order of writes to configuration space: `rid:offset=value`. */
  readonly configWrites: string[] = [];
  exits = 0;
  /** Another accelerator in place of the small one, with the time it lives in. */
  replacement: Replacement | null = null;
  readonly #input: Uint8Array;
  readonly #share = new DataView(new ArrayBuffer(0x1000));

  constructor(options: MachineOptions = {}) {
    const { ramBytes = 32 << 20, commandLine = 'name=vm0' } = options;
    this.cpu = new FakeCpu(ramBytes);
    this.unit = new FakeUnit(this.cpu, options.cap ?? GUEST_CAP, options.ecap ?? GUEST_ECAP);
    this.accelerator = new FakeAccelerator(this.cpu, this.unit, 8);
    this.configs = new Map([
      [0x08, acceleratorConfig()],
      [0x10, shareConfig()],
    ]);
    this.cpu.window = { start: SHARE_BAR2, bytes: new Uint8Array(FILESHARE_WINDOW_BYTES) };
    this.cpu.portal = (gpa, bytes) =>
      gpa >= ACCELERATOR_BAR2 + 0x1000 && gpa < ACCELERATOR_BAR2 + 0x2000
        ? this.accelerator.submit(bytes)
        : 1;
    this.#input = options.input ?? new Uint8Array(0);
    this.trace = new Tracer(() => this.cpu.tsc);
    this.trace.listen((record) => this.events.push(record));
    this.#firmware(ramBytes, commandLine, options.dmar ?? true);
  }

  #firmware(ramBytes: number, commandLine: string, dmar: boolean): void {
    const { cpu } = this;
    const at = { rsdp: 0x20_0000, xsdt: 0x20_0100, mcfg: 0x20_0200, dmar: 0x20_0400 };
    const drhd = {
      segment: 0,
      registerBase: UNIT_BASE,
      registerBytes: 4096,
      includeAll: true,
      scopes: [],
    };
    const atsr = { segment: 0, allPorts: true, scopes: [] };
    const window = { base: ECAM_BASE, segment: 0, startBus: 0, endBus: 0 };
    cpu.writeBytes(at.rsdp, buildRsdp(at.xsdt));
    cpu.writeBytes(at.xsdt, buildXsdt(dmar ? [at.mcfg, at.dmar] : [at.mcfg]));
    cpu.writeBytes(at.mcfg, buildMcfg([window]));
    cpu.writeBytes(at.dmar, buildDmar({ hostAddressWidth: 48, drhds: [drhd], atsrs: [atsr] }));
    const ranges = [{ start: 0, bytes: ramBytes }];
    cpu.writeBytes(BOOT_PARAMS_GPA, encodeBootParams({ rsdp: at.rsdp, ranges, commandLine }));
  }

  /** Answers exits until the guest ends. Throws when it halts with nothing to wake it. */
  run<T>(guest: GuestMachine<T>): T {
    let value = 0n;
    while (true) {
      const step = guest.next(value);
      if (step.done === true) return step.value;
      this.exits++;
      this.cpu.tsc += 100;
      value = this.#exit(step.value);
    }
  }

  #exit(exit: Exit): bigint {
    const { replacement } = this;
    if (replacement !== null) {
      const waits = exit.kind === 'hlt' ? null : exit.kind === 'pause' ? exit.ns : 100;
      if (!replacement.advance(waits)) throw new Error('the guest halts for ever');
      if (exit.kind === 'hlt' || exit.kind === 'pause') return 0n;
    }
    switch (exit.kind) {
      case 'mmio-read':
        return this.#read(exit.address, exit.size);
      case 'mmio-write':
        this.#write(exit.address, exit.size, exit.value);
        return 0n;
      case 'hlt': {
        const moved = this.accelerator.step();
        if (!moved && this.cpu.pending.length === 0) throw new Error('the guest halts for ever');
        return 0n;
      }
      case 'pause':
        this.accelerator.step();
        if (this.cpu.pending.length === 0) this.cpu.tsc += exit.ns;
        return 0n;
      default:
        return 0n;
    }
  }

  #read(address: number, size: number): bigint {
    const { unit, accelerator } = this;
    if (inside(address, UNIT_BASE, 0x1000)) return unit.read(address - UNIT_BASE, size);
    if (inside(address, ECAM_BASE, 1 << 20)) {
      const { rid, register } = ecamDecode(address - ECAM_BASE);
      if (rid === 8 && this.replacement !== null) {
        return BigInt(this.replacement.configRead(register, size));
      }
      return this.configs.get(rid)?.read(register, size) ?? 0xffff_ffffn;
    }
    if (inside(address, ACCELERATOR_BAR0, 0x1_0000)) {
      const offset = address - ACCELERATOR_BAR0;
      return this.replacement?.barRead(0, offset, size) ?? accelerator.read(offset, size);
    }
    if (!inside(address, SHARE_BAR0, 0x1000)) throw new Error(`read of 0x${address.toString(16)}`);
    if (address - SHARE_BAR0 === FILESHARE_REG.MAGIC) return BigInt(FILESHARE_MAGIC);
    if (address - SHARE_BAR0 === FILESHARE_REG.FILE_SIZE) return BigInt(this.#input.length);
    return BigInt(this.#share.getUint32(address - SHARE_BAR0, true));
  }

  #write(address: number, size: number, value: bigint): void {
    const { unit, accelerator } = this;
    if (inside(address, UNIT_BASE, 0x1000)) {
      unit.write(address - UNIT_BASE, size, value);
    } else if (inside(address, ECAM_BASE, 1 << 20)) {
      const { rid, register } = ecamDecode(address - ECAM_BASE);
      this.configWrites.push(`${rid}:${register.toString(16)}=${value.toString(16)}`);
      if (rid === 8 && this.replacement !== null) {
        this.replacement.configWrite(register, size, Number(value));
      } else {
        this.configs.get(rid)?.write(register, size, Number(value));
      }
    } else if (inside(address, ACCELERATOR_BAR0, 0x1_0000)) {
      const offset = address - ACCELERATOR_BAR0;
      if (this.replacement === null) accelerator.write(offset, size, value);
      else this.replacement.barWrite(0, offset, size, value);
    } else if (inside(address, SHARE_BAR0, 0x1000)) {
      this.#shareWrite(address - SHARE_BAR0, size, value);
    } else {
      throw new Error(`write of 0x${address.toString(16)}`);
    }
  }

  #shareWrite(offset: number, size: number, value: bigint): void {
    const share = this.#share;
    if (size === 8) share.setBigUint64(offset, value, true);
    else share.setUint32(offset, Number(value), true);
    if (offset !== FILESHARE_REG.COMMAND) return;
    const at = Number(share.getBigUint64(FILESHARE_REG.OFFSET, true));
    const length = share.getUint32(FILESHARE_REG.LENGTH, true);
    const { bytes } = this.cpu.window;
    if (value === 1n) {
      bytes.set(this.#input.subarray(at, at + length));
      return;
    }
    const output = share.getUint32(FILESHARE_REG.OUTPUT, true);
    const old = this.outputs.get(output) ?? new Uint8Array(0);
    const grown = new Uint8Array(Math.max(old.length, at + length));
    grown.set(old);
    grown.set(bytes.subarray(0, length), at);
    this.outputs.set(output, grown);
  }

  /** Events of one name. */
  named(name: string): EventRecord[] {
    return this.events.filter((event) => event.def.name === name);
  }
}

function inside(address: number, base: number, bytes: number): boolean {
  return address >= base && address < base + bytes;
}
