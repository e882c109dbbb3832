/** Mistakes that the host kernel can be told to make, by the name that `vsva run --bug` takes. */
export const HOST_BUGS = {
  'host-unmap-no-flush': 'unmap clears the second stage and invalidates nothing',
  'host-unmap-frees-tables': 'unmap gives page-table pages back before the invalidation',
  'host-unmap-unpins-first': 'unmap unpins the pages before it takes them out of the table',
  'host-flush-wrong-did': 'a range is invalidated for the next domain id',
  'host-flush-leaf-only': 'IH is set although page-table pages go',
  'host-flush-too-narrow': 'a range is invalidated with an address mask one too small',
  'host-flush-no-device-tlb': 'a range is invalidated in the IOTLB only',
  'host-flush-device-first': 'a range is invalidated in the device-TLB, then in the IOTLB',
  'host-flush-no-wait': 'descriptors are queued and nobody waits for them',
  'host-teardown-no-pasid-cache': 'a PASID entry goes without a PASID-cache invalidation',
  'host-teardown-no-iotlb': 'a PASID entry goes without an IOTLB invalidation',
  'host-teardown-no-device-tlb': 'a PASID entry goes without a device-TLB invalidation',
  'host-teardown-wrong-pasid': 'a PASID entry goes with the invalidations of the next PASID',
  'host-teardown-no-drain': 'a PASID entry goes without draining page requests',
  'host-replace-no-flush': 'a PASID entry is replaced and nothing of the old one invalidated',
  'host-replace-new-did': 'after a replace the new domain id is invalidated, not the old one',
  'host-replace-torn': 'a present PASID entry is rewritten word by word',
  'host-present-first': 'a new PASID entry is written from its first word on, P included',
  'host-answers-twice': 'a page request group is answered twice',
  'host-answers-unasked': 'a page response names a group that nobody asked for',
} as const;
export type HostBug = keyof typeof HOST_BUGS;
