import { vtd } from '../../trace/catalogue/vtd.ts';
import type { Tracer } from '../../trace/tracer.ts';
import { bitStruct } from '../spec/bits.ts';
import { encodeMsi, isInterruptAddress } from '../spec/msi.ts';
import { ridToString } from '../spec/pci.ts';
import { describeFault, FAULT, FAULT_TYPE, FAULTS } from '../spec/vtd/faults.ts';
import { IRTA } from '../spec/vtd/registers.ts';
import type { UnitConfig } from './config.ts';
import type { FaultLog } from './fault-log.ts';
import type { InterruptEntryCache } from './interrupt-entry-cache.ts';
import type { VtdWorld } from './world.ts';

/** Remappable-format message address (VT-d spec 5.1.2.2). */
const remappableAddress = bitStruct(1, {
  HANDLE_LO: [0, 19, 5],
  FORMAT: [0, 4, 4],
  SHV: [0, 3, 3],
  HANDLE_HI: [0, 2, 2],
});

/** Interrupt remapping table entry in remapped (not posted) form (VT-d spec 9.10). */
const irte = bitStruct(2, {
  P: [0, 0, 0],
  FPD: [0, 1, 1],
  DM: [0, 2, 2],
  RH: [0, 3, 3],
  TM: [0, 4, 4],
  DLM: [0, 7, 5],
  AVAILABLE: [0, 11, 8],
  VECTOR: [0, 23, 16],
  DESTINATION: [0, 63, 32],
  SID: [1, 15, 0],
  SQ: [1, 17, 16],
  SVT: [1, 19, 18],
});

/** Source-id validation type: none, requester id under the mask SQ, bus range. */
const SVT = { NONE: 0, REQUESTER: 1, BUS_RANGE: 2 } as const;

/** Requester-id bits that SQ 0 to 3 leaves out of the comparison. */
const QUALIFIER_MASK = [0, 4, 6, 7] as const;

interface RemapperParts {
  readonly config: UnitConfig;
  readonly world: VtdWorld;
  readonly cache: InterruptEntryCache;
  readonly faults: FaultLog;
  readonly trace: Tracer;
}

/** Interrupt remapping (VT-d spec 5.1), through the interrupt entry cache. */
export class InterruptRemapper {
  /** GSTS.IRES and GSTS.CFIS. */
  enabled = false;
  compatibilityAllowed = false;
  readonly #parts: RemapperParts;
  #table = 0;
  #entries = 0;
  #extended = false;

  constructor(parts: RemapperParts) {
    this.#parts = parts;
  }

  /** GCMD.SIRTP. */
  latchTable(irta: bigint): void {
    const fields = IRTA.decode([irta]);
    this.#table = fields.BASE;
    this.#entries = 2 ** (fields.S + 1);
    this.#extended = fields.EIME === 1 && this.#parts.config.ecap.EIM === 1;
  }

  /**
   * A DWORD write of `data` to `address` from function `sid`. True: it may go on as it is. A
   * message that was remapped is sent by the unit itself, in its new form. Faults 20h to 2Bh.
   */
  request(sid: number, address: number, data: number): boolean {
    const isMessage = isInterruptAddress(address) && address % 4 === 0;
    const fields = remappableAddress.decode([BigInt(address >>> 0)]);
    if (!isMessage) return this.#block(FAULT.IR_NOT_AN_INTERRUPT, sid, 0);
    const { EIMER, IRREQ } = this.#parts.config.ecap;
    if (!this.enabled) {
      if (IRREQ === 1) return this.#block(FAULT.IR_REQUIRED, sid, 0);
      return fields.FORMAT === 0 || this.#block(FAULT.IR_NOT_AN_INTERRUPT, sid, 0);
    }
    if (EIMER === 1 && !this.#extended) return this.#block(FAULT.IR_EIME_REQUIRED, sid, 0);
    if (fields.FORMAT === 0) {
      if (this.compatibilityAllowed && !this.#extended) return true;
      return this.#block(FAULT.IR_COMPATIBILITY_BLOCKED, sid, 0);
    }
    const subhandle = fields.SHV === 1 ? data & 0xffff : 0;
    const index = (fields.HANDLE_LO | (fields.HANDLE_HI << 15)) + subhandle;
    if (fields.SHV === 1 && data >>> 16 !== 0) {
      return this.#block(FAULT.IR_REQUEST_RESERVED, sid, index);
    }
    return this.#remap(sid, index);
  }

  #remap(sid: number, index: number): boolean {
    const { world, config, cache } = this.#parts;
    if (index >= this.#entries) return this.#block(FAULT.IR_INDEX_BEYOND_TABLE, sid, index);
    const address = this.#table + index * irte.bytes;
    let words = cache.find(index);
    const cached = words !== undefined;
    if (words === undefined) {
      if (address + irte.bytes > 2 ** config.haw) {
        return this.#block(FAULT.IR_INDEX_BEYOND_TABLE, sid, index);
      }
      if (!world.memory.contains(address, irte.bytes)) {
        return this.#block(FAULT.IR_ENTRY_ACCESS, sid, index);
      }
      words = [world.memory.read64(address), world.memory.read64(address + 8)];
    }
    const entry = irte.decode(words);
    const silent = entry.FPD === 1;
    if (entry.P === 0) return this.#block(FAULT.IR_ENTRY_NOT_PRESENT, sid, index, silent);
    const narrow = !this.#extended && (entry.DESTINATION & 0xffff_00ff) !== 0;
    if (narrow || irte.hasReserved(words) || entry.SVT > SVT.BUS_RANGE) {
      return this.#block(FAULT.IR_ENTRY_RESERVED, sid, index, silent);
    }
    if (!sourceAllowed(entry, sid)) return this.#block(FAULT.IR_SOURCE_ID, sid, index, silent);
    if (!cached) cache.keep(index, words);
    const message = encodeMsi({
      destination: this.#extended ? entry.DESTINATION & 0xff : (entry.DESTINATION >> 8) & 0xff,
      vector: entry.VECTOR,
      deliveryMode: entry.DLM,
      redirectionHint: entry.RH === 1,
      logical: entry.DM === 1,
      level: entry.TM === 1,
      levelTriggered: entry.TM === 1,
    });
    world.interrupt(message.address, message.data);
    return false;
  }

  #block(code: number, sid: number, index: number, silent = false): boolean {
    const { faults, trace, config } = this.#parts;
    const suppressed = silent && FAULTS.get(code)?.qualified === true;
    const recorded =
      !suppressed &&
      faults.record({
        sid,
        pasid: -1,
        priv: false,
        page: (index & 0xffff) * 2 ** 36,
        code,
        type: FAULT_TYPE.WRITE,
        at: 0,
      });
    if (trace.on) {
      trace.emit(vtd.fault, {
        unit: config.name,
        sid: ridToString(sid),
        pasid: -1,
        address: index,
        request: 'interrupt',
        code,
        reason: describeFault(code),
        answer: 'blocked',
        recorded: recorded ? 1 : 0,
      });
    }
    return false;
  }
}

function sourceAllowed(entry: ReturnType<typeof irte.decode>, sid: number): boolean {
  if (entry.SVT === SVT.NONE) return true;
  if (entry.SVT === SVT.REQUESTER) {
    return ((sid ^ entry.SID) & ~QUALIFIER_MASK[entry.SQ]! & 0xffff) === 0;
  }
  const bus = sid >>> 8;
  return bus >= entry.SID >>> 8 && bus <= (entry.SID & 0xff);
}
