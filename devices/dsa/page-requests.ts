import { device } from '../../trace/catalogue/device.ts';
import type { Tracer } from '../../trace/tracer.ts';
import type { Fabric } from '../pci/fabric.ts';
import type { Client } from './work.ts';

/** Page request group indices have 9 bits. */
export const PRG_COUNT = 512;
/** No request could be sent: all that software allows are outstanding. */
export const NO_SLOT = -1;

/** PRG response codes (PCI Express Base, 10.4.2). */
export const PrgCode = { SUCCESS: 0, INVALID: 1, FAILURE: 15 } as const;

/** Who waits for pages. */
export interface PageWaiter {
  /** The answer to request `prgi` that this waiter sent. */
  pageAnswered(prgi: number, code: number): void;
  /** A request may go out now, or none ever will: look again. */
  slotFree(): void;
}

/** The control side (PRI capability). */
export interface PageRequestControls {
  readonly running: () => boolean;
  readonly limit: () => number;
  readonly stopOnFailure: () => void;
  readonly unexpected: () => void;
  readonly settled: () => void;
}

/**
 * The page requests in flight. Every request is a group of its own, so that its answer is about one
 * page. A request outlives the descriptor that made it until software answers.
 */
export class PageRequests {
  sent = 0;
  outstanding = 0;
  readonly #rid: number;
  readonly #name: string;
  readonly #fabric: Fabric;
  readonly #trace: Tracer;
  readonly #controls: PageRequestControls;
  readonly #busy = new Uint8Array(PRG_COUNT);
  readonly #owners: (PageWaiter | null)[] = new Array<PageWaiter | null>(PRG_COUNT).fill(null);
  readonly #pasids = new Int32Array(PRG_COUNT);
  readonly #pages = new Float64Array(PRG_COUNT);
  readonly #writes = new Uint8Array(PRG_COUNT);
  #next = 0;
  /** Waiters without a slot, first come first served. */
  #queue: PageWaiter[] = [];

  constructor(parts: {
    rid: number;
    name: string;
    fabric: Fabric;
    trace: Tracer;
    controls: PageRequestControls;
  }) {
    this.#rid = parts.rid;
    this.#name = parts.name;
    this.#fabric = parts.fabric;
    this.#trace = parts.trace;
    this.#controls = parts.controls;
  }

  /** Whether page requests may be sent at all. */
  get running(): boolean {
    return this.#controls.running() && this.#controls.limit() > 0;
  }

  /** The request `owner` already has in flight for a page, or NO_SLOT. */
  pending(owner: PageWaiter, vpn: number, write: boolean): number {
    if (this.outstanding === 0) return NO_SLOT;
    for (let prgi = 0; prgi < PRG_COUNT; prgi++) {
      if (this.#busy[prgi] === 0 || this.#owners[prgi] !== owner) continue;
      if (this.#pages[prgi] === vpn && (this.#writes[prgi] === 1 || !write)) return prgi;
    }
    return NO_SLOT;
  }

  /** Asks for a page. The group index, or NO_SLOT. */
  request(owner: PageWaiter, client: Client, vpn: number, write: boolean): number {
    if (this.outstanding >= Math.min(this.#controls.limit(), PRG_COUNT)) return NO_SLOT;
    while (this.#busy[this.#next] !== 0) this.#next = (this.#next + 1) % PRG_COUNT;
    const prgi = this.#next;
    this.#next = (prgi + 1) % PRG_COUNT;
    this.#busy[prgi] = 1;
    this.#owners[prgi] = owner;
    this.#pasids[prgi] = client.pasid;
    this.#pages[prgi] = vpn;
    this.#writes[prgi] = write ? 1 : 0;
    this.outstanding++;
    this.sent++;
    using _span = this.#trace.span(device.pageRequest, {
      device: this.#name,
      pasid: client.pasid,
      address: vpn * 4096,
      write: write ? 1 : 0,
      prgi,
    });
    const { pasid, privileged } = client;
    this.#fabric.pageRequest(this.#rid, pasid, privileged, vpn, !write, write, true, prgi);
    return prgi;
  }

  /** Puts `owner` in line for a slot. */
  awaitSlot(owner: PageWaiter): void {
    if (!this.#queue.includes(owner)) this.#queue.push(owner);
  }

  /** A PRG response. The PASID is part of its name, as the PRI status register announces. */
  respond(pasid: number, prgi: number, code: number): void {
    if (this.#busy[prgi] !== 1 || this.#pasids[prgi] !== pasid) {
      this.#controls.unexpected();
      return;
    }
    using _span = this.#trace.span(device.pageResponse, { device: this.#name, pasid, prgi, code });
    if (code !== PrgCode.SUCCESS && code !== PrgCode.INVALID) {
      this.#controls.stopOnFailure();
      this.forgetAll(PrgCode.FAILURE);
      return;
    }
    const owner = this.#owners[prgi] ?? null;
    this.#release(prgi);
    this.#controls.settled();
    owner?.pageAnswered(prgi, code);
    this.wakeQueue();
  }

  /** `owner` no longer waits for anything; what it asked for stays outstanding. */
  disown(owner: PageWaiter): void {
    if (this.outstanding > 0) {
      for (let prgi = 0; prgi < PRG_COUNT; prgi++) {
        if (this.#owners[prgi] === owner) this.#owners[prgi] = null;
      }
    }
    this.#queue = this.#queue.filter((waiter) => waiter !== owner);
  }

  /** Nothing is outstanding any more; waiters are answered with `code`, those in line look again. */
  forgetAll(code: number): void {
    const answered: (readonly [PageWaiter, number])[] = [];
    for (let prgi = 0; prgi < PRG_COUNT; prgi++) {
      const owner = this.#owners[prgi];
      if (owner) answered.push([owner, prgi]);
      this.#release(prgi);
    }
    this.outstanding = 0;
    this.#controls.settled();
    for (const [owner, prgi] of answered) owner.pageAnswered(prgi, code);
    this.wakeQueue();
  }

  /** Lets everyone in line look again whether it may send. */
  wakeQueue(): void {
    const waiters = this.#queue;
    this.#queue = [];
    for (const waiter of waiters) waiter.slotFree();
  }

  #release(prgi: number): void {
    if (this.#busy[prgi] === 0) return;
    this.#busy[prgi] = 0;
    this.#owners[prgi] = null;
    this.outstanding--;
  }
}
