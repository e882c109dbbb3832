/**
 * Random tables and requests, held against a second opinion (`oracle.ts`): the unit on flat memory
 * (fast walks), on scattered memory (checked walks), and with restless caches.
 *
 * `npm run differential -- --requests 1000000 --seed 7`
 */

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { AT } from '../../../devices/pci/fabric.ts';
import { Bench, TestMemory } from './bench.ts';
import { FAULT_RULES } from './fault-rules.ts';
import { type Machine, Oracle, type OracleRequest, type Silicon, type Verdict } from './oracle.ts';
import {
  Builder,
  BYTES,
  damage,
  PASIDS,
  type Roll,
  random,
  randomSilicon,
  SIDS,
  type Tables,
} from './random-tables.ts';

/** Cases that share a set of capabilities, and requests per case. */
const CASES_PER_SILICON = 16;
const REQUESTS_PER_CASE = 40;

const REFUSALS = [() => false, () => true, (address: number) => (address & 0x40) !== 0] as const;

export interface Outcome {
  requests: number;
  granted: number;
  /** Requests by fault code, 0 for none. */
  codes: Map<number, number>;
  /** The first disagreement. */
  failure: string | null;
}

/** Codes that requests of memory and pages can reach: the rest are those of interrupts. */
export function reachable(): number[] {
  return Object.keys(FAULT_RULES)
    .map((id) => Number.parseInt(id.slice(3), 16))
    .filter((code) => code < 0x20 || code === 0x29 || code >= 0x30);
}

interface Rig {
  readonly name: string;
  readonly bench: Bench;
  /** Its accessed bits may run ahead. */
  readonly prefetches: boolean;
}

const flag = (on: boolean): number => (on ? 1 : 0);

function rigs(s: Silicon, refuses: { now: (address: number) => boolean }, seed: number): Rig[] {
  const cap = {
    MGAW: s.mgaw - 1,
    SAGAW: s.sagaw,
    SSLPS: s.ssLarge,
    FS1GP: flag(s.fs1gp),
    FS5LP: flag(s.fs5lp),
    ZLR: flag(s.zlr),
  };
  const ecap = {
    SC: flag(s.sc),
    PT: flag(s.pt),
    NEST: flag(s.nest),
    NWFS: flag(s.nwfs),
    SRS: flag(s.srs),
    EAFS: flag(s.eafs),
    SSADS: flag(s.ssads),
    SMPWCS: flag(s.smpwcs),
    RPS: flag(s.rps),
    RPRIVS: flag(s.rprivs),
    ADMS: flag(s.adms),
    PSS: s.pss,
  };
  const refusesUpdates = (address: number): boolean => refuses.now(address);
  const make = (flat: boolean, more: { restless?: number }): Bench =>
    new Bench({
      memory: new TestMemory(BYTES, flat),
      haw: s.haw,
      cap,
      ecap,
      refusesUpdates,
      ...more,
    });
  return [
    { name: 'flat', bench: make(true, {}), prefetches: false },
    { name: 'scattered', bench: make(false, {}), prefetches: false },
    { name: 'restless', bench: make(true, { restless: seed }), prefetches: true },
  ];
}

function request(roll: Roll, tables: Tables, s: Silicon): OracleRequest {
  const common = [
    'untranslated',
    'untranslated',
    'untranslated',
    'translation',
    'translation',
  ] as const;
  const rare = roll(12);
  const kind = rare === 0 ? 'translated' : rare === 1 ? 'page request' : common[roll(5)]!;
  const accesses = ['read', 'write', 'read', 'write', 'atomic', 'zero-length read'] as const;
  const { targets } = tables;
  const known = targets.length > 0 && roll(8) !== 0;
  const target = known
    ? targets[roll(targets.length)]!
    : { pasid: anyPasid(roll), address: limit(roll, s) };
  const near = [0n, 0n, 0n, 0n, 0n, 0n, 0x1000n, -0x1000n, 0x20_0000n][roll(9)]!;
  return {
    kind,
    access: accesses[roll(6)]!,
    noWrite: roll(4) === 0,
    sid: roll(60) === 0 ? 0x0305 : SIDS[Math.max(0, roll(6) - 3)]!,
    pasid: roll(12) === 0 ? anyPasid(roll) : kind === 'translated' ? -1 : target.pasid,
    priv: roll(4) === 0,
    exec: roll(40) === 0,
    address: BigInt.asUintN(64, target.address + near) & ~0xfffn,
  };
}

