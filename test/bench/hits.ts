/** IOTLB hits, in a module of its own so that each benchmark can have its own code (anew.ts). */
import { AT } from '../../devices/pci/fabric.ts';
import type { Tracer } from '../../trace/tracer.ts';
import { SID } from '../devices/vtd/bench.ts';
import type { Case } from './measure.ts';
import { nestedUnit, PASID } from './nested.ts';

const BATCH = 4096;
const PAGES = 64;

/** Translations of pages that the IOTLB has. */
export function hits(name: string, trace?: Tracer): Case {
  const { unit, vpns } = nestedUnit(PAGES, trace);
  const run = (): void => {
    for (let i = 0; i < BATCH; i++) {
      const vpn = vpns[i % PAGES]!;
      if (!unit.unit.translate(SID, PASID, false, AT.UNTRANSLATED, vpn, true, false)) {
        throw new Error(`page ${vpn}: fault 0x${unit.unit.result.fault.toString(16)}`);
      }
    }
  };
  return { name, calls: BATCH, run };
}
