/**
 * The second opinion on whole requests: from registers and tables in memory to answer, record and
 * page-request outcome, with bigints and nothing of the model's.
 */
import { bitsOf, type Setup, Walker, type WalkerMemory } from './walker.ts';

/** The capabilities that decide. */
export interface Silicon {
  haw: number;
  mgaw: number;
  /** Bit n: AW n. */
  sagaw: number;
  ssLarge: number;
  fs1gp: boolean;
  fs5lp: boolean;
  zlr: boolean;
  sc: boolean;
  pt: boolean;
  nest: boolean;
  nwfs: boolean;
  srs: boolean;
  eafs: boolean;
  ssads: boolean;
  smpwcs: boolean;
  rps: boolean;
  rprivs: boolean;
  adms: boolean;
  pss: number;
}

export interface Machine {
  silicon: Silicon;
  memory: WalkerMemory;
  /** GSTS.TES, and RTADDR as it was latched. */
  enabled: boolean;
  rtaddr: bigint;
  refuses: (address: number) => boolean;
}

export interface OracleRequest {
  kind: 'untranslated' | 'translation' | 'translated' | 'page request';
  access: 'read' | 'write' | 'atomic' | 'zero-length read';
  noWrite: boolean;
  sid: number;
  /** -1: none. */
  pasid: number;
  priv: boolean;
  exec: boolean;
  address: bigint;
}

export interface Verdict {
  fault: number;
  status: 'success' | 'UR' | 'CA';
  recorded: boolean;
  /** Of a success with a translation. */
  address: bigint;
  shift: number;
  read: boolean;
  write: boolean;
  snoop: boolean;
  untranslatedOnly: boolean;
}

/** Answers to translation requests by code: UR and CA; the rest is success without permissions. */
const UR: ReadonlySet<number> = new Set([
  0x01, 0x02, 0x0d, 0x31, 0x33, 0x39, 0x41, 0x44, 0x45, 0x46, 0x48, 0x89,
]);
const CA: ReadonlySet<number> = new Set([
  0x03, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0e, 0x30, 0x38, 0x3a, 0x40, 0x42, 0x43, 0x50, 0x52,
  0x58, 0x5a, 0x5b, 0x78, 0x7a, 0x7b, 0x7c, 0x7d, 0x87,
]);
/** Codes that FPD does not silence. */
const UNQUALIFIED: ReadonlySet<number> = new Set([
  0x01, 0x08, 0x09, 0x0a, 0x29, 0x30, 0x31, 0x32, 0x33, 0x38, 0x39, 0x3a, 0x40, 0x50, 0x58,
]);
/** Legacy codes of what a second stage, or pass-through, may meet. */
const LEGACY: ReadonlyMap<number, number> = new Map([
  [0x7b, 0x03],
  [0x78, 0x07],
  [0x7a, 0x0c],
  [0x85, 0x05],
  [0x86, 0x06],
  [0x84, 0x04],
  [0x83, 0x04],
  [0x87, 0x0e],
]);

class Blocked extends Error {
  readonly code: number;
  constructor(code: number) {
    super();
    this.code = code;
  }
}

interface Context {
  legacy: boolean;
  ats: boolean;
  qw: bigint[];
}

const isWindow = (address: bigint): boolean => address >> 20n === 0xfeen;

export class Oracle {
  readonly #m: Machine;
  #fpd = false;

  constructor(machine: Machine) {
    this.#m = machine;
  }