function anyPasid(roll: Roll): number {
  const pasids = [...PASIDS, 0, 64, 1 << 13, 0xf_ffff, -1];
  return pasids[roll(pasids.length)]!;
}

/** An address at the limits of the widths and of the interrupt window, or low. */
function limit(roll: Roll, s: Silicon): bigint {
  const widths = [39, 47, 48, 56, 57, 63, s.haw, s.mgaw, 20];
  const width = BigInt(widths[roll(widths.length)]!);
  const limits = [1n << width, (1n << width) - 4096n, -(1n << width), 0xfee0_0000n, 0xfeef_f000n];
  return roll(4) === 0 ? BigInt(roll(1 << 20)) << 12n : limits[roll(5)]!;
}

const AT_OF = {
  untranslated: AT.UNTRANSLATED,
  translation: AT.TRANSLATION,
  translated: AT.TRANSLATED,
} as const;
const STATUS = ['success', 'UR', 'CA'] as const;

/** How the unit differs from the verdict; null if it does not. */
function compare(bench: Bench, r: OracleRequest, want: Verdict): string | null {
  const { sid, pasid, priv, exec, access, noWrite } = r;
  const page = Number(r.address >> 12n);
  const { unit } = bench;
  const hex = (n: number | bigint): string => n.toString(16);
  if (r.kind === 'page request') {
    const tail = bench.r32(0xc8);
    const slot = new Uint8Array(32);
    bench.memory.read(tail, slot);
    bench.responses.length = 0;
    unit.pageRequest(sid, pasid, priv, page, true, access === 'write', true, 5);
    const queued = bench.r32(0xc8) !== tail;
    bench.w32(0xc0, bench.r32(0xc8));
    // The ring lies in page 0, which a table may name: it must stay as the oracle sees it.
    bench.memory.write(tail, slot);
    const ok = want.fault === 0 && want.status === 'success';
    if (queued !== ok || bench.responses.length !== (ok ? 0 : 1)) return `queued ${queued}`;
    return record(bench, r, want);
  }
  const ok = unit.request({ sid, pasid, priv, exec, access, noWrite, page, type: AT_OF[r.kind] });
  const got = unit.result;
  if (got.fault !== want.fault) return `fault ${hex(got.fault)}, expected ${hex(want.fault)}`;
  if (STATUS[got.status] !== want.status) return `${STATUS[got.status]}, expected ${want.status}`;
  const differs = record(bench, r, want);
  if (differs !== null) return differs;
  if (want.fault !== 0 || want.status !== 'success') return ok ? 'granted' : null;
  if (r.kind === 'translated') return ok && got.pfn === page ? null : 'refused';
  if (r.kind === 'translation') {
    const perm = (v: { read: boolean; write: boolean }): string =>
      `${v.read ? 'r' : '-'}${v.write ? 'w' : '-'}`;
    if (perm(got) !== perm(want)) return `${perm(got)}, expected ${perm(want)}`;
    if (ok !== (want.read || want.write)) return `granted ${ok}`;
    if (!ok) return null;
    if (got.untranslatedOnly !== want.untranslatedOnly) return 'the U flag';
    if (got.noSnoop !== want.snoop) return 'the N flag';
    if (got.priv !== (priv && pasid >= 0)) return 'the PRIV flag';
  } else if (!ok) {
    return 'refused';
  }
  if (BigInt(got.pfn) << 12n !== want.address) {
    return `frame ${hex(got.pfn)}, expected ${hex(want.address >> 12n)}`;
  }
  return got.shift === want.shift ? null : `size 2^${got.shift}, expected 2^${want.shift}`;
}

