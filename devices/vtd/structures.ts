import { halfFields, inHalves } from '../spec/bits.ts';
import {
  contextEntry,
  contextEntryAddress,
  LEGACY_TT,
  legacyContextEntry,
  legacyContextEntryAddress,
  legacyRootEntry,
  pasidCount,
  rootEntry,
  rootEntryAddress,
} from '../spec/vtd/context.ts';
import { FAULT } from '../spec/vtd/faults.ts';
import {
  describePasidEntry,
  firstStageLevels,
  PGTT,
  pasidDirEntry,
  pasidDirEntryAddress,
  pasidEntry,
  pasidEntryAddress,
  secondStageLevels,
  secondStageWidth,
} from '../spec/vtd/pasid.ts';
import { RTADDR, TTM } from '../spec/vtd/registers.ts';
import type { UnitConfig } from './config.ts';
import { ContextConfig, PasidConfig } from './entries.ts';
import type { ContextCache, PasidCache } from './entry-caches.ts';
import type { Epoch } from './epoch.ts';
import type { NotPresent, NotPresentCache } from './not-present-cache.ts';
import { NARROW_FRAMES } from './structure-caches.ts';
import { entryPointer, type TableBus } from './table-bus.ts';
import { entryOf, type WalkLog } from './walk-log.ts';

/** Words of the widest structure, a PASID entry. */
const MAX_WORDS = 8;

const PAGE_BYTES = 4096;
/** Larger memory is never flat (performance: the index of a word stays an int32). */
const MAX_FLAT_BYTES = 2 ** 33;

/** The fields that a cached entry keeps, as they lie in int32 halves. */
const CONTEXT = halfFields(contextEntry.fields, [
  'DTE',
  'PASIDE',
  'PRE',
  'PDTS',
  'RID_PASID',
  'RID_PRIV',
]);
const PASID = halfFields(pasidEntry.fields, [
  'PGTT',
  'DID',
  'AW',
  'SSADE',
  'FSPM',
  'SRE',
  'WPE',
  'EAFE',
  'PWSNP',
  'PGSNP',
]);

/** Faults that say an entry is not present, which caching mode lets the unit keep. */
const NOT_PRESENT: ReadonlySet<number> = new Set([
  FAULT.LEGACY_CONTEXT_NOT_PRESENT,
  FAULT.SM_CONTEXT_NOT_PRESENT,
  FAULT.PASID_ENTRY_NOT_PRESENT,
]);

/**
 * From a source id and PASID to the entry that says how to translate: root, context, PASID
 * directory and PASID table, through the context and PASID caches (VT-d spec 3.4, 9.1 to 9.7).
 * A method that returns null leaves the reason in `fault`; `fpd` tells whether a structure on the
 * way asks for no fault records.
 */
export class Structures {
  fault = 0;
  fpd = false;
  /** Latched by set-root-table-pointer. */
  ttm: number = TTM.LEGACY;
  /** Whether what was latched is a mode and a pointer that the unit can use. */
  valid = true;
  #root = 0;
  readonly #config: UnitConfig;
  readonly #bus: TableBus;
  readonly #log: WalkLog;
  readonly #contexts: ContextCache;
  readonly #pasids: PasidCache;
  readonly #absent: NotPresentCache | null;
  readonly #epoch: Epoch;
  /** Halves of the structure read last, low and high of each word in turn. */
  readonly #halves = new Int32Array(2 * MAX_WORDS);

  constructor(parts: {
    config: UnitConfig;
    bus: TableBus;
    log: WalkLog;
    contexts: ContextCache;
    pasids: PasidCache;
    absent: NotPresentCache | null;
    epoch: Epoch;
  }) {
    this.#config = parts.config;
    this.#bus = parts.bus;
    this.#log = parts.log;
    this.#contexts = parts.contexts;
    this.#pasids = parts.pasids;
    this.#absent = parts.absent;
    this.#epoch = parts.epoch;
  }

  /** Takes RTADDR: root table and mode. A mode the unit lacks makes every request fault 30h. */
  latchRoot(rtaddr: bigint): void {
    const { ecap, hawPages } = this.#config;
    this.#epoch.end();
    const fields = RTADDR.decode([rtaddr]);
    this.#root = fields.RTA;
    this.ttm = fields.TTM;
    const supported =
      fields.TTM === TTM.LEGACY ||
      (fields.TTM === TTM.SCALABLE && ecap.SMTS === 1) ||
      (fields.TTM === TTM.ABORT_DMA && ecap.ADMS === 1);
    this.valid = supported && fields.SSIRWE === 0 && fields.RTA < hawPages * 4096;
  }

