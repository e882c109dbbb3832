/** IOTLB hits, in a module of its own so that each benchmark can have its own code (anew.ts). */
import { AT } from '../../devices/pci/fabric.ts';
import type { Tracer } from '../../trace/tracer.ts';
import type { Case } from './measure.ts';
import { nestedUnit, translateMany } from './nested.ts';

const BATCH = 4096;
const PAGES = 64;

/** Translations of pages that the IOTLB has. */
export function hits(name: string, trace?: Tracer): Case {
  const unit = nestedUnit({ pages: PAGES, ...(trace === undefined ? {} : { trace }) });
  const run = (): void => {
    translateMany(unit, AT.UNTRANSLATED, PAGES, 0, BATCH);
  };
  return { name, calls: BATCH, run };
}
