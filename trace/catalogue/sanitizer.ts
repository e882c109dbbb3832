import { event } from '../event.ts';

/** What the IOMMU sanitizer found (devices/vtd/sanitizer). */
export const sanitizer = {
  report: event(
    'engine',
    'iommu_san:report',
    {
      number: 'id',
      kind: 'text',
      meaning: 'text',
      unit: 'text',
      sid: 'sid',
      pasid: 'pasid',
      address: 'iova',
      entry: 'text',
      change: 'text',
      acted: 'text',
      who: 'text',
      missing: 'text',
      instead: 'text',
    },
    'a driver, the VMM or a device broke a rule of the IOMMU; what is missing is spelled out',
    'VT-d spec 6.5.3, 7.10; PCIe ATS; devices/vtd/sanitizer',
  ),
  history: event(
    'engine',
    'iommu_san:history',
    {
      report: 'id',
      role: 'text',
      what: 'text',
      depth: 'count',
      of: 'count',
      at: 'ns',
      told: 'text',
    },
    'an event behind a report: what filled, changed, used or relied, and what led to it (depth 1, 2, ...)',
    'devices/vtd/sanitizer',
  ),
} as const;