  /** The fault that the translation mode alone raises for a request, or 0. */
  modeFault(hasPasid: boolean, pageRequest: boolean): number {
    if (!this.valid) return FAULT.RTADDR_INVALID;
    if (this.ttm === TTM.ABORT_DMA) return FAULT.ABORT_DMA;
    if (this.ttm !== TTM.LEGACY) return 0;
    if (pageRequest) return FAULT.LEGACY_PAGE_REQUEST;
    return hasPasid ? FAULT.LEGACY_WITH_PASID : 0;
  }

  /** The context entry of a function. Faults 38h to 43h; in legacy mode 1 to 3, 8 to Bh. */
  context(sid: number): ContextConfig | null {
    this.fpd = false;
    const cached = this.#contexts.find(sid);
    if (cached !== null) {
      this.fpd = cached.fpd;
      return cached;
    }
    const absent = this.#absent?.context(sid);
    if (absent !== undefined) return this.#again(absent);
    const entry = this.ttm === TTM.LEGACY ? this.#legacyContext(sid) : this.#scalableContext(sid);
    if (entry !== null) this.#contexts.keep(entry);
    else if (NOT_PRESENT.has(this.fault)) this.#absent?.keepContext(sid, this.#found());
    return entry;
  }

  /** The PASID entry under a context. Faults 50h to 5Bh. */
  pasid(context: ContextConfig, pasid: number): PasidConfig | null {
    const cached = this.#pasids.find(context.sid, pasid);
    if (cached !== null) {
      this.fpd ||= cached.fpd;
      return cached;
    }
    const absent = this.#absent?.pasid(context.sid, pasid);
    if (absent !== undefined) return this.#again(absent);
    const entry = this.#readPasid(context, pasid);
    if (entry !== null) this.#pasids.keep(context.sid, pasid, entry);
    else if (NOT_PRESENT.has(this.fault))
      this.#absent?.keepPasid(context.sid, pasid, this.#found());
    return entry;
  }

