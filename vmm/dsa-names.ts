import { dsaCapabilities } from '../devices/spec/dsa/capabilities.ts';
import {
  DsaReg,
  EVLCFG_BYTES,
  OFFSETS_BYTES,
  OPCAP_BYTES,
  SWERR_BYTES,
} from '../devices/spec/dsa/registers.ts';
import { Grpcfg } from '../devices/spec/dsa/tables.ts';

const WIDE = new Map<number, number>([
  [DsaReg.OPCAP, OPCAP_BYTES],
  [DsaReg.OFFSETS, OFFSETS_BYTES],
  [DsaReg.SWERR, SWERR_BYTES],
  [DsaReg.EVLCFG, EVLCFG_BYTES],
]);
const TABLES = dsaCapabilities();

/** The accelerator's register at a byte offset of BAR0, as traces name it: 'CMD', 'WQCFG[0]+0x8'. */
export function dsaRegisterName(offset: number): string {
  for (const [name, start] of Object.entries(DsaReg)) {
    const inside = offset - start;
    if (inside >= 0 && inside < (WIDE.get(start) ?? 8))
      return inside === 0 ? name : plus(name, inside);
  }
  const { wqcfgOffset, wqcfgStride, wqCount, grpcfgOffset, groupCount } = TABLES;
  return (
    tableEntry('WQCFG', offset - wqcfgOffset, wqcfgStride, wqCount) ??
    tableEntry('GRPCFG', offset - grpcfgOffset, Grpcfg.BYTES, groupCount) ??
    plus('BAR0', offset)
  );
}

function tableEntry(name: string, at: number, stride: number, count: number): string | undefined {
  if (at < 0 || at >= stride * count) return undefined;
  const entry = `${name}[${Math.floor(at / stride)}]`;
  return at % stride === 0 ? entry : plus(entry, at % stride);
}

function plus(name: string, offset: number): string {
  return `${name}+0x${offset.toString(16)}`;
}
