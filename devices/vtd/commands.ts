import { vtd } from '../../trace/catalogue/vtd.ts';
import type { Tracer } from '../../trace/tracer.ts';
import { CC_GRANULARITY } from '../spec/vtd/invalidation.ts';
import {
  CCMD,
  FSTS,
  GCMD,
  GSTS,
  IOTLB_REG,
  IRTA,
  IVA,
  ivaOffset,
  REG,
  TTM,
} from '../spec/vtd/registers.ts';
import type { Caches } from './caches.ts';
import type { UnitConfig } from './config.ts';
import type { EventSource } from './event-source.ts';
import type { FaultLog } from './fault-log.ts';
import type { InterruptRemapper } from './interrupt-remapping.ts';
import type { InvalidationQueue } from './invalidation-queue.ts';
import { REGISTER_BYTES, type RegisterFile } from './registers.ts';
import type { Translator } from './translator.ts';
import type { VtdWorld } from './world.ts';

interface CommandParts {
  readonly config: UnitConfig;
  readonly registers: RegisterFile;
  readonly world: VtdWorld;
  readonly trace: Tracer;
  readonly caches: Caches;
  readonly translator: Translator;
  readonly remapper: InterruptRemapper;
  readonly queue: InvalidationQueue;
  readonly faults: FaultLog;
  readonly faultEvent: EventSource;
}

/** GCMD bits that GSTS keeps. */
const LEVELS = [
  ['TE', GCMD.TE],
  ['QIE', GCMD.QIE],
  ['IRE', GCMD.IRE],
  ['CFI', GCMD.CFI],
] as const;

/**
 * The command registers: GCMD with its one-shot and level bits, fault status, and register-based
 * invalidation (VT-d spec 10.4.4 to 10.4.9, 6.5.1). Commands are done when the write returns.
 */
export class Commands {
  readonly #parts: CommandParts;
  readonly #iotlb: number;

