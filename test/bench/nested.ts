/** A unit, nested tables for it, and requests: what the benchmarks of translation work on. */
import type { AddressType } from '../../devices/pci/fabric.ts';
import { HOST_CAP, HOST_ECAP } from '../../devices/spec/vtd/capabilities.ts';
import { PGTT } from '../../devices/spec/vtd/pasid.ts';
import { FS, SS } from '../../devices/spec/x86/paging.ts';
import { SanitizedUnit } from '../../devices/vtd/sanitizer/sanitized-unit.ts';
import type { Sanitizer } from '../../devices/vtd/sanitizer/sanitizer.ts';
import { VtdUnit } from '../../devices/vtd/unit.ts';
import type { VtdWorld } from '../../devices/vtd/world.ts';
import { Ram } from '../../host/machine/ram.ts';
import type { RemappingUnit } from '../../host/machine/remapping-unit.ts';
import { WatchedRam } from '../../host/machine/watched-ram.ts';
import { Tracer } from '../../trace/tracer.ts';
import { Tables } from '../devices/vtd/tables.ts';

const FS_LINK = FS.P | FS.RW | FS.US | FS.A;
const FS_LEAF = FS_LINK | FS.D;
const SS_LINK = SS.R | SS.W;

const HAW = 46;
const DID = 2;
const PAGE = 4096;
const FIRST_PASID = 5;
/** First virtual page. */
const FIRST_VA = 0x7f00_0000_0000n;

const RTADDR = { OFFSET: 0x20, SCALABLE: 1n << 10n };
const GCMD = { OFFSET: 0x18, SRTP: 1n << 30n, TE: 1n << 31n };

export interface NestedOptions {
  readonly pages: number;
  /** PASIDs that share the tables; default 1. */
  readonly pasids?: number;
  /** Functions that share the PASIDs; default 1. */
  readonly functions?: number;
  /** Default true. */
  readonly structureCaches?: boolean;
  readonly trace?: Tracer;
  readonly sanitizer?: Sanitizer;
}

/** What a function asks, in an order that no prefetcher guesses: request n is at index n of each. */
export interface Requests {
  readonly sids: Int32Array;
  readonly pasids: Int32Array;
  readonly vpns: Float64Array;
}

export interface NestedUnit {
  readonly unit: RemappingUnit & { readonly result: { readonly fault: number } };
  readonly silicon: VtdUnit;
  readonly ram: Ram;
  readonly root: bigint;
  readonly requests: Requests;
}

/**
 * A unit with `pages` pages mapped 4 levels on 4 levels in 4 KiB leaves, the frames in an order that
 * no prefetcher guesses, under each PASID of each function. Guest physical addresses are host
 * physical ones. There are as many requests as the largest of pages, PASIDs and functions.
 */
export function nestedUnit(options: NestedOptions): NestedUnit {
  const { pages, pasids = 1, functions = 1 } = options;
  const bytes = (pages + (pages >> 6) + (pasids >> 6) + functions + 4096) * PAGE;
  const { unit, silicon, ram } = makeUnit(bytes, options);
  const tables = new Tables(ram);
  const root = tables.page();
  const fs = tables.page();
  const ss = tables.page();
  const frames: bigint[] = Array.from({ length: pages }, () => tables.page());
  shuffle(frames);
  const vpns: number[] = [];
  frames.forEach((frame, i) => {
    const va = FIRST_VA + BigInt(i) * 4096n;
    tables.map(fs, 4, va, frame | FS_LEAF, FS_LINK);
    vpns.push(Number(va >> 12n));
  });
  for (let gpa = 0n; gpa < BigInt(bytes); gpa += 4096n) {
    tables.map(ss, 4, gpa, gpa | SS_LINK, SS_LINK);
  }
  const directory = tables.page((2 ** 14 * 8) / PAGE);
  for (let n = 0; n < pasids; n++) {
    tables.pasid(directory, FIRST_PASID + n, { pgtt: PGTT.NESTED, fs, ss, did: DID });
  }
  const sids: number[] = [];
  for (let n = 0; n < functions; n++) {
    const sid = 0x0108 + n;
    const at = tables.contextAddress(root, sid);
    tables.write(at, directory | CONTEXT);
    sids.push(sid);
  }
  enable(silicon, root);
  shuffle(vpns);
  const count = Math.max(pages, pasids, functions);
  const requests = {
    sids: Int32Array.from({ length: count }, (_, n) => sids[n % functions]!),
    pasids: Int32Array.from({ length: count }, (_, n) => FIRST_PASID + (n % pasids)),
    vpns: Float64Array.from({ length: count }, (_, n) => vpns[n % pages]!),
  };
  return { unit, silicon, ram, root, requests };
}

/** Present, translation requests, PASIDs and page requests allowed, a directory of 2^20 PASIDs. */
const CONTEXT = 1n | (1n << 2n) | (1n << 3n) | (1n << 4n) | (7n << 9n);

function makeUnit(
  bytes: number,
  { structureCaches = true, trace = new Tracer(() => 0), sanitizer }: NestedOptions,
): Pick<NestedUnit, 'unit' | 'silicon' | 'ram'> {
  const clock = { now: 0, after: (): void => undefined };
  const ram =
    sanitizer === undefined
      ? new Ram(bytes)
      : new WatchedRam(bytes, (address, length) => sanitizer.stored(address, length));
  const watch = sanitizer?.watchHost(trace, {
    memory: ram,
    clock,
    readRegister: (offset, size) => silicon.readRegister(offset, size),
  });
  const world: VtdWorld = {
    memory: ram,
    clock,
    interrupt: () => undefined,
    deviceInvalidate: () => true,
    pageGroupResponse: () => undefined,
    ...(watch === undefined ? {} : { observer: watch }),
  };
  const silicon = new VtdUnit({
    cap: HOST_CAP,
    ecap: HOST_ECAP,
    haw: HAW,
    world,
    trace,
    name: 'host',
    structureCaches,
  });
  return { unit: watch === undefined ? silicon : new SanitizedUnit(silicon, watch), silicon, ram };
}

/** Sets the root pointer and turns remapping on. */
function enable(unit: VtdUnit, root: bigint): void {
  unit.writeRegister(RTADDR.OFFSET, 8, root | RTADDR.SCALABLE);
  unit.writeRegister(GCMD.OFFSET, 4, GCMD.SRTP);
  unit.writeRegister(GCMD.OFFSET, 4, GCMD.TE);
}

/** `count` translations, from request `at` on, round and round over the first `spread`; the next. */
export function translateMany(
  { unit, requests }: NestedUnit,
  type: AddressType,
  spread: number,
  at: number,
  count: number,
): number {
  const { sids, pasids, vpns } = requests;
  let next = at;
  for (let i = 0; i < count; i++) {
    if (!unit.translate(sids[next]!, pasids[next]!, false, type, vpns[next]!, true, false)) {
      throw new Error(`page ${vpns[next]!}: fault 0x${unit.result.fault.toString(16)}`);
    }
    next = next + 1 < spread ? next + 1 : 0;
  }
  return next;
}

/** Fisher and Yates, with a linear congruential generator: the same order in every run. */
export function shuffle(items: { length: number; [index: number]: unknown }): void {
  let state = 1;
  for (let i = items.length - 1; i > 0; i--) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const j = state % (i + 1);
    const item = items[i];
    items[i] = items[j];
    items[j] = item;
  }
}
