import type { MsixTable } from '../pci/msix.ts';
import {
  DeviceState,
  DsaPci,
  DsaReg,
  Gencfg,
  Genctrl,
  Gensts,
  OPCAP_BYTES,
  SWERR_BYTES,
} from '../spec/dsa/registers.ts';
import { Grpcfg, GrpcfgFlags, MSIX_PERMISSION_BYTES, MsixPermission } from '../spec/dsa/tables.ts';
import type { Commands } from './commands.ts';
import type { SoftwareErrors } from './errors.ts';
import type { DsaState } from './state.ts';

const LOW_32 = 0xffff_ffffn;
/** Writable bits of a permission entry's first dword. */
const PERMISSION_MASK = MsixPermission.mask;

export interface RegisterParts {
  readonly state: DsaState;
  readonly commands: Commands;
  readonly errors: SoftwareErrors;
  readonly msix: MsixTable;
}

/**
 * BAR0. Any aligned access of 1, 2, 4 or 8 bytes: wider ones are two dwords, low first; narrower
 * writes merge into the dword, except that CMD needs a whole one and the write-1-to-clear registers
 * see zeros in the bytes not written. Undefined offsets read 0 and ignore writes.
 */
export class RegisterFile {
  readonly #parts: RegisterParts;
  /** Registers below the tables that never change, by dword. */
  readonly #constants = new Map<number, number>();

  constructor(parts: RegisterParts) {
    this.#parts = parts;
    const { caps } = parts.state;
    this.#constant(DsaReg.VERSION, BigInt(caps.version), 4);
    this.#constant(DsaReg.GENCAP, caps.gencap, 8);
    this.#constant(DsaReg.WQCAP, caps.wqcap, 8);
    this.#constant(DsaReg.GRPCAP, caps.grpcap, 8);
    this.#constant(DsaReg.ENGCAP, caps.engcap, 8);
    this.#constant(DsaReg.OPCAP, caps.opcap, OPCAP_BYTES);
    this.#constant(DsaReg.OFFSETS, caps.offsets[0], 8);
    this.#constant(DsaReg.OFFSETS + 8, caps.offsets[1], 8);
    this.#constant(DsaReg.CMDCAP, BigInt(caps.cmdcap), 4);
  }

