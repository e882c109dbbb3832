/** A small accelerator: PCI function, registers, and descriptors run through the guest's own tables. */
import { dsaCapabilities } from '../../../devices/spec/dsa/capabilities.ts';
import { DsaStatus, encodeCompletion } from '../../../devices/spec/dsa/completion.ts';
import { crc32c } from '../../../devices/spec/dsa/crc.ts';
import { type Descriptor, decodeDescriptor } from '../../../devices/spec/dsa/descriptor.ts';
import { DescriptorFlag, Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import {
  CmdError,
  CmdReg,
  CmdstsReg,
  DsaCommand,
  DsaReg,
  Intcause,
  Swerr0,
} from '../../../devices/spec/dsa/registers.ts';
import { RESPONSE } from '../../../devices/spec/vtd/page-request.ts';
import type { FakeCpu } from './cpu.ts';
import type { FakeUnit } from './unit.ts';

/** Thrown by a memory access that must ask for the page first. */
class Missing extends Error {
  readonly address: number;
  readonly write: boolean;
  constructor(address: number, write: boolean) {
    super('page missing');
    this.address = address;
    this.write = write;
  }
}

interface Work {
  readonly d: Descriptor;
  /** Page addresses that were refused. */
  refused: number | null;
  waiting: boolean;
}

export const CAPABILITIES = dsaCapabilities({ maxTransferShift: 14 });

export class FakeAccelerator {
  readonly bar0 = new DataView(new ArrayBuffer(0x1_0000));
  readonly rid: number;
  readonly commands: { command: number; operand: number }[] = [];
  /** What a completion interrupt asked for by a user ends in. */
  userInterrupts = true;
  /** Submissions refused with ZF=1 before the next one is taken. */
  retries = 0;
  pageRequests = 0;
  /** What it reports although it is not so. `damage`: the copy has a wrong byte in the middle. */
  /** PASIDs whose drain ends in an error. */
  readonly undrainable = new Set<number>();
  readonly lies: {
    damage: boolean;
    crc: number | undefined;
    /** MEMMOVEs of this PASID fail. */
    status: { pasid: number; status: number } | undefined;
  } = { damage: false, crc: undefined, status: undefined };
  readonly #cpu: FakeCpu;
  readonly #unit: FakeUnit;
  #work: Work[] = [];
  readonly #asked = new Map<number, Work[]>();
  #prgi = 0;

  constructor(cpu: FakeCpu, unit: FakeUnit, rid: number) {
    this.#cpu = cpu;
    this.#unit = unit;
    this.rid = rid;
    this.reset();
    unit.onResponse = (response) => {
      for (const work of this.#asked.get(response.prgi) ?? []) {
        work.waiting = false;
        if (response.code !== RESPONSE.SUCCESS) work.refused = 1;
      }
      this.#asked.delete(response.prgi);
    };
  }

  reset(): void {
    const set = (offset: number, value: bigint): void => {
      this.bar0.setBigUint64(offset, value, true);
    };
    set(DsaReg.VERSION, BigInt(CAPABILITIES.version));
    set(DsaReg.GENCAP, CAPABILITIES.gencap);
    set(DsaReg.WQCAP, CAPABILITIES.wqcap);
    set(DsaReg.GRPCAP, CAPABILITIES.grpcap);
    set(DsaReg.ENGCAP, CAPABILITIES.engcap);
    set(DsaReg.OPCAP, CAPABILITIES.opcap & 0xffff_ffff_ffff_ffffn);
    set(DsaReg.OFFSETS, CAPABILITIES.offsets[0]);
  }

  read(offset: number, size: number): bigint {
    if (size === 8) return this.bar0.getBigUint64(offset, true);
    return BigInt(this.bar0.getUint32(offset, true));
  }

  write(offset: number, size: number, value: bigint): void {
    if (offset === DsaReg.CMD) {
      this.#command(Number(value));
    } else if (offset === DsaReg.SWERR) {
      if ((value & 1n) !== 0n) this.bar0.setBigUint64(offset, 0n, true);
    } else if (offset === DsaReg.INTCAUSE) {
      const left = this.bar0.getUint32(offset, true) & ~Number(value);
      this.bar0.setUint32(offset, left, true);
    } else if (size === 8) {
      this.bar0.setBigUint64(offset, value, true);
    } else {
      this.bar0.setUint32(offset, Number(value), true);
    }
  }

  #command(word: number): void {
    const { command, operand, interrupt } = CmdReg.decode(word);
    this.commands.push({ command, operand });
    const state = this.bar0.getUint32(DsaReg.GENSTS, true) & ~3;
    if (command === DsaCommand.ENABLE_DEVICE) this.bar0.setUint32(DsaReg.GENSTS, state | 1, true);
    if (command === DsaCommand.DISABLE_DEVICE) this.bar0.setUint32(DsaReg.GENSTS, state, true);
    const isRefused = command === DsaCommand.DRAIN_PASID && this.undrainable.has(operand);
    const error = isRefused ? CmdError.HARDWARE_ERROR : 0;
    this.bar0.setUint32(DsaReg.CMDSTS, CmdstsReg.encode({ error }), true);
    if (interrupt === 0) return;
    this.bar0.setUint32(DsaReg.INTCAUSE, this.bar0.getUint32(DsaReg.INTCAUSE, true) | 2, true);
    this.#raise(0);
  }

  #raise(vector: number): void {
    this.#cpu.raise(this.bar0.getUint32(0xf000 + 16 * vector + 8, true) & 0xff);
  }

  /** Records an error in SWERR and raises vector 0. */
  softwareError(pasid: number, error: number, address: bigint): void {
    const qw0 = Swerr0.encode({ valid: 1, pasid, error });
    this.bar0.setBigUint64(DsaReg.SWERR, qw0, true);
    this.bar0.setBigUint64(DsaReg.SWERR + 16, address, true);
    this.bar0.setUint32(DsaReg.INTCAUSE, Intcause.SOFTWARE_ERROR, true);
    this.#raise(0);
  }

  submit(bytes: Uint8Array): 0 | 1 {
    if (this.retries > 0) {
      this.retries--;
      return 1;
    }
    this.#work.push({ d: decodeDescriptor(bytes), refused: null, waiting: false });
    return 0;
  }

  get busy(): boolean {
    return this.#work.length > 0;
  }

  /** Runs every descriptor as far as it gets. True if anything moved. */
  step(): boolean {
    let moved = false;
    for (const work of this.#work) {
      if (work.waiting) continue;
      moved = true;
      try {
        this.#finish(work, this.#execute(work));
      } catch (error) {
        if (!(error instanceof Missing)) throw error;
        if (work.refused === null) this.#ask(work, error);
        else
          this.#finish(work, {
            status: DsaStatus.PAGE_RESPONSE_INVALID,
            faultAddress: BigInt(error.address),
          });
      }
    }
    return moved;
  }

  #finish(work: Work, result: Parameters<typeof encodeCompletion>[0]): void {
    this.#store(work.d, Number(work.d.completion), encodeCompletion(result));
    this.#work = this.#work.filter((other) => other !== work);
    const { flags, interruptHandle } = work.d;
    if ((flags & DescriptorFlag.REQUEST_INTERRUPT) !== 0 && this.userInterrupts) {
      this.#raise(interruptHandle);
    }
  }

  #ask(work: Work, missing: Missing): void {
    const prgi = this.#prgi;
    this.#prgi = (prgi + 1) % 512;
    this.#asked.set(prgi, [work]);
    work.waiting = true;
    this.pageRequests++;
    const { address, write } = missing;
    this.#unit.pageRequest({ rid: this.rid, pasid: work.d.pasid, address, write, prgi });
  }

  #execute({ d }: Work): Parameters<typeof encodeCompletion>[0] {
    const wantsInterrupt = (d.flags & DescriptorFlag.REQUEST_INTERRUPT) !== 0;
    if (wantsInterrupt && !this.userInterrupts) return { status: DsaStatus.INTERRUPT_HANDLE };
    const status = DsaStatus.SUCCESS;
    const [source, destination] = [Number(d.source), Number(d.destination)];
    switch (d.opcode) {
      case Opcode.NOOP:
        return { status };
      case Opcode.MEMMOVE: {
        const failed = this.lies.status;
        if (failed?.pasid === d.pasid) return { status: failed.status };
        const bytes = this.#load(d, source, d.size);
        if (this.lies.damage) bytes[d.size >>> 2]! ^= 1;
        this.#store(d, destination, bytes);
        return { status };
      }
      case Opcode.CRCGEN:
        return { status, crc: this.lies.crc ?? crc32c(this.#load(d, source, d.size), d.crcSeed) };
      case Opcode.COMPARE: {
        const [a, b] = [this.#load(d, source, d.size), this.#load(d, destination, d.size)];
        const same = this.lies.damage || a.every((byte, i) => byte === b[i]);
        return { status, result: same ? 0 : 1 };
      }
      default:
        return { status: DsaStatus.UNSUPPORTED_OPCODE };
    }
  }

  #load(d: Descriptor, address: number, size: number): Uint8Array {
    const bytes = new Uint8Array(size);
    this.#pages(d, address, size, false, (gpa, at, length) => {
      this.#cpu.readBytes(gpa, bytes.subarray(at, at + length));
    });
    return bytes;
  }

  #store(d: Descriptor, address: number, bytes: Uint8Array): void {
    this.#pages(d, address, bytes.length, true, (gpa, at, length) => {
      this.#cpu.writeBytes(gpa, bytes.subarray(at, at + length));
    });
  }

  #pages(
    d: Descriptor,
    address: number,
    size: number,
    write: boolean,
    act: (gpa: number, at: number, length: number) => void,
  ): void {
    for (let at = 0; at < size; ) {
      const gpa = this.#translate(d.pasid, address + at, write);
      const length = Math.min(4096 - (gpa % 4096), size - at);
      act(gpa, at, length);
      at += length;
    }
  }

  /** Root table, context, PASID directory, PASID entry, first stage: as the unit walks them. */
  #translate(pasid: number, address: number, write: boolean): number {
    const missing = new Missing(Math.floor(address / 4096) * 4096, write);
    const cpu = this.#cpu;
    const page = (entry: bigint): number => Number(entry & 0x000f_ffff_ffff_f000n);
    const root = cpu.read64(page(this.#unit.read(0x20, 8)));
    const context = cpu.read64(page(root) + 32 * (this.rid & 0x7f));
    const directory = cpu.read64(page(context) + 8 * (pasid >>> 6));
    const at = page(directory) + 64 * (pasid & 63);
    const present = [root, context, directory, cpu.read64(at)].every((e) => (e & 1n) === 1n);
    if (!present) throw missing;
    const qw2 = cpu.read64(at + 16);
    const levels = (qw2 & 0xcn) === 4n ? 5 : 4;
    const gpa = cpu.walk(page(qw2), levels, BigInt(address), write);
    if (gpa === null) throw missing;
    return gpa;
  }
}
