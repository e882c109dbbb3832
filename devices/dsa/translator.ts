import { device } from '../../trace/catalogue/device.ts';
import type { Tracer } from '../../trace/tracer.ts';
import type { AddressType, AtsReply, Fabric } from '../pci/fabric.ts';
import { AT, CPL, NO_PASID } from '../pci/fabric.ts';
import { type DeviceTlb, tlbContext } from './device-tlb.ts';
import type { Client } from './work.ts';

/** Outcome of `Translator.resolve`. */
export const Reach = {
  /** `page` and `type` say where. */
  OK: 0,
  /** No translation with the needed permission: a page fault. */
  ABSENT: 1,
  /** The translation request itself was refused. */
  REFUSED: 2,
} as const;
export type Reach = (typeof Reach)[keyof typeof Reach];

/** Page numbers have 52 bits. */
const PAGE_LIMIT = 2 ** 52;

/** What the translator needs to know of configuration space. */
export interface TranslationControls {
  readonly atsEnabled: () => boolean;
  readonly pasidEnabled: () => boolean;
}

/** A range of pages whose translation is known, so that the next page needs no look-up. */
export class Run {
  first = 0;
  end = 0;
  frame = 0;
  writable = false;

  forget(): void {
    this.end = 0;
    this.first = 0;
  }
}

/**
 * Turns a client's virtual pages into what goes on the bus: a translated page out of the device-TLB
 * or an ATS answer, or the virtual page itself where the queue or the function does without ATS.
 */
export class Translator {
  /** Of the last successful `resolve`. */
  page = 0;
  type: AddressType = AT.UNTRANSLATED;
  hits = 0;
  requests = 0;
  readonly #rid: number;
  readonly #name: string;
  readonly #fabric: Fabric;
  readonly #trace: Tracer;
  readonly #tlb: DeviceTlb;
  readonly #controls: TranslationControls;
  readonly #reply: AtsReply = {
    status: CPL.SUCCESS,
    pfn: 0,
    shift: 12,
    read: false,
    write: false,
    untranslatedOnly: false,
    noSnoop: false,
    priv: false,
  };

  constructor(parts: {
    rid: number;
    name: string;
    fabric: Fabric;
    trace: Tracer;
    tlb: DeviceTlb;
    controls: TranslationControls;
  }) {
    this.#rid = parts.rid;
    this.#name = parts.name;
    this.#fabric = parts.fabric;
    this.#trace = parts.trace;
    this.#tlb = parts.tlb;
    this.#controls = parts.controls;
  }

  /** Whether the client's requests go through ATS. */
  usesAts(client: Client): boolean {
    return client.config.atsDisable === 0 && this.#controls.atsEnabled();
  }

  /**
   * Resolves page `vpn` for `client`. `run` belongs to one operand of one slice: it must be forgotten
   * before every slice, since an invalidation may come between two.
   */
  resolve(client: Client, vpn: number, write: boolean, run: Run): Reach {
    if (vpn >= run.first && vpn < run.end && (run.writable || !write)) {
      this.hits++;
      this.page = run.frame + (vpn - run.first);
      this.type = AT.TRANSLATED;
      return Reach.OK;
    }
    const context = tlbContext(client.pasid, client.privileged);
    // An entry can only be there while ATS and PASIDs are on as they were when it was made.
    if (client.config.atsDisable === 0 && this.#tlb.lookup(context, vpn, write)) {
      return this.#hit(vpn, run);
    }
    if (vpn >= PAGE_LIMIT) return Reach.ABSENT;
    if (client.pasid !== NO_PASID && !this.#controls.pasidEnabled()) return Reach.REFUSED;
    if (!this.usesAts(client)) {
      this.page = vpn;
      this.type = AT.UNTRANSLATED;
      return Reach.OK;
    }
    return this.#request(client, context, vpn, write);
  }

  /** Takes the device-TLB's answer over. */
  #hit(vpn: number, run: Run): Reach {
    const tlb = this.#tlb;
    this.hits++;
    run.first = tlb.first;
    run.end = tlb.end;
    run.frame = tlb.frame - (vpn - tlb.first);
    run.writable = tlb.writable;
    this.page = tlb.frame;
    this.type = AT.TRANSLATED;
    return Reach.OK;
  }

  /** Asks the IOMMU and remembers the answer. */
  #request(client: Client, context: number, vpn: number, write: boolean): Reach {
    const reply = this.#reply;
    this.requests++;
    this.#fabric.translate(this.#rid, client.pasid, client.privileged, vpn, !write, reply);
    if (this.#trace.on) this.#traceRequest(client, vpn, write);
    if (reply.status !== CPL.SUCCESS) return Reach.REFUSED;
    if (!(write ? reply.write : reply.read)) return Reach.ABSENT;
    if (reply.untranslatedOnly) {
      this.page = vpn;
      this.type = AT.UNTRANSLATED;
      return Reach.OK;
    }
    const { pfn, shift, read } = reply;
    this.#tlb.fill(context, vpn, pfn, shift, read, reply.write);
    this.page = pfn;
    this.type = AT.TRANSLATED;
    return Reach.OK;
  }

  #traceRequest(client: Client, vpn: number, write: boolean): void {
    const { status, read, write: writable, shift, pfn } = this.#reply;
    let result = 'no translation';
    if (status === CPL.UNSUPPORTED_REQUEST) result = 'unsupported request';
    else if (status === CPL.COMPLETER_ABORT) result = 'completer abort';
    else if (read || writable) {
      const access = `${read ? 'r' : ''}${writable ? 'w' : ''}`;
      result = `${access} 0x${(pfn * 4096).toString(16)} 2^${shift}`;
    }
    this.#trace.emit(device.atsRequest, {
      device: this.#name,
      pasid: client.pasid,
      address: vpn * 4096,
      write: write ? 1 : 0,
      result,
    });
  }
}
