/** What a translation costs, beside a copy of the page that it is for. */
import { AT } from '../../devices/pci/fabric.ts';
import { Tracer } from '../../trace/tracer.ts';
import { SID } from '../devices/vtd/bench.ts';
import type { Group } from './measure.ts';
import { figures, measure } from './measure.ts';
import { nestedUnit, PASID } from './nested.ts';

const BATCH = 4096;
const HIT = 'IOTLB hit (one page)';

export const translation: Group = {
  name: 'translation',
  about: 'a translation by the VT-d unit',
  async run(options) {
    const pages = options.quick ? 1 << 12 : 1 << 16;
    const plain = nestedUnit(pages);
    const traced = nestedUnit(pages, listened());
    const raw = new Uint8Array(pages * 4096);
    const of = (
      name: string,
      { unit, vpns }: ReturnType<typeof nestedUnit>,
      spread: number,
    ): { name: string; calls: number; run(): void } => {
      let at = 0;
      const run = (): void => {
        for (let i = 0; i < BATCH; i++) {
          const vpn = vpns[at]!;
          at = at + 1 < spread ? at + 1 : 0;
          if (!unit.unit.translate(SID, PASID, false, AT.UNTRANSLATED, vpn, true, false)) {
            throw new Error(`page ${vpn}: fault 0x${unit.unit.result.fault.toString(16)}`);
          }
        }
      };
      return { name, calls: BATCH, run };
    };
    const times = await measure(
      [
        of(HIT, plain, 1),
        of('IOTLB hit (64 pages)', plain, 64),
        of(`nested walk (${pages} random pages)`, plain, pages),
        of('the same, every walk traced', traced, pages),
        {
          name: '4 KiB copied in a plain Uint8Array, random pages',
          calls: BATCH,
          run: () => {
            for (let i = 0; i < BATCH; i++) {
              const page = plain.vpns[i]! % pages;
              const to = ((page + 7919) % pages) * 4096;
              raw.copyWithin(page * 4096, to, to + 4096);
            }
          },
        },
      ],
      options,
    );
    return figures(times, HIT);
  },
};

/** A tracer with a listener that keeps nothing. */
function listened(): Tracer {
  const tracer = new Tracer(() => 0);
  tracer.listen(() => undefined);
  return tracer;
}
