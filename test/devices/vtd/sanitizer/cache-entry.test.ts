/** What a descriptor covers, held against the caches of the unit itself. */
import test from 'ava';
import type { ValidDescriptor } from '../../../../devices/spec/vtd/invalidation.ts';
import { PGTT } from '../../../../devices/spec/vtd/pasid.ts';
import { PasidConfig } from '../../../../devices/vtd/entries.ts';
import { Iotlb, TLB } from '../../../../devices/vtd/iotlb.ts';
import { Outcome } from '../../../../devices/vtd/outcome.ts';
import { CacheEntry, covers } from '../../../../devices/vtd/sanitizer/cache-entry.ts';

const init = { upstream: [], path: [], filled: null, ns: 0, born: 0 };
const make = (values: Partial<ConstructorParameters<typeof CacheEntry>[0]>): CacheEntry =>
  new CacheEntry({ cache: 'IOTLB', sid: 8, pasid: 1, ...init, ...values }, () => undefined);
const FOUND = Object.assign(new Outcome(), { frame: 7, shift: 12, flags: TLB.R });
const tables = (did: number, pasid: number, firstStage: boolean): PasidConfig => {
  const pgtt = firstStage ? PGTT.FIRST_STAGE : PGTT.SECOND_STAGE;
  return Object.assign(new PasidConfig(), { did, pasid, pgtt });
};
const wait = { drainReads: false, drainWrites: false };

test('the shadow of the IOTLB goes exactly when the IOTLB drops', (t) => {
  const dids = [2, 3];
  const tags = [1, 2];
  const pages = [0x100, 0x101, 0x1ff, 0x200];
  for (const did of dids)
    for (const tag of tags)
      for (const page of pages)
        for (const firstStage of [false, true])
          for (const am of [0, 1, 8, 9])
            for (const by of ['p_iotlb all', 'p_iotlb page', 'iotlb page', 'iotlb did'] as const) {
              const iotlb = new Iotlb();
              const how = tables(did, tag, firstStage);
              iotlb.fill(-1, 8, 1, false, { hi: 0, lo: page }, FOUND, how, false);
              const entry = make({ did, tag, firstStage, page, pages: 1 });
              const first = 0x100 - (0x100 % 2 ** am);
              const range = { did: 2, am, address: 0x100 * 4096, ih: false };
              const [d, dropped]: [ValidDescriptor, number] = {
                'p_iotlb all': (): [ValidDescriptor, number] => [
                  { type: 'p_iotlb', granularity: 2, pasid: 1, ...range },
                  iotlb.dropPasid(2, 1),
                ],
                'p_iotlb page': (): [ValidDescriptor, number] => [
                  { type: 'p_iotlb', granularity: 3, pasid: 1, ...range },
                  iotlb.dropPasidRange(2, 1, first, 2 ** am),
                ],
                'iotlb page': (): [ValidDescriptor, number] => [
                  { type: 'iotlb', granularity: 3, ...wait, ...range },
                  iotlb.dropDomainRange(2, first, 2 ** am),
                ],
                'iotlb did': (): [ValidDescriptor, number] => [
                  { type: 'iotlb', granularity: 2, ...wait, ...range },
                  iotlb.dropDomain(2),
                ],
              }[by]();
              t.is(covers(d, entry), dropped === 1, `${by} of ${did} ${tag} ${page} am ${am}`);
            }
});

test('IH keeps paging-structure caches, and drops what is above a leaf nowhere else', (t) => {
  const cache = 'first-stage structure cache';
  const entry = make({ cache, did: 1, tag: 1, firstStage: true, page: 0, pages: 512, level: 2 });
  const d = { type: 'p_iotlb', granularity: 3, did: 1, pasid: 1, am: 0, address: 0x5000 } as const;
  t.true(covers({ ...d, ih: false }, entry));
  t.false(covers({ ...d, ih: true }, entry));
  t.false(covers({ ...d, ih: false, address: 512 * 4096 }, entry), 'another table');
});

test('the device-TLB goes by function, PASID and range', (t) => {
  const entry = make({ cache: 'device-TLB', page: 0x10, pages: 1 });
  const d = { type: 'p_dev_tlb', sid: 8, pasid: 1, pfsid: 0, mip: 0, global: false } as const;
  const range = { address: 0x10_000, sizeLog2: 12 } as const;
  t.true(covers({ ...d, ...range }, entry));
  t.true(covers({ ...d, pasid: 5, global: true, ...range }, entry));
  t.false(covers({ ...d, pasid: 5, ...range }, entry));
  t.false(covers({ ...d, sid: 16, ...range }, entry));
  t.false(covers({ ...d, address: 0x11_000, sizeLog2: 12 }, entry));
  t.true(covers({ ...d, address: 0, sizeLog2: 'all' }, entry));
  t.false(covers({ type: 'dev_tlb', sid: 8, pfsid: 0, mip: 0, ...range }, entry), 'without PASID');
});
