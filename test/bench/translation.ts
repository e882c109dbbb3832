/**
 * Nested translations beside a plain C walker on the same tables and requests: from the roots, with
 * paging-structure caches, with context and PASID caches missing too, and out of the IOTLB.
 */
import { AT } from '../../devices/pci/fabric.ts';
import { Sanitizer } from '../../devices/vtd/sanitizer/sanitizer.ts';
import { Tracer } from '../../trace/tracer.ts';
import { FrameEncoder, inlineSlots } from '../../trace/wire/encoder.ts';
import { importAnew } from './anew.ts';
import type { BenchOptions, Case, Figure, Group, Outside } from './measure.ts';
import { against, interleaved } from './measure.ts';
import { type NestedOptions, nestedUnit } from './nested.ts';
import { CWalker } from './walker.ts';

const HIT_PAGES = 64;
const HIT_PASIDS = 64;
/** More PASIDs and functions than the PASID and context caches hold: in turn, they always miss. */
const MANY_PASIDS = 4096;
const MANY_FUNCTIONS = 2048;

export const translation: Group = {
  name: 'translation',
  about: 'nested translations with a PASID beside a C walker',
  async run(options) {
    const pages = options.quick ? 1 << 12 : 1 << 16;
    const many = { pages, pasids: MANY_PASIDS, functions: MANY_FUNCTIONS };
    const hits = { pages: HIT_PAGES, pasids: 1 };
    const mixed = { pages: HIT_PAGES, pasids: HIT_PASIDS };
    return [
      ...(await side(options, `${pages} random pages`, { pages }, 'c-walker', [
        { name: 'IOTLB missing', key: 'nested-cold', structureCaches: false },
        { name: 'the same, paging-structure caches on', key: 'nested-cold-psc' },
      ])),
      ...(await side(options, `${pages} random pages`, many, 'c-walker', [
        {
          name: 'context and PASID missing too',
          key: 'nested-cold-context',
          structureCaches: false,
        },
      ])),
      ...(await side(options, 'one stream', hits, 'c-walker-hit', [
        { name: 'IOTLB hit', key: 'iotlb-hit' },
        { name: 'IOTLB hit, recorded in frames', trace: recorder() },
        { name: 'IOTLB hit, sanitizer on', sanitizer: new Sanitizer() },
      ])),
      ...(await side(options, `${HIT_PASIDS} PASIDs mixed`, mixed, 'c-walker-hit', [
        { name: 'IOTLB hit', key: 'iotlb-hit-64-pasids' },
      ])),
    ];
  },
};

interface Variant extends Partial<NestedOptions> {
  readonly name: string;
  /** What the baseline calls it. */
  readonly key?: string;
}

/** Units of ours and the C walker in turns, all on the same tables and requests. */
async function side(
  options: BenchOptions,
  where: string,
  common: NestedOptions,
  walker: string,
  variants: readonly Variant[],
): Promise<Figure[]> {
  options.progress(where);
  const { requests, ...rest } = nestedUnit(common);
  const count = requests.vpns.length;
  const calls = Math.max(count, 1 << 14) / 2;
  const c = new CWalker({ ...rest, requests }, [requests]);
  const cName = `C walker, ${where}, ${common.pasids ?? 1} PASIDs`;
  const keys: Record<string, string> = {};
  const cases: (Case | Outside)[] = [
    { name: cName, time: async () => (await c.run(0, calls)) / calls },
  ];
  for (const { name: of, key, ...own } of variants) {
    const name = `${of}, ${where}`;
    if (key !== undefined) keys[name] = `${key}/${walker}`;
    const fresh = await load(name);
    const unit = fresh.nestedUnit({ ...common, ...own });
    let at = 0;
    const run = (): void => {
      at = fresh.translateMany(unit, AT.UNTRANSLATED, count, at, calls);
    };
    cases.push({ name, calls, run });
  }
  try {
    return against(await interleaved(cases, options), cName, keys);
  } finally {
    c.close();
  }
}

/** Code of its own for a case: a machine has one unit, and here there are many kinds. */
async function load(mark: string): Promise<typeof import('./nested.ts')> {
  const module: unknown = await importAnew(new URL('./nested.ts', import.meta.url), mark);
  return module as typeof import('./nested.ts');
}

/** A tracer whose events, hits among them, are recorded in frames that nobody keeps. */
function recorder(): Tracer {
  const tracer = new Tracer(() => 0);
  tracer.attach(
    new FrameEncoder(
      inlineSlots(() => undefined),
      { hot: true },
    ),
  );
  return tracer;
}
