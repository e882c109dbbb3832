import { readdirSync, readFileSync } from 'node:fs';
import test from 'ava';
import { CATALOGUE } from '../../trace/catalogue/all.ts';

const DIR = new URL('../../tui/', import.meta.url);

const NAME =
  /'((?:vtd|dsa|guest|vmm|host|iommu|iommufd|intel_iommu|engine|iommu_san|syscalls?|kvm|vfio|irq):\w+)'/g;

test('every event that the dashboard speaks of is in the catalogue', (t) => {
  const known = new Set(CATALOGUE.map(({ name }) => name));
  let found = 0;
  for (const path of readdirSync(DIR, { recursive: true, encoding: 'utf8' })) {
    if (!path.endsWith('.ts')) continue;
    const text = readFileSync(new URL(path, DIR), 'utf8');
    for (const [, name] of text.matchAll(NAME)) {
      found++;
      t.true(known.has(name!), `${path}: ${name}`);
    }
  }
  t.true(found > 40, String(found));
});