  /** What the request comes to; sets accessed and dirty bits. */
  ask(r: OracleRequest): Verdict {
    this.#fpd = false;
    if (!this.#m.enabled) return this.#off(r);
    if (r.pasid < 0 && isWindow(r.address) && r.kind !== 'translated') {
      if (r.kind === 'untranslated') return this.#windowAccess(r);
      if (r.kind === 'translation') return this.#windowAts(r);
    }
    Error.stackTraceLimit = 0;
    try {
      return this.#resolve(r);
    } catch (error) {
      if (!(error instanceof Blocked)) throw error;
      return this.#blocked(r, error.code);
    } finally {
      Error.stackTraceLimit = 10;
    }
  }

  #blocked(r: OracleRequest, code: number): Verdict {
    let status: Verdict['status'] = 'UR';
    let recorded = true;
    if (r.kind === 'translation') {
      status = UR.has(code) ? 'UR' : CA.has(code) ? 'CA' : 'success';
      recorded = status !== 'success' || code === 0x91;
    }
    if (this.#fpd && !UNQUALIFIED.has(code)) recorded = false;
    return { ...this.#nothing(), fault: code, status, recorded };
  }

  #nothing(): Verdict {
    return {
      fault: 0,
      status: 'success',
      recorded: false,
      address: 0n,
      shift: 12,
      read: false,
      write: false,
      snoop: false,
      untranslatedOnly: false,
    };
  }

  #off(r: OracleRequest): Verdict {
    if (r.kind !== 'untranslated') return { ...this.#nothing(), status: 'UR' };
    return { ...this.#nothing(), address: r.address, read: true, write: true };
  }

  #windowAccess(r: OracleRequest): Verdict {
    if (r.access !== 'zero-length read') return this.#blocked(r, 0x29);
    return { ...this.#nothing(), address: r.address, read: true };
  }

  #windowAts(r: OracleRequest): Verdict {
    if (r.noWrite && this.#m.silicon.nwfs) return this.#nothing();
    return { ...this.#nothing(), address: r.address, write: true, untranslatedOnly: true };
  }

  #words(address: bigint, count: number, otherwise: number): bigint[] {
    const { memory, silicon } = this.#m;
    const bytes = count * 8;
    const inWidth = address + BigInt(bytes) <= 1n << BigInt(silicon.haw);
    if (!inWidth || !memory.contains(Number(address), bytes)) throw new Blocked(otherwise);
    memory.note?.(Number(address), `structure ${count}`);
    return Array.from({ length: count }, (_, i) => memory.read64(Number(address) + 8 * i));
  }

  /** Bits of an address field that lie beyond the host address width. */
  #beyond(word: bigint): boolean {
    return word >> BigInt(this.#m.silicon.haw) !== 0n;
  }

  #resolve(r: OracleRequest): Verdict {
    const { rtaddr, silicon } = this.#m;
    const mode = bitsOf(rtaddr, 11, 10);
    const wrong =
      mode === 2n ||
      (mode === 3n && !silicon.adms) ||
      bitsOf(rtaddr, 7, 7) === 1n ||
      this.#beyond(rtaddr);
    if (wrong) throw new Blocked(0x30);
    if (mode === 3n) throw new Blocked(0x33);
    if (mode === 0n) {
      if (r.kind === 'page request') throw new Blocked(0x32);
      if (r.pasid >= 0) throw new Blocked(0x31);
    }
    const context = mode === 0n ? this.#legacyContext(r.sid) : this.#context(r.sid);
    const wantsAts = r.kind === 'translation' || r.kind === 'translated';
    if (wantsAts && !context.ats) throw new Blocked(context.legacy ? 0x0d : 0x44);
    if (r.kind === 'translated') return this.#translated(r, context);
    return context.legacy ? this.#legacy(r, context) : this.#scalable(r, context);
  }

  #translated(r: OracleRequest, context: Context): Verdict {
    if (r.pasid >= 0) throw new Blocked(0x49);
    if (this.#beyond(r.address)) throw new Blocked(context.legacy ? 0x04 : 0x83);
    if (isWindow(r.address)) throw new Blocked(context.legacy ? 0x0e : 0x87);
    return { ...this.#nothing(), address: r.address };
  }

  #context(sid: number): Context {
    const { silicon, rtaddr } = this.#m;
    const root = bitsOf(rtaddr, 63, 12) << 12n;
    const rootEntry = this.#words(root + BigInt(sid >> 8) * 16n, 2, 0x38);
    const half = rootEntry[(sid >> 7) & 1]!;
    if ((half & 1n) === 0n) throw new Blocked(0x39);
    if (bitsOf(half, 11, 1) !== 0n || this.#beyond(half)) throw new Blocked(0x3a);
    const table = bitsOf(half, 63, 12) << 12n;
    const qw = this.#words(table + BigInt(sid & 0x7f) * 32n, 4, 0x40);
    const [qw0, qw1] = [qw[0]!, qw[1]!];
    this.#fpd = bitsOf(qw0, 1, 1) === 1n;
    if ((qw0 & 1n) === 0n) throw new Blocked(0x41);
    const privOk = silicon.rprivs && silicon.srs;
    if (
      bitsOf(qw0, 8, 5) !== 0n ||
      this.#beyond(qw0) ||
      (!silicon.rps && bitsOf(qw1, 19, 0) !== 0n) ||
      (!privOk && bitsOf(qw1, 20, 20) === 1n) ||
      bitsOf(qw1, 63, 21) !== 0n ||
      qw[2] !== 0n ||
      qw[3] !== 0n
    ) {
      throw new Blocked(0x42);
    }
    const dte = bitsOf(qw0, 2, 2) === 1n;
    const pasids = 1n << (bitsOf(qw0, 11, 9) + 13n);
    if ((bitsOf(qw0, 4, 4) === 1n && !dte) || bitsOf(qw1, 19, 0) >= pasids) {
      throw new Blocked(0x43);
    }
    return { legacy: false, ats: dte, qw };
  }

  #legacyContext(sid: number): Context {
    const { silicon, rtaddr } = this.#m;
    const root = bitsOf(rtaddr, 63, 12) << 12n;
    const rootEntry = this.#words(root + BigInt(sid >> 8) * 16n, 2, 0x08);
    if ((rootEntry[0]! & 1n) === 0n) throw new Blocked(0x01);
    if (bitsOf(rootEntry[0]!, 11, 1) !== 0n || this.#beyond(rootEntry[0]!) || rootEntry[1] !== 0n) {
      throw new Blocked(0x0a);
    }
    const table = bitsOf(rootEntry[0]!, 63, 12) << 12n;
    const qw = this.#words(table + BigInt(sid & 0xff) * 16n, 2, 0x09);
    const [qw0, qw1] = [qw[0]!, qw[1]!];
    this.#fpd = bitsOf(qw0, 1, 1) === 1n;
    if ((qw0 & 1n) === 0n) throw new Blocked(0x02);
    const reserved =
      bitsOf(qw0, 11, 4) !== 0n ||
      this.#beyond(qw0) ||
      bitsOf(qw1, 7, 7) !== 0n ||
      bitsOf(qw1, 63, 24) !== 0n;
    if (reserved) throw new Blocked(0x0b);
    const tt = bitsOf(qw0, 3, 2);
    if (tt === 3n || (tt === 2n && !silicon.pt) || !this.#hasWidth(bitsOf(qw1, 2, 0))) {
      throw new Blocked(0x03);
    }
    return { legacy: true, ats: tt === 1n, qw };
  }

  #hasWidth(aw: bigint): boolean {
    return aw >= 1n && aw <= 3n && ((this.#m.silicon.sagaw >> Number(aw)) & 1) === 1;
  }

  #legacy(r: OracleRequest, context: Context): Verdict {
    const [qw0, qw1] = [context.qw[0]!, context.qw[1]!];
    try {
      if (bitsOf(qw0, 3, 2) === 2n) return this.#through(r, false);
      return this.#walk(r, true, {
        pgtt: 2,
        ssRoot: bitsOf(qw0, 63, 12) << 12n,
        ssLevels: Number(bitsOf(qw1, 2, 0)) + 2,
        snooped: true,
      });
    } catch (error) {
      if (!(error instanceof Blocked)) throw error;
      const writes = r.kind === 'untranslated' && (r.access === 'write' || r.access === 'atomic');
      if (error.code === 0x79) throw new Blocked(writes ? 0x05 : 0x06);
      throw new Blocked(LEGACY.get(error.code) ?? error.code);
    }
  }

  #scalable(r: OracleRequest, context: Context): Verdict {
    const { silicon } = this.#m;
    const [qw0, qw1] = [context.qw[0]!, context.qw[1]!];
    const ridPasid = Number(bitsOf(qw1, 19, 0));
    let pasid = ridPasid;
    let supervisor = bitsOf(qw1, 20, 20) === 1n;
    if (r.pasid >= 0) {
      if (bitsOf(qw0, 3, 3) === 0n) throw new Blocked(0x45);
      if (r.pasid >= 2 ** (silicon.pss + 1)) throw new Blocked(0x89);
      if (BigInt(r.pasid) >= 1n << (bitsOf(qw0, 11, 9) + 13n)) throw new Blocked(0x46);
      if (r.pasid === ridPasid) throw new Blocked(0x48);
      pasid = r.pasid;
      supervisor = r.priv;
    }
    if (r.kind === 'page request' && bitsOf(qw0, 4, 4) === 0n) throw new Blocked(0x47);
    const entry = this.#pasidEntry(bitsOf(qw0, 63, 12) << 12n, pasid);
    const pgtt = this.#checkPasid(entry);
    if (r.kind === 'page request') return this.#nothing();
    if (r.exec && r.pasid >= 0) throw new Blocked(0x5c);
    const [e0, e1, e2] = [entry[0]!, entry[1]!, entry[2]!];
    if (supervisor && (pgtt === 1n || pgtt === 3n) && (e2 & 1n) === 0n) throw new Blocked(0x5d);
    const forceSnoop = bitsOf(e1, 24, 24) === 1n;
    if (pgtt === 4n) return this.#through(r, forceSnoop);
    return this.#walk(r, !supervisor, {
      pgtt: Number(pgtt),
      fsRoot: bitsOf(e2, 63, 12) << 12n,
      fsLevels: 4 + Number(bitsOf(e2, 3, 2)),
      ssRoot: bitsOf(e0, 63, 12) << 12n,
      ssLevels: 2 + Number(bitsOf(e0, 4, 2)),
      ssade: bitsOf(e0, 9, 9) === 1n,
      eafe: bitsOf(e2, 7, 7) === 1n,
      wpe: bitsOf(e2, 4, 4) === 1n,
      snooped: bitsOf(e1, 23, 23) === 1n,
      forceSnoop,
    });
  }

  #pasidEntry(directory: bigint, pasid: number): bigint[] {
    const dir = this.#words(directory + BigInt(pasid >> 6) * 8n, 1, 0x50)[0]!;
    if (bitsOf(dir, 1, 1) === 1n) this.#fpd = true;
    if ((dir & 1n) === 0n) throw new Blocked(0x51);
    if (bitsOf(dir, 11, 2) !== 0n || this.#beyond(dir)) throw new Blocked(0x52);
    const table = bitsOf(dir, 63, 12) << 12n;
    const entry = this.#words(table + BigInt(pasid & 63) * 64n, 8, 0x58);
    if (bitsOf(entry[0]!, 1, 1) === 1n) this.#fpd = true;
    if ((entry[0]! & 1n) === 0n) throw new Blocked(0x59);
    return entry;
  }

  /** PGTT of a good entry. */
  #checkPasid(entry: readonly bigint[]): bigint {
    const s = this.#m.silicon;
    const [e0, e1, e2] = [entry[0]!, entry[1]!, entry[2]!];
    const pgtt = bitsOf(e0, 8, 6);
    const usesSs = pgtt === 2n || pgtt === 3n;
    const reserved =
      bitsOf(e0, 5, 5) === 1n ||
      bitsOf(e0, 11, 10) !== 0n ||
      (!s.ssads && bitsOf(e0, 9, 9) === 1n) ||
      (usesSs && this.#beyond(e0)) ||
      bitsOf(e1, 22, 16) !== 0n ||
      bitsOf(e1, 31, 25) !== 0n ||
      (!s.smpwcs && bitsOf(e1, 23, 23) === 1n) ||
      (!s.sc && bitsOf(e1, 24, 24) === 1n) ||
      (!s.srs && bitsOf(e2, 0, 0) === 1n) ||
      bitsOf(e2, 1, 1) === 1n ||
      (!s.eafs && bitsOf(e2, 7, 7) === 1n) ||
      bitsOf(e2, 11, 8) !== 0n ||
      (pgtt === 1n && this.#beyond(e2)) ||
      entry.slice(3).some((word) => word !== 0n);
    if (reserved) throw new Blocked(0x5a);
    if (pgtt < 1n || pgtt > 4n) throw new Blocked(0x5b);
    if ((pgtt === 3n && !s.nest) || (pgtt === 4n && !s.pt)) throw new Blocked(0x5b);
    const aw = bitsOf(e0, 4, 2);
    if (usesSs && !this.#hasWidth(aw)) throw new Blocked(0x5b);
    const fspm = bitsOf(e2, 3, 2);
    if ((pgtt === 1n || pgtt === 3n) && fspm > (s.fs5lp ? 1n : 0n)) throw new Blocked(0x5b);
    const width = BigInt(Math.min(s.mgaw, 30 + 9 * Number(aw)));
    if (pgtt === 3n && (bitsOf(e2, 63, 12) << 12n) >> width !== 0n) throw new Blocked(0x5b);
    return pgtt;
  }

  #through(r: OracleRequest, snoop: boolean): Verdict {
    const { address } = r;
    if (this.#beyond(address)) throw new Blocked(0x83);
    if (isWindow(address)) throw new Blocked(0x87);
    const shift = address >> 21n === 0xfee0_0000n >> 21n ? 12 : 21;
    const write = !(r.kind === 'translation' && r.noWrite && this.#m.silicon.nwfs);
    return { ...this.#nothing(), address, shift, read: true, write, snoop };
  }

  #walk(r: OracleRequest, user: boolean, how: Partial<Setup>): Verdict {
    const { silicon, memory, refuses } = this.#m;
    const walker = new Walker(memory, {
      pgtt: 1,
      fsRoot: 0n,
      fsLevels: 4,
      ssRoot: 0n,
      ssLevels: 4,
      ssade: false,
      eafe: false,
      wpe: false,
      snooped: false,
      forceSnoop: false,
      haw: silicon.haw,
      mgaw: silicon.mgaw,
      snoopControl: silicon.sc,
      gigabytePages: silicon.fs1gp,
      ssLarge: silicon.ssLarge,
      refuses,
      ...how,
    });
    const isAts = r.kind === 'translation';
    const readOnly = isAts && r.noWrite && silicon.nwfs;
    const writes = !isAts && (r.access === 'write' || r.access === 'atomic');
    const freely = r.access === 'zero-length read' && silicon.zlr;
    const answer = walker.ask({
      address: r.address,
      user,
      read: !isAts && r.access !== 'write' && !freely,
      write: writes,
      either: freely && !isAts,
      dirty: isAts ? !readOnly : writes,
    });
    if (answer.fault !== 0) throw new Blocked(answer.fault);
    const { address, shift, read, write, snoop } = answer;
    return { ...this.#nothing(), address, shift, read, write: write && !readOnly, snoop };
  }
}
