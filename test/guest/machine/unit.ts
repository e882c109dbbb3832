/** A scripted virtual unit: enough registers and queue processing to answer the driver. */
import { type Descriptor, decodeDescriptor } from '../../../devices/spec/vtd/invalidation.ts';
import { encodePageRequest, type PageRequest } from '../../../devices/spec/vtd/page-request.ts';
import {
  FSTS,
  GCMD,
  GUEST_CAP,
  GUEST_ECAP,
  PRS,
  REG,
} from '../../../devices/spec/vtd/registers.ts';
import type { FakeCpu } from './cpu.ts';

export interface LoggedDescriptor {
  readonly qw0: bigint;
  readonly qw1: bigint;
  readonly decoded: Descriptor;
}

const ONE_SHOT = (GCMD.SRTP | GCMD.SIRTP | GCMD.WBF) >>> 0;

export class FakeUnit {
  readonly log: LoggedDescriptor[] = [];
  readonly registers = new DataView(new ArrayBuffer(4096));
  onResponse: (d: Extract<Descriptor, { type: 'pgrp' }>) => void = () => undefined;
  /** Called when a descriptor (not a wait) is processed. */
  onInvalidate: (d: Descriptor) => void = () => undefined;
  /** Called before a wait with PD completes. */
  onDrain: () => void = () => undefined;
  /** Device-TLB invalidations that time out. */
  timeouts = 0;
  readonly #cpu: FakeCpu;
  /** A request the ring has no room for is answered by hardware; here it is only counted. */
  overflows = 0;

  constructor(cpu: FakeCpu, cap = GUEST_CAP, ecap = GUEST_ECAP) {
    this.#cpu = cpu;
    this.registers.setBigUint64(REG.CAP, cap, true);
    this.registers.setBigUint64(REG.ECAP, ecap, true);
  }

  read(offset: number, size: number): bigint {
    if (size === 8) return this.registers.getBigUint64(offset, true);
    return BigInt(this.registers.getUint32(offset, true));
  }

  write(offset: number, size: number, value: bigint): void {
    const { registers } = this;
    if (offset === REG.FSTS || offset === REG.PRS) {
      const left = registers.getUint32(offset, true) & ~Number(value);
      registers.setUint32(offset, left, true);
      if (offset === REG.FSTS) this.#process();
      return;
    }
    if (size === 8) registers.setBigUint64(offset, value, true);
    else registers.setUint32(offset, Number(value), true);
    if (offset === REG.GCMD) this.#command(Number(value));
    if (offset === REG.IQT) this.#process();
  }

  #command(value: number): void {
    const kept = this.registers.getUint32(REG.GSTS, true) & ONE_SHOT;
    this.registers.setUint32(REG.GSTS, (value | kept) >>> 0, true);
  }

  #get(offset: number): number {
    return Number(this.registers.getBigUint64(offset, true));
  }

  #process(): void {
    const base = Math.floor(this.#get(REG.IQA) / 4096) * 4096;
    while (this.#get(REG.IQH) !== this.#get(REG.IQT)) {
      if ((this.registers.getUint32(REG.FSTS, true) & (FSTS.IQE | FSTS.ITE)) !== 0) return;
      const head = this.#get(REG.IQH);
      const words = [0, 1, 2, 3].map((i) => this.#cpu.read64(base + head + 8 * i));
      if (!this.#one(words)) return;
      this.registers.setBigUint64(REG.IQH, BigInt((head + 32) % 8192), true);
    }
  }

  /** False: the queue stops on this descriptor. */
  #one(words: readonly bigint[]): boolean {
    const decoded = decodeDescriptor(words);
    if (decoded.type === 'invalid') {
      this.registers.setUint32(REG.FSTS, FSTS.IQE, true);
      return false;
    }
    this.log.push({ qw0: words[0]!, qw1: words[1]!, decoded });
    if (decoded.type === 'pgrp') this.onResponse(decoded);
    else if (decoded.type !== 'inv_wait') this.onInvalidate(decoded);
    if (decoded.type === 'inv_wait') {
      if (this.timeouts > 0) {
        this.timeouts--;
        const head = this.#get(REG.IQH);
        this.registers.setBigUint64(REG.IQH, BigInt((head + 32) % 8192), true);
        this.registers.setUint32(REG.FSTS, FSTS.ITE, true);
        return false;
      }
      if (decoded.drainPageRequests) this.onDrain();
      if (decoded.statusWrite) this.#cpu.write32(decoded.statusAddress, decoded.statusData);
    }
    return true;
  }

  /** Puts a request into the page-request queue and raises its event. */
  pageRequest(request: Partial<PageRequest> & { rid: number; address: number }): void {
    const base = Math.floor(this.#get(REG.PQA) / 4096) * 4096;
    const tail = this.#get(REG.PQT);
    const words = encodePageRequest({
      pasid: 0,
      pasidPresent: true,
      exec: false,
      priv: false,
      read: true,
      write: false,
      last: true,
      prgi: 0,
      ...request,
    });
    words.forEach((word, i) => {
      this.#cpu.write64(base + tail + 8 * i, word);
    });
    this.registers.setBigUint64(REG.PQT, BigInt((tail + 32) % 0x10000), true);
    const status = this.registers.getUint32(REG.PRS, true);
    this.registers.setUint32(REG.PRS, status | PRS.PPR, true);
    if ((status & PRS.PPR) === 0) this.#cpu.raise(this.registers.getUint32(REG.PEDATA, true));
  }

  /** Descriptors logged since `from`, without waits, as [qw0, qw1]. */
  since(from: number): (readonly [bigint, bigint])[] {
    const shown = this.log.slice(from).filter((d) => d.decoded.type !== 'inv_wait');
    return shown.map((d) => [d.qw0, d.qw1] as const);
  }
}
