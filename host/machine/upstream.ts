import {
  type AddressType,
  AT,
  type AtsReply,
  type CompletionStatus,
  CPL,
  type Fabric,
  NO_PASID,
  type PciFunction,
} from '../../devices/pci/fabric.ts';
import { INTERRUPT_WINDOW_PAGES } from '../../devices/spec/msi.ts';
import { PciCommand, PciHeader } from '../../devices/spec/pci.ts';
import { copyBytes } from './bytes.ts';
import type { InterruptController } from './interrupts.ts';
import type { Ram } from './ram.ts';
import type { RemappingUnit } from './remapping-unit.ts';

const PAGE_BYTES = 4096;

// Constant to the compiler only when they are here.
const { SUCCESS, UNSUPPORTED_REQUEST } = CPL;
const { TRANSLATED, UNTRANSLATED } = AT;
const { COMMAND } = PciHeader;
const { BUS_MASTER } = PciCommand;

/**
 * The way up from the functions: each request passes the remapping unit, then reaches memory or the
 * interrupt controller. What is not RAM behind the unit answers "unsupported request" (there is no
 * peer-to-peer path).
 *
 * A function may send memory requests (translation requests and interrupts among them) only while
 * its bus master enable is set (PCI: COMMAND bit 2). Messages (page requests, invalidate
 * completions) are not held back by it.
 */
export class Upstream implements Fabric {
  readonly #ram: Ram;
  readonly #interrupts: InterruptController;
  readonly #functions: ReadonlyMap<number, PciFunction>;
  readonly #unit: RemappingUnit;
  /** Who sent the last request; functions are never unplugged. */
  #last: PciFunction | undefined;
  /** Where the request that `#locate` let through goes: a physical address. */
  #address = 0;

  constructor(
    ram: Ram,
    interrupts: InterruptController,
    functions: ReadonlyMap<number, PciFunction>,
    unit: RemappingUnit,
  ) {
    this.#ram = ram;
    this.#interrupts = interrupts;
    this.#functions = functions;
    this.#unit = unit;
  }

  translate(
    rid: number,
    pasid: number,
    priv: boolean,
    vpn: number,
    noWrite: boolean,
    reply: AtsReply,
  ): void {
    reply.pfn = 0;
    reply.shift = 12;
    reply.read = false;
    reply.write = false;
    reply.untranslatedOnly = false;
    reply.noSnoop = false;
    reply.priv = false;
    if (!this.#mayMaster(rid)) {
      reply.status = UNSUPPORTED_REQUEST;
      return;
    }
    const unit = this.#unit;
    const ok = unit.translate(rid, pasid, priv, AT.TRANSLATION, vpn, !noWrite, noWrite);
    const result = unit.result;
    reply.status = result.status;
    if (!ok) return;
    reply.pfn = result.pfn;
    reply.shift = result.shift;
    reply.read = result.read;
    reply.write = result.write;
    reply.untranslatedOnly = result.untranslatedOnly;
    reply.noSnoop = result.noSnoop;
    reply.priv = result.priv;
  }

