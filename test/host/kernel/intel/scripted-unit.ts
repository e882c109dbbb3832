/** A unit of which a test decides everything: it has registers, a queue that it records, and rings. */
import type { Clock } from '../../../../devices/clock.ts';
import { FRCD } from '../../../../devices/spec/vtd/faults.ts';
import { decodeDescriptor, describeDescriptor } from '../../../../devices/spec/vtd/invalidation.ts';
import type { PageRequest } from '../../../../devices/spec/vtd/page-request.ts';
import { encodePageRequest } from '../../../../devices/spec/vtd/page-request.ts';
import { CAP, FSTS, GCMD, IQERCD, PRS, REG } from '../../../../devices/spec/vtd/registers.ts';
import type { InterruptController } from '../../../../host/machine/interrupts.ts';
import type { Ram } from '../../../../host/machine/ram.ts';
import type { RemappingUnit } from '../../../../host/machine/remapping-unit.ts';

const ONE_SHOT = GCMD.SRTP | GCMD.WBF | GCMD.SIRTP;
const QUEUE_DELAY_NS = 250;
const RING = 65536;

export class ScriptedUnit implements RemappingUnit {
  readonly registerBytes = 4096;
  readonly result = {
    pfn: 0,
    shift: 12,
    read: false,
    write: false,
    status: 1 as const,
    noSnoop: false,
    priv: false,
    untranslatedOnly: false,
  };
  /** Descriptors carried out, as text, waits with status write left out. */
  readonly log: string[] = [];
  /** Called before each descriptor is carried out. */
  onDescriptor: (text: string) => 'ok' | 'refuse' | 'timeout' = () => 'ok';
  /** Waits with status write carried out. */
  waits = 0;
  /** Global commands in order. */
  readonly commands: number[] = [];
  stopped = false;
  readonly #words = new Map<number, number>();
  readonly #ram: Ram;
  readonly #clock: Clock;
  readonly #interrupts: InterruptController;
  #busy = false;

  constructor(
    parts: { ram: Ram; clock: Clock; interrupts: InterruptController },
    cap: bigint,
    ecap: bigint,
  ) {
    this.#ram = parts.ram;
    this.#clock = parts.clock;
    this.#interrupts = parts.interrupts;
    this.#set64(REG.CAP, cap);
    this.#set64(REG.ECAP, ecap);
    for (const control of [REG.FECTL, REG.PECTL, REG.IECTL]) this.#set(control, 0x8000_0000);
  }

  readRegister(offset: number, size: 4 | 8): bigint {
    const low = BigInt(this.get(offset));
    return size === 4 ? low : low | (BigInt(this.get(offset + 4)) << 32n);
  }

  writeRegister(offset: number, size: 4 | 8, value: bigint): void {
    this.#write(offset, Number(value & 0xffff_ffffn));
    if (size === 8) this.#write(offset + 4, Number(value >> 32n));
  }

  get(offset: number): number {
    return this.#words.get(offset) ?? 0;
  }

  /** Puts a request in the ring and raises the event; false when the ring is full. */
  pageRequest64(request: PageRequest): boolean {
    const tail = this.get(REG.PQT);
    if ((tail + 32) % RING === this.get(REG.PQH)) {
      this.#raise(REG.PECTL, REG.PRS, PRS.PRO);
      return false;
    }
    const words = encodePageRequest(request);
    const base = this.get(REG.PQA) & ~0xfff;
    words.forEach((word, i) => this.#ram.write64((base >>> 0) + tail + 8 * i, word));
    this.#set(REG.PQT, (tail + 32) % RING);
    this.#raise(REG.PECTL, REG.PRS, PRS.PPR);
    return true;
  }

  overflow(): void {
    this.#raise(REG.PECTL, REG.PRS, PRS.PRO);
  }

  /** Records a fault in record 0 and raises the event. */
  fault(sid: number, pasid: number, address: number, code: number): void {
    const words = FRCD.encode({ FI: address, SID: sid, PP: 1, PV: pasid, FR: code, T1: 1, F: 1 });
    const at = CAP.decode([this.readRegister(REG.CAP, 8)]).FRO * 16;
    this.#set64(at, words[0]!);
    this.#set64(at + 8, words[1]!);
    this.#raise(REG.FECTL, REG.FSTS, FSTS.PPF);
  }

  translate(): boolean {
    return false;
  }

  translated(): boolean {
    return false;
  }

  pageRequest(): void {
    throw new Error('the scripted unit takes page requests from the test only');
  }

  interruptRequest(): boolean {
    return true;
  }

  invalidateComplete(): void {
    // Nothing is sent to functions.
  }

  #set(offset: number, value: number): void {
    this.#words.set(offset, value >>> 0);
  }