  #constant(offset: number, value: bigint, bytes: number): void {
    for (let at = 0; at < bytes; at += 4) {
      this.#constants.set(offset + at, Number((value >> BigInt(8 * at)) & LOW_32));
    }
  }

  read(offset: number, size: number): bigint {
    if (!isAccess(offset, size)) return 0n;
    if (size === 8) {
      return BigInt(this.#read32(offset)) | (BigInt(this.#read32(offset + 4)) << 32n);
    }
    const dword = this.#read32(offset & ~3) >>> (8 * (offset & 3));
    return BigInt(size === 4 ? dword : dword & ((1 << (8 * size)) - 1));
  }

  write(offset: number, size: number, value: bigint): void {
    if (!isAccess(offset, size)) return;
    if (size === 8) {
      this.#write32(offset, Number(value & LOW_32), 0xffff_ffff);
      this.#write32(offset + 4, Number((value >> 32n) & LOW_32), 0xffff_ffff);
      return;
    }
    const shift = 8 * (offset & 3);
    const lanes = size === 4 ? 0xffff_ffff : (((1 << (8 * size)) - 1) << shift) >>> 0;
    const dword = Number(BigInt.asUintN(8 * size, value) << BigInt(shift));
    this.#write32(offset & ~3, dword, lanes);
  }

  #read32(offset: number): number {
    const { state, commands, errors, msix } = this.#parts;
    const constant = this.#constants.get(offset);
    if (constant !== undefined) return constant;
    switch (offset) {
      case DsaReg.GENCFG:
        return state.gencfg;
      case DsaReg.GENCTRL:
        return state.genctrl;
      case DsaReg.GENSTS:
        return Gensts.encode({ state: state.state, resetType: state.resetType });
      case DsaReg.INTCAUSE:
        return state.intcause;
      case DsaReg.CMDSTS:
        return commands.status;
    }
    if (offset >= DsaReg.SWERR && offset < DsaReg.SWERR + SWERR_BYTES) {
      const at = offset - DsaReg.SWERR;
      return Number((errors.word(at >>> 3) >> BigInt(8 * (at & 4))) & LOW_32);
    }
    if (msix.owns(offset)) return msix.readDword(offset);
    return this.#readTable(offset);
  }

  #readTable(offset: number): number {
    const { state } = this.#parts;
    const { caps } = state;
    const group = offset - caps.grpcfgOffset;
    if (group >= 0 && group < caps.groupCount * Grpcfg.BYTES) return state.grpcfg[group / 4]!;
    const queue = offset - caps.wqcfgOffset;
    if (queue >= 0 && queue < caps.wqCount * caps.wqcfgStride) {
      const index = Math.floor(queue / caps.wqcfgStride);
      return state.queues[index]!.readWord((queue % caps.wqcfgStride) / 4);
    }
    return state.permissions[this.#permissionIndex(offset)] ?? 0;
  }

  #permissionIndex(offset: number): number {
    return (offset - this.#parts.state.caps.msixPermissionOffset) / 4;
  }

  #write32(offset: number, value: number, lanes: number): void {
    const { state, commands, errors, msix } = this.#parts;
    const merged = (old: number): number => ((old & ~lanes) | (value & lanes)) >>> 0;
    switch (offset) {
      case DsaReg.GENCFG:
        if (this.#isConfigurable) state.gencfg = merged(state.gencfg) & Gencfg.mask;
        return;
      case DsaReg.GENCTRL:
        state.genctrl = merged(state.genctrl) & Genctrl.mask;
        return;
      case DsaReg.INTCAUSE:
        state.clearCauses(value & lanes);
        return;
      case DsaReg.CMD:
        if (lanes === 0xffff_ffff) commands.write(value);
        return;
      case DsaReg.SWERR:
        errors.clear(BigInt((value & lanes) >>> 0));
        return;
    }
    if (msix.owns(offset)) {
      if (lanes === 0xffff_ffff) msix.writeDword(offset, value);
      return;
    }
    this.#writeTable(offset, merged);
  }

  #writeTable(offset: number, merged: (old: number) => number): void {
    const { state } = this.#parts;
    const { caps } = state;
    const group = offset - caps.grpcfgOffset;
    if (group >= 0 && group < caps.groupCount * Grpcfg.BYTES) {
      if (!this.#isConfigurable) return;
      const mask = groupMask(group % Grpcfg.BYTES, caps.wqCount, caps.engineCount);
      state.grpcfg[group / 4] = merged(state.grpcfg[group / 4]!) & mask;
      return;
    }
    const at = offset - caps.wqcfgOffset;
    if (at >= 0 && at < caps.wqCount * caps.wqcfgStride) {
      const queue = state.queues[Math.floor(at / caps.wqcfgStride)]!;
      const word = (at % caps.wqcfgStride) / 4;
      queue.writeWord(word, merged(queue.readWord(word)));
      return;
    }
    const index = this.#permissionIndex(offset);
    if (index < 0 || index >= state.permissions.length) return;
    const mask = index % (MSIX_PERMISSION_BYTES / 4) === 0 ? PERMISSION_MASK : 0;
    state.permissions[index] = merged(state.permissions[index]!) & mask;
  }

  /** General and group configuration is fixed unless the device is disabled. */
  get #isConfigurable(): boolean {
    return this.#parts.state.state === DeviceState.DISABLED;
  }
}

/** Writable bits of a dword of a group's entry: only queues and engines that exist. */
function groupMask(offset: number, wqCount: number, engineCount: number): number {
  const upTo = (count: number): number => (count >= 32 ? -1 : count <= 0 ? 0 : (1 << count) - 1);
  if (offset < Grpcfg.ENGINE_BITMAP) return upTo(wqCount - 8 * offset);
  if (offset < Grpcfg.FLAGS) return upTo(engineCount - 8 * (offset - Grpcfg.ENGINE_BITMAP));
  if (offset >= Grpcfg.FLAGS + 8) return 0;
  const flags = GrpcfgFlags.mask >> BigInt(8 * (offset - Grpcfg.FLAGS));
  return Number(BigInt.asIntN(32, flags));
}

function isAccess(offset: number, size: number): boolean {
  if (size !== 1 && size !== 2 && size !== 4 && size !== 8) return false;
  return offset >= 0 && offset % size === 0 && offset + size <= DsaPci.BAR0_BYTES;
}