  constructor(parts: CommandParts) {
    const { registers, config } = parts;
    this.#parts = parts;
    registers.writable64(REG.RTADDR, 0xffff_ffff_ffff_fc80n);
    if (config.ecap.IR === 1) {
      const { BASE, EIME, S } = IRTA.masks;
      registers.writable64(REG.IRTA, config.ecap.EIM === 1 ? BASE | EIME | S : BASE | S);
    }
    registers.onWrite(REG.GCMD, (value) => this.#global(value));
    registers.onWrite(REG.FSTS, (value) => this.#faultStatus(value));
    const { ICC, CIRG, FM, SID, DID } = CCMD.masks;
    registers.writable64(REG.CCMD, ICC | CIRG | FM | SID | DID);
    registers.onWrite(REG.CCMD + 4, () => this.#context());
    this.#iotlb = ivaOffset(config.ecap) + 8;
    if (this.#iotlb + 8 <= REGISTER_BYTES && this.#iotlb > REG.PEUADDR) {
      registers.writable64(this.#iotlb - 8, 0xffff_ffff_ffff_f07fn);
      registers.hide(this.#iotlb - 8);
      registers.hide(this.#iotlb - 4);
      const { IVT, IIRG, DR, DW, DID: domain } = IOTLB_REG.masks;
      registers.writable64(this.#iotlb, IVT | IIRG | DR | DW | domain);
      registers.onWrite(this.#iotlb + 4, () => this.#translations());
    }
  }

  #global(value: number): void {
    const { registers, config, trace } = this.#parts;
    const status = registers.get(REG.GSTS);
    const changed = LEVELS.filter(([, bit]) => ((value ^ status) & bit) !== 0);
    const shots = [
      (value & GCMD.SRTP) !== 0 ? 'SRTP' : '',
      (value & GCMD.SIRTP) !== 0 && config.ecap.IR === 1 ? 'SIRTP' : '',
      (value & GCMD.WBF) !== 0 && config.cap.RWBF === 1 ? 'WBF' : '',
    ].filter((name) => name !== '');
    const effect = [
      ...shots,
      ...changed.map(([name, bit]) => `${name} ${(value & bit) === 0 ? 'off' : 'on'}`),
    ].join(', ');
    using _span = trace.on
      ? trace.span(vtd.register, { unit: config.name, register: 'GCMD', value, effect })
      : null;
    if ((value & GCMD.SRTP) !== 0) this.#setRoot();
    if (shots.includes('SIRTP')) this.#setInterruptTable();
    for (const [name, bit] of changed) this.#setLevel(name, bit, (value & bit) !== 0);
  }

  #setRoot(): void {
    const { registers, translator, caches, config, world } = this.#parts;
    translator.structures.latchRoot(registers.get64(REG.RTADDR));
    if (config.cap.ESRTPS === 1) caches.dropAll();
    this.#status(GSTS.RTPS, true);
    world.observer?.remapped('root');
    world.remapped?.('root');
  }

  #setInterruptTable(): void {
    const { registers, remapper, caches, config } = this.#parts;
    remapper.latchTable(registers.get64(REG.IRTA));
    if (config.cap.ESIRTPS === 1) caches.interrupts.dropAll();
    this.#status(GSTS.IRTPS, true);
  }

  #setLevel(name: (typeof LEVELS)[number][0], bit: number, on: boolean): void {
    const { config, translator, caches, remapper, queue, world, faults } = this.#parts;
    switch (name) {
      case 'TE':
        translator.enabled = on;
        if (!on) caches.dropAll();
        break;
      case 'QIE':
        if (config.ecap.QI === 0) return;
        if (on) queue.enable();
        else queue.disable();
        break;
      case 'IRE':
        if (config.ecap.IR === 0) return;
        remapper.enabled = on;
        break;
      case 'CFI':
        if (config.ecap.IR === 0) return;
        remapper.compatibilityAllowed = on;
    }
    this.#status(bit, on);
    if (!translator.enabled && !remapper.enabled) faults.restart();
    if (name === 'TE') {
      world.observer?.remapped(on ? 'on' : 'off');
      world.remapped?.('te');
    }
  }

  #status(bit: number, on: boolean): void {
    const { registers } = this.#parts;
    const status = registers.get(REG.GSTS);
    registers.set(REG.GSTS, on ? status | bit : status & ~bit);
  }

  /** Write-1-to-clear; a queue that stood because of IQE or ITE goes on. */
  #faultStatus(value: number): void {
    const { faultEvent, queue } = this.#parts;
    faultEvent.clear(value & FSTS.W1C);
    if ((value & (FSTS.IQE | FSTS.ITE)) !== 0) queue.kick();
  }

  /** Register-based invalidation exists in legacy mode while the queue is off. */
  get #registerBased(): boolean {
    const { registers, translator } = this.#parts;
    const queued = (registers.get(REG.GSTS) & GSTS.QIES) !== 0;
    return !queued && translator.structures.ttm === TTM.LEGACY;
  }

  #context(): void {
    const { registers, caches } = this.#parts;
    const written = registers.get64(REG.CCMD);
    const fields = CCMD.decode([written]);
    if (fields.ICC === 0) return;
    let done = 0;
    if (this.#registerBased && fields.CIRG >= CC_GRANULARITY.GLOBAL) {
      done = fields.CIRG;
      const { SID: sid, DID: did, FM: fm } = fields;
      caches.contextCache({ type: 'cc', granularity: done, sid, did, fm }, TTM.LEGACY);
    }
    const kept = written & ~CCMD.masks.ICC & ~CCMD.masks.CAIG;
    registers.set64(REG.CCMD, kept | CCMD.encode({ CAIG: done })[0]!);
  }

  #translations(): void {
    const { registers, caches, config } = this.#parts;
    const written = registers.get64(this.#iotlb);
    const fields = IOTLB_REG.decode([written]);
    if (fields.IVT === 0) return;
    const { ADDR, AM, IH } = IVA.decode([registers.get64(this.#iotlb - 8)]);
    const isPage = fields.IIRG === 3;
    const allowed = !isPage || (config.cap.PSI === 1 && AM <= config.cap.MAMV);
    let done = 0;
    if (this.#registerBased && fields.IIRG !== 0 && allowed) {
      done = fields.IIRG;
      caches.iotlbInvalidate({
        type: 'iotlb',
        granularity: done,
        did: fields.DID,
        drainReads: fields.DR === 1,
        drainWrites: fields.DW === 1,
        am: AM,
        ih: IH === 1,
        address: ADDR,
      });
    }
    const kept = written & ~IOTLB_REG.masks.IVT & ~IOTLB_REG.masks.IAIG;
    registers.set64(this.#iotlb, kept | IOTLB_REG.encode({ IAIG: done })[0]!);
  }
}