  #set64(offset: number, value: bigint): void {
    this.#set(offset, Number(value & 0xffff_ffffn));
    this.#set(offset + 4, Number(value >> 32n));
  }

  #write(offset: number, value: number): void {
    if (offset === REG.GCMD) {
      this.commands.push(value);
      const levels = (value & ~ONE_SHOT) >>> 0;
      this.#set(REG.GSTS, levels | (value & ONE_SHOT) | (this.get(REG.GSTS) & GCMD.SRTP));
    } else if (offset === REG.FSTS || offset === REG.PRS) {
      this.#set(offset, this.get(offset) & ~value);
      this.#run();
    } else if (offset === CAP.decode([this.readRegister(REG.CAP, 8)]).FRO * 16 + 12) {
      this.#set(offset, this.get(offset) & ~value);
      this.#set(REG.FSTS, this.get(REG.FSTS) & ~FSTS.PPF);
    } else {
      this.#set(offset, value);
      if (offset === REG.IQT) this.#run();
    }
  }

  #raise(control: number, status: number, bit: number): void {
    const before = this.get(status);
    this.#set(status, before | bit);
    if (before !== 0 || (this.get(control) & 0x8000_0000) !== 0) return;
    this.#interrupts.deliver(this.get(control + 8), this.get(control + 4));
  }

  #run(): void {
    if (this.#busy || this.stopped) return;
    this.#busy = true;
    this.#clock.after(QUEUE_DELAY_NS, () => {
      this.#busy = false;
      this.#carryOut();
    });
  }

  /** Goes on where it stood. */
  resume(): void {
    this.stopped = false;
    this.#run();
  }

  #carryOut(): void {
    const base = (this.get(REG.IQA) & ~0xfff) >>> 0;
    while (this.get(REG.IQH) !== this.get(REG.IQT) && (this.get(REG.FSTS) & 0x50) === 0) {
      const head = this.get(REG.IQH);
      const words = [0, 8, 16, 24].map((at) => this.#ram.read64(base + head + at));
      const descriptor = decodeDescriptor(words);
      const text = describeDescriptor(descriptor);
      const verdict = descriptor.type === 'inv_wait' ? 'ok' : this.onDescriptor(text);
      if (verdict === 'refuse') {
        this.#set64(REG.IQERCD, IQERCD.encode({ IQEI: 4 })[0]!);
        this.#raise(REG.FECTL, REG.FSTS, FSTS.IQE);
        return;
      }
      this.#set(REG.IQH, (head + 32) % 8192);
      if (verdict === 'timeout') {
        this.#set64(REG.IQERCD, IQERCD.encode({ ITESID: 8 })[0]!);
        this.#raise(REG.FECTL, REG.FSTS, FSTS.ITE);
        return;
      }
      if (descriptor.type === 'inv_wait' && descriptor.statusWrite) {
        this.#ram.write32(descriptor.statusAddress, descriptor.statusData);
        this.waits++;
        if (descriptor.drainPageRequests) this.log.push('wait PD');
      } else {
        this.log.push(text);
      }
    }
  }
}