/** The fault record, or its absence. */
function record(bench: Bench, r: OracleRequest, want: Verdict): string | null {
  const fault = bench.takeFault();
  if (fault === null) return want.recorded ? 'no record' : null;
  if (!want.recorded) return 'a record';
  const types = { read: 2, write: 0, atomic: 3, 'zero-length read': 2 } as const;
  let type: number = types[r.access];
  let at = 0;
  if (r.kind === 'page request') type = 1;
  if (r.kind === 'translation') [type, at] = [2, 1];
  if (r.kind === 'translated')
    [type, at] = [r.access === 'write' || r.access === 'atomic' ? 0 : 2, 2];
  const hasPasid = r.pasid >= 0;
  const expected = {
    code: want.fault,
    sid: r.sid,
    address: r.address,
    pasid: hasPasid ? r.pasid : 0,
    hasPasid,
    priv: hasPasid && r.priv,
    type,
    at,
  };
  const text = (value: unknown): string =>
    JSON.stringify(value, (_key, v: unknown) => (typeof v === 'bigint' ? v.toString(16) : v));
  return text(fault) === text(expected)
    ? null
    : `record ${text(fault)}, expected ${text(expected)}`;
}

/** Makes `requests` requests of random tables; stops at the first disagreement. */
export function differential(options: {
  readonly requests: number;
  readonly seed: number;
  readonly progress?: (done: number) => void;
}): Outcome {
  const roll = random(options.seed);
  const out: Outcome = { requests: 0, granted: 0, codes: new Map(), failure: null };
  const master = new TestMemory(BYTES, true);
  const refuses = { now: (_address: number): boolean => false };
  while (out.requests < options.requests) {
    const silicon = randomSilicon(roll);
    const units = rigs(silicon, refuses, options.seed + out.requests);
    for (let n = 0; n < CASES_PER_SILICON && out.requests < options.requests; n++) {
      refuses.now = REFUSALS[roll(25) < 23 ? 0 : 1 + roll(2)]!;
      oneCase(out, { roll, silicon, units, master, refuses: refuses.now });
      if (out.failure !== null) return out;
    }
    options.progress?.(out.requests);
  }
  return out;
}

function oneCase(
  out: Outcome,
  world: {
    roll: Roll;
    silicon: Silicon;
    units: readonly Rig[];
    master: TestMemory;
    refuses: (address: number) => boolean;
  },
): void {
  const { roll, silicon, units, master, refuses } = world;
  master.bytes.fill(0);
  const tables = new Builder(master, roll, silicon).build();
  const hurts = Math.max(0, roll(6) - 3);
  for (let hurt = hurts; hurt > 0; hurt--) damage(master, tables, silicon, roll);
  // What is prefetched must find tables without surprises: it sets bits that nobody asked for.
  let calm = hurts === 0 && tables.pure;
  const enabled = roll(60) !== 0;
  for (const { bench } of units) {
    bench.gcmd(0x8000_0000, enabled);
    bench.w64(0x20, tables.rtaddr);
    resync(bench, master);
    bench.w64(0xd0, 0x0n);
  }
  const judge = new Judge({ silicon, memory: master, enabled, rtaddr: tables.rtaddr, refuses });
  let last: Pick<OracleRequest, 'sid' | 'pasid' | 'address'> | null = null;
  for (let i = 0; i < REQUESTS_PER_CASE; i++) {
    if (roll(12) === 0) {
      const hurt = damage(master, tables, silicon, roll);
      calm = false;
      for (const { bench } of units) {
        if (hurt !== null) bench.memory.write64(hurt.at, hurt.value);
        relatch(bench);
      }
    }
    const fresh = request(roll, tables, silicon);
    // Often the same page again, by another access: from the caches.
    const again: boolean = last !== null && fresh.kind !== 'translated' && roll(5) < 2;
    const r: OracleRequest = again ? { ...fresh, ...last } : fresh;
    last = again ? last : { sid: r.sid, pasid: r.pasid, address: r.address };
    const want = judge.ask(r);
    if (want === null) {
      for (const { bench } of units) resync(bench, master);
      continue;
    }
    out.requests++;
    out.codes.set(want.fault, (out.codes.get(want.fault) ?? 0) + 1);
    if (want.read || want.write) out.granted++;
    for (const { name, bench, prefetches } of units) {
      if (prefetches && !calm) continue;
      const differs = compare(bench, r, want);
      if (differs === null) continue;
      out.failure = describe(`request ${out.requests} (${name}): ${differs}`, r, silicon);
      return;
    }
    // Where a page has two roles, a bit that was set may have changed another table.
    if (judge.wrote && !judge.pure) for (const { bench } of units) relatch(bench);
  }
  for (const { name, bench, prefetches } of units) {
    if (prefetches || Buffer.compare(contents(bench.memory), master.bytes) === 0) continue;
    const at = contents(bench.memory).findIndex((byte, i) => byte !== master.bytes[i]);
    out.failure = `before request ${out.requests} (${name}): memory differs at ${at.toString(16)}`;
    return;
  }
}