  #found(): NotPresent {
    return { fault: this.fault, fpd: this.fpd };
  }

  /** What is cached as not present. */
  #again(absent: NotPresent): null {
    this.fpd ||= absent.fpd;
    return this.#fail(absent.fault);
  }

  #fail(fault: number): null {
    this.fault = fault;
    return null;
  }

  #scalableContext(sid: number): ContextConfig | null {
    const config = this.#config;
    const rootAddress = rootEntryAddress(this.#root, sid >>> 8);
    if (!this.#read(rootAddress, rootEntry.words)) return this.#fail(FAULT.SM_ROOT_ACCESS);
    this.#note('root', rootAddress, rootEntry);
    const half = (sid & 0x80) === 0 ? 0 : 2;
    const rootLo = this.#halves[half]!;
    if ((rootLo & 1) === 0) return this.#fail(FAULT.SM_ROOT_NOT_PRESENT);
    if (this.#hasReserved(config.rootReserved, half, half + 2)) {
      return this.#fail(FAULT.SM_ROOT_RESERVED);
    }
    const table = entryPointer(rootLo, this.#halves[half + 1]!);
    const address = contextEntryAddress(table, sid & 0xff);
    if (!this.#read(address, contextEntry.words)) return this.#fail(FAULT.SM_CONTEXT_ACCESS);
    this.#note('context', address, contextEntry);
    const qw0 = this.#halves[0]!;
    this.fpd = (qw0 & 2) !== 0;
    if ((qw0 & 1) === 0) return this.#fail(FAULT.SM_CONTEXT_NOT_PRESENT);
    if (this.#hasReserved(config.contextReserved, 0, 8)) {
      return this.#fail(FAULT.SM_CONTEXT_RESERVED);
    }
    const halves = this.#halves;
    const pasids = pasidCount(inHalves(halves, CONTEXT.PDTS));
    const dte = inHalves(halves, CONTEXT.DTE) === 1;
    const pre = inHalves(halves, CONTEXT.PRE) === 1;
    const ridPasid = inHalves(halves, CONTEXT.RID_PASID);
    if ((pre && !dte) || ridPasid >= pasids) {
      return this.#fail(FAULT.SM_CONTEXT_INVALID);
    }
    const entry = new ContextConfig();
    entry.sid = sid;
    entry.fpd = this.fpd;
    entry.dte = dte;
    entry.paside = inHalves(halves, CONTEXT.PASIDE) === 1;
    entry.pre = pre;
    entry.pasids = pasids;
    entry.directory = pageAt(halves, 0) * PAGE_BYTES;
    entry.ridPasid = ridPasid;
    entry.ridPriv = inHalves(halves, CONTEXT.RID_PRIV) === 1;
    return entry;
  }

  #legacyContext(sid: number): ContextConfig | null {
    const { cap, ecap, legacyRootReserved, legacyContextReserved, mgawPages } = this.#config;
    const rootAddress = rootEntryAddress(this.#root, sid >>> 8);
    if (!this.#read(rootAddress, legacyRootEntry.words)) {
      return this.#fail(FAULT.LEGACY_ROOT_ACCESS);
    }
    this.#note('root', rootAddress, legacyRootEntry);
    if ((this.#halves[0]! & 1) === 0) return this.#fail(FAULT.LEGACY_ROOT_NOT_PRESENT);
    if (this.#hasReserved(legacyRootReserved, 0, 4)) return this.#fail(FAULT.LEGACY_ROOT_RESERVED);
    const table = entryPointer(this.#halves[0]!, this.#halves[1]!);
    const address = legacyContextEntryAddress(table, sid & 0xff);
    if (!this.#read(address, legacyContextEntry.words)) {
      return this.#fail(FAULT.LEGACY_CONTEXT_ACCESS);
    }
    this.#note('context', address, legacyContextEntry);
    const fields = legacyContextEntry.decode(this.#words(legacyContextEntry.words));
    this.fpd = fields.FPD === 1;
    if (fields.P === 0) return this.#fail(FAULT.LEGACY_CONTEXT_NOT_PRESENT);
    if (this.#hasReserved(legacyContextReserved, 0, 4)) {
      return this.#fail(FAULT.LEGACY_CONTEXT_RESERVED);
    }
    const passThrough = fields.TT === LEGACY_TT.PASS_THROUGH;
    const typeSupported =
      fields.TT === LEGACY_TT.UNTRANSLATED ||
      (fields.TT === LEGACY_TT.DEVICE_TLB && ecap.DT === 1) ||
      (passThrough && ecap.PT === 1);
    if (!typeSupported || !widthSupported(cap.SAGAW, fields.AW)) {
      return this.#fail(FAULT.LEGACY_CONTEXT_INVALID);
    }
    const how = new PasidConfig();
    how.pgtt = passThrough ? PGTT.PASS_THROUGH : PGTT.SECOND_STAGE;
    how.did = fields.DID;
    how.fpd = this.fpd;
    how.ssRoot = fields.SSPTPTR / 4096;
    how.ssLevels = secondStageLevels(fields.AW);
    how.ssPages = Math.min(mgawPages, 2 ** (secondStageWidth(fields.AW) - 12));
    how.snooped = true;
    const entry = new ContextConfig();
    entry.sid = sid;
    entry.fpd = this.fpd;
    entry.dte = fields.TT === LEGACY_TT.DEVICE_TLB;
    entry.legacy = how;
    return entry;
  }

  #readPasid(context: ContextConfig, pasid: number): PasidConfig | null {
    const { directoryReserved } = this.#config;
    const dirAddress = pasidDirEntryAddress(context.directory, pasid);
    if (!this.#read(dirAddress, pasidDirEntry.words)) return this.#fail(FAULT.PASID_DIR_ACCESS);
    this.#note('PASID directory', dirAddress, pasidDirEntry);
    const dirLo = this.#halves[0]!;
    const dirFpd = (dirLo & 2) !== 0;
    this.fpd ||= dirFpd;
    if ((dirLo & 1) === 0) return this.#fail(FAULT.PASID_DIR_NOT_PRESENT);
    if (this.#hasReserved(directoryReserved, 0, 2)) return this.#fail(FAULT.PASID_DIR_RESERVED);
    const address = pasidEntryAddress(entryPointer(dirLo, this.#halves[1]!), pasid);
    if (!this.#read(address, pasidEntry.words)) return this.#fail(FAULT.PASID_ENTRY_ACCESS);
    this.#note('PASID', address, PASID_ENTRY);
    const qw0 = this.#halves[0]!;
    const fpd = dirFpd || (qw0 & 2) !== 0;
    this.fpd ||= fpd;
    if ((qw0 & 1) === 0) return this.#fail(FAULT.PASID_ENTRY_NOT_PRESENT);
    return this.#checkPasid(pasid, fpd);
  }

  /** Reserved bits (5Ah) and combinations (5Bh) of the PASID entry just read. */
  #checkPasid(pasid: number, fpd: boolean): PasidConfig | null {
    const { cap, ecap, pasidReserved, hawPages, mgawPages } = this.#config;
    const halves = this.#halves;
    const pgtt = inHalves(halves, PASID.PGTT);
    const aw = inHalves(halves, PASID.AW);
    const fspm = inHalves(halves, PASID.FSPM);
    const nested = pgtt === PGTT.NESTED;
    const isFs = pgtt === PGTT.FIRST_STAGE;
    const usesFs = isFs || nested;
    const usesSs = pgtt === PGTT.SECOND_STAGE || nested;
    const fsRoot = pageAt(halves, 2);
    const ssRoot = pageAt(halves, 0);
    // Under nesting the first-stage root is a guest address, bounded by the second stage: 5Bh.
    const rootBeyond = (isFs && fsRoot >= hawPages) || (usesSs && ssRoot >= hawPages);
    if (rootBeyond || this.#hasReserved(pasidReserved, 0, 2 * MAX_WORDS)) {
      return this.#fail(FAULT.PASID_ENTRY_RESERVED);
    }
    const supported =
      (isFs && ecap.FSTS === 1) ||
      (pgtt === PGTT.SECOND_STAGE && ecap.SSTS === 1) ||
      (nested && ecap.NEST === 1) ||
      (pgtt === PGTT.PASS_THROUGH && ecap.PT === 1);
    if (!supported || (usesSs && !widthSupported(cap.SAGAW, aw)) || (usesFs && fspm > cap.FS5LP)) {
      return this.#fail(FAULT.PASID_ENTRY_INVALID);
    }
    const entry = new PasidConfig();
    if (usesSs) {
      entry.ssLevels = secondStageLevels(aw);
      entry.ssPages = Math.min(mgawPages, 2 ** (secondStageWidth(aw) - 12));
      entry.ssRoot = ssRoot;
    }
    if (nested && fsRoot >= entry.ssPages) {
      return this.#fail(FAULT.PASID_ENTRY_INVALID);
    }
    entry.pgtt = pgtt;
    entry.did = inHalves(halves, PASID.DID);
    entry.pasid = pasid;
    entry.fpd = fpd;
    entry.fsRoot = fsRoot;
    entry.fsLevels = firstStageLevels(fspm);
    entry.ssade = usesSs && inHalves(halves, PASID.SSADE) === 1;
    entry.sre = inHalves(halves, PASID.SRE) === 1;
    entry.wpe = inHalves(halves, PASID.WPE) === 1;
    entry.eafe = inHalves(halves, PASID.EAFE) === 1;
    entry.snooped = inHalves(halves, PASID.PWSNP) === 1;
    entry.forceSnoop = inHalves(halves, PASID.PGSNP) === 1;
    entry.straight =
      nested &&
      entry.fsLevels === 4 &&
      entry.ssLevels === 4 &&
      !entry.ssade &&
      entry.ssPages >= NARROW_FRAMES &&
      fsRoot < NARROW_FRAMES &&
      ssRoot * PAGE_BYTES < MAX_FLAT_BYTES;
    return entry;
  }

  /** Reads `words` 64-bit words into `#halves`. */
  #read(address: number, words: number): boolean {
    const bus = this.#bus;
    if (!bus.reaches(address, words * 8)) return false;
    for (let i = 0; i < words; i++) {
      bus.load(address + 8 * i);
      this.#halves[2 * i] = bus.lo;
      this.#halves[2 * i + 1] = bus.hi;
    }
    bus.loads -= words - 1;
    return true;
  }

  #words(count: number): bigint[] {
    return Array.from({ length: count }, (_, i) =>
      entryOf(this.#halves[2 * i]!, this.#halves[2 * i + 1]!),
    );
  }

  #hasReserved(masks: Int32Array, from: number, to: number): boolean {
    for (let i = from; i < to; i++) {
      if ((this.#halves[i]! & masks[i]!) !== 0) return true;
    }
    return false;
  }

  #note(table: string, address: number, structure: Described): void {
    if (!this.#log.on) return;
    const words = this.#words(structure.words);
    const entry = words.reduceRight((whole, word) => (whole << 64n) | word, 0n);
    this.#log.level(table, 0, address, entry, structure.describe(words));
  }
}

/** Page number in bits 63:12 of a word of a structure that was read as halves. */
function pageAt(halves: Int32Array, word: number): number {
  return (halves[2 * word + 1]! >>> 0) * 2 ** 20 + (halves[2 * word]! >>> 12);
}

interface Described {
  readonly words: number;
  readonly describe: (words: readonly bigint[]) => string;
}

const PASID_ENTRY: Described = { words: pasidEntry.words, describe: describePasidEntry };

/** AW 1 to 3 against CAP.SAGAW, whose bit n stands for AW n. */
function widthSupported(sagaw: number, aw: number): boolean {
  return aw >= 1 && aw <= 3 && ((sagaw >> aw) & 1) === 1;
}