  read(
    rid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    page: number,
    offset: number,
    into: Uint8Array,
    at: number,
    length: number,
  ): CompletionStatus {
    const status = this.#locate(rid, pasid, priv, type, page, offset, length, false);
    if (status !== SUCCESS) return status;
    if (this.#address >= this.#ram.size) {
      return completion(this.#ram.foreign?.read(this.#address, into.subarray(at, at + length)));
    }
    copyBytes(into, at, this.#ram.bytes, this.#address, length);
    return SUCCESS;
  }

  write(
    rid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    page: number,
    offset: number,
    from: Uint8Array,
    at: number,
    length: number,
  ): CompletionStatus {
    if (pasid === NO_PASID && type === UNTRANSLATED && isInterruptPage(page)) {
      return this.#interruptWrite(rid, page * PAGE_BYTES + offset, from, at, length);
    }
    const status = this.#locate(rid, pasid, priv, type, page, offset, length, true);
    if (status !== SUCCESS) return status;
    if (this.#address >= this.#ram.size) {
      return completion(this.#ram.foreign?.write(this.#address, from.subarray(at, at + length)));
    }
    copyBytes(this.#ram.bytes, this.#address, from, at, length);
    return SUCCESS;
  }

  copy(
    rid: number,
    srcPfn: number,
    srcOffset: number,
    dstPfn: number,
    dstOffset: number,
    length: number,
  ): CompletionStatus {
    let status = this.#locate(rid, NO_PASID, false, TRANSLATED, srcPfn, srcOffset, length, false);
    if (status !== SUCCESS) return status;
    const source = this.#address;
    status = this.#locate(rid, NO_PASID, false, TRANSLATED, dstPfn, dstOffset, length, true);
    if (status !== SUCCESS) return status;
    const ram = this.#ram;
    if (source >= ram.size || this.#address >= ram.size) {
      return this.#copyForeign(source, this.#address, length);
    }
    ram.bytes.copyWithin(this.#address, source, source + length);
    return SUCCESS;
  }

  pageRequest(
    rid: number,
    pasid: number,
    priv: boolean,
    vpn: number,
    read: boolean,
    write: boolean,
    last: boolean,
    prgi: number,
  ): void {
    this.#unit.pageRequest(rid, pasid, priv, vpn, read, write, last, prgi);
  }

  invalidateComplete(rid: number, itag: number): void {
    this.#unit.invalidateComplete(rid, itag);
  }

  msi(rid: number, address: number, data: number): void {
    if (!this.#mayMaster(rid)) return;
    if (!this.#unit.interruptRequest(rid, address, data)) return;
    this.#interrupts.deliver(address, data);
  }

  /** A copy with memory of a real process at one side or both. */
  #copyForeign(source: number, target: number, length: number): CompletionStatus {
    const { bytes, size, foreign } = this.#ram;
    const held = new Uint8Array(length);
    if (source < size) held.set(bytes.subarray(source, source + length));
    else if (foreign?.read(source, held) !== true) return UNSUPPORTED_REQUEST;
    if (target >= size) return completion(foreign?.write(target, held));
    bytes.set(held, target);
    return SUCCESS;
  }

  #mayMaster(rid: number): boolean {
    let fn = this.#last;
    if (fn?.rid !== rid) {
      fn = this.#functions.get(rid);
      this.#last = fn;
    }
    return fn !== undefined && (fn.configRead(COMMAND, 2) & BUS_MASTER) !== 0;
  }

  /** Lets a memory request through the unit, to `#address`; or says why not. */
  #locate(
    rid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    page: number,
    offset: number,
    length: number,
    write: boolean,
  ): CompletionStatus {
    if (!this.#mayMaster(rid)) return UNSUPPORTED_REQUEST;
    const unit = this.#unit;
    let pfn = page;
    if (type === TRANSLATED) {
      if (!unit.translated(rid, page, write)) return unit.result.status;
    } else {
      if (!unit.translate(rid, pasid, priv, UNTRANSLATED, page, write, false)) {
        return unit.result.status;
      }
      pfn = unit.result.pfn;
    }
    this.#address = pfn * PAGE_BYTES + offset;
    if (offset + length > PAGE_BYTES || !this.#ram.contains(this.#address, length)) {
      return UNSUPPORTED_REQUEST;
    }
    return SUCCESS;
  }

  /** Only an aligned DWORD is an interrupt; anything else in the window is refused. */
  #interruptWrite(
    rid: number,
    address: number,
    from: Uint8Array,
    at: number,
    length: number,
  ): CompletionStatus {
    if (length !== 4 || address % 4 !== 0) return UNSUPPORTED_REQUEST;
    const data = new DataView(from.buffer, from.byteOffset + at, 4).getUint32(0, true);
    this.msi(rid, address, data);
    return SUCCESS;
  }
}

/** Memory of a process that has gone does not answer. */
function completion(done: boolean | undefined): CompletionStatus {
  return done === true ? SUCCESS : UNSUPPORTED_REQUEST;
}

function isInterruptPage(page: number): boolean {
  return page >= INTERRUPT_WINDOW_PAGES.FIRST && page <= INTERRUPT_WINDOW_PAGES.LAST;
}