function contents(memory: TestMemory): Uint8Array {
  const bytes = new Uint8Array(BYTES);
  memory.read(0, bytes);
  return bytes;
}

/**
 * Asks the oracle twice when bits are set: of the memory as it was, and of it as it changes. A walk
 * that changes what it reads itself has no one answer.
 */
class Judge {
  /** The last request set accessed or dirty bits. */
  wrote = false;
  /** No page was read in two roles: a bit that is set changes no entry of another table. */
  pure = true;
  readonly #roles = new Map<number, string>();
  readonly #before: Oracle;
  readonly #live: Oracle;

  constructor(machine: Machine) {
    const { memory } = machine;
    this.#live = new Oracle(machine);
    this.#before = new Oracle({
      ...machine,
      memory: {
        contains: (address, length) => memory.contains(address, length),
        read64: (address) => memory.read64(address),
        write64: () => {
          this.wrote = true;
        },
        note: (address, role) => {
          const page = Math.floor(address / 4096);
          const known = this.#roles.get(page) ?? role;
          if (known !== role) this.pure = false;
          this.#roles.set(page, known);
        },
      },
    });
  }

  /** Null: the answer depends on the order of things. The bits are set all the same. */
  ask(r: OracleRequest): Verdict | null {
    this.#restart();
    const before = this.#before.ask(r);
    if (!this.wrote) return before;
    const live = this.#live.ask(r);
    const same = (Object.keys(live) as (keyof Verdict)[]).every((key) => live[key] === before[key]);
    return same ? live : null;
  }

  #restart(): void {
    this.wrote = false;
  }
}

/** Memory as the master has it, and nothing cached. */
function resync(bench: Bench, master: TestMemory): void {
  bench.memory.write(0, master.bytes);
  relatch(bench);
}

/** SRTP of the same tables: every cache is emptied. */
function relatch(bench: Bench): void {
  bench.w32(0x18, ((bench.r32(0x1c) & 0x96ff_ffff) | 0x4000_0000) >>> 0);
}

function describe(what: string, r: OracleRequest, silicon: Silicon): string {
  const plain = (_key: string, v: unknown): unknown =>
    typeof v === 'bigint' ? `0x${v.toString(16)}` : v;
  return `${what}; ${JSON.stringify(r, plain)}; ${JSON.stringify(silicon)}`;
}

const USAGE = `usage: npm run differential -- [--requests N] [--seed S]
  --requests N   at least so many (default 1000000)
  --seed S       of the random tables and requests (default 1)
`;

/** What the command line asks for; undefined: for nothing that there is. */
function optionsOf(): { requests: number; seed: number } | 'help' | undefined {
  try {
    const { values } = parseArgs({
      options: {
        requests: { type: 'string', default: '1000000' },
        seed: { type: 'string', default: '1' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) return 'help';
    const [requests, seed] = [Number(values.requests), Number(values.seed)];
    const fits = Number.isInteger(requests) && requests >= 1 && Number.isInteger(seed);
    return fits ? { requests, seed } : undefined;
  } catch {
    return undefined;
  }
}

function main(): void {
  const options = optionsOf();
  if (options === 'help') {
    process.stdout.write(USAGE);
    return;
  }
  if (options === undefined) {
    process.stderr.write(USAGE);
    process.exitCode = 2;
    return;
  }
  const { requests, seed } = options;
  const { codes, granted, failure, requests: done } = differential({ requests, seed });
  const lines = [...codes].sort(([a], [b]) => a - b);
  for (const [code, count] of lines) {
    process.stdout.write(`${code.toString(16).padStart(4)}h ${String(count).padStart(9)}\n`);
  }
  const missing = reachable().filter((code) => !codes.has(code));
  const names = missing.map((code) => code.toString(16)).join(' ');
  process.stdout.write(
    `${done} requests, ${granted} granted, codes not reached: ${names || 'none'}\n`,
  );
  if (failure !== null) {
    process.stdout.write(`${failure}\n`);
    process.exitCode = 1;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
