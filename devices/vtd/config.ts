import { bits } from '../spec/bits.ts';
import {
  CAP,
  type Cap,
  ECAP,
  type Ecap,
  MODELLED_CAP,
  MODELLED_ECAP,
} from '../spec/vtd/capabilities.ts';
import {
  contextEntry,
  contextEntryReserved,
  legacyContextEntry,
  legacyRootEntry,
  rootEntry,
} from '../spec/vtd/context.ts';
import { pasidDirEntry, pasidEntryReserved } from '../spec/vtd/pasid.ts';
import { SS_LO } from '../spec/x86/paging.ts';

/**
 * What CAP, ECAP and the host address width mean for the walks: masks over the int32 halves of an
 * entry, prepared once. Reserved masks hold low and high half of each 64-bit word in turn.
 */
export interface UnitConfig {
  readonly name: string;
  /** CAP and ECAP as software reads them: only what the model has. */
  readonly capValue: bigint;
  readonly ecapValue: bigint;
  readonly cap: Cap;
  readonly ecap: Ecap;
  readonly haw: number;
  /** High-half bits of addresses at or above 2^HAW. */
  readonly hawHi: number;
  /** First page number beyond the host address width. */
  readonly hawPages: number;
  /** First page number beyond the second stage's widest input (CAP.MGAW). */
  readonly mgawPages: number;
  /** High-half bits that send an entry to the slow walk: beyond HAW, or a frame of 31 bits or more. */
  readonly fastHi: number;
  /** The same for second-stage entries, whose bit 62 is reserved too. */
  readonly fastSsHi: number;
  /** High-half bits that are reserved in a second-stage entry: beyond HAW, and bit 62. */
  readonly ssReservedHi: number;
  /** Low-half bits that are reserved in a second-stage leaf: SNP without ECAP.SC. */
  readonly ssLeafReservedLo: number;
  readonly rootReserved: Int32Array;
  readonly contextReserved: Int32Array;
  readonly directoryReserved: Int32Array;
  readonly pasidReserved: Int32Array;
  readonly legacyRootReserved: Int32Array;
  readonly legacyContextReserved: Int32Array;
}

const BIT_62_HI = 0x4000_0000;
/** Frames of 31 bits or more: address bits 51:43. */
const WIDE_FRAME_HI = 0x000f_f800;

function halves(words: readonly bigint[]): Int32Array {
  return Int32Array.from(
    words.flatMap((word) => [
      Number(BigInt.asIntN(32, word)),
      Number(BigInt.asIntN(32, bits(word, 63, 32))),
    ]),
  );
}

/** Adds what lies beyond the host address width to the pointers in the words named. */
function withPointers(words: readonly bigint[], haw: number, pointers: readonly number[]) {
  const beyond = ((1n << 64n) - 1n) & ~((1n << BigInt(haw)) - 1n);
  return halves(words.map((word, i) => (pointers.includes(i) ? word | beyond : word)));
}

/** Context fields whose capability the unit lacks are reserved (fault 42h). */
function contextReservedWords(ecap: Ecap): readonly bigint[] {
  const { masks } = contextEntry;
  const [qw0, ...rest] = contextEntryReserved(ecap);
  return [
    qw0! |
      (ecap.DT === 0 ? masks.DTE : 0n) |
      (ecap.PASID === 0 ? masks.PASIDE : 0n) |
      (ecap.PRS === 0 ? masks.PRE : 0n),
    ...rest,
  ];
}

/** @param haw host address width in bits, 39 to 52; else RangeError */
export function unitConfig(options: {
  cap: bigint;
  ecap: bigint;
  haw: number;
  name: string;
}): UnitConfig {
  const { haw, name } = options;
  if (!Number.isInteger(haw) || haw < 39 || haw > 52) throw new RangeError(`haw ${haw}`);
  const capValue = options.cap & MODELLED_CAP;
  const ecapValue = options.ecap & MODELLED_ECAP;
  const cap = CAP.decode([capValue]);
  const ecap = ECAP.decode([ecapValue]);
  const hawHi = 0x000f_ffff & ~(2 ** (haw - 32) - 1);
  return {
    name,
    capValue,
    ecapValue,
    cap,
    ecap,
    haw,
    hawHi,
    hawPages: 2 ** (haw - 12),
    mgawPages: 2 ** (cap.MGAW + 1 - 12),
    fastHi: hawHi | WIDE_FRAME_HI,
    fastSsHi: hawHi | WIDE_FRAME_HI | BIT_62_HI,
    ssReservedHi: hawHi | BIT_62_HI,
    ssLeafReservedLo: ecap.SC === 0 ? SS_LO.SNP : 0,
    rootReserved: withPointers(rootEntry.reserved, haw, [0, 1]),
    contextReserved: withPointers(contextReservedWords(ecap), haw, [0]),
    directoryReserved: withPointers(pasidDirEntry.reserved, haw, [0]),
    pasidReserved: halves(pasidEntryReserved(ecap)),
    legacyRootReserved: withPointers(legacyRootEntry.reserved, haw, [0]),
    legacyContextReserved: withPointers(legacyContextEntry.reserved, haw, [0]),
  };
}
