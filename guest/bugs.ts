/** Mistakes that the guest kernel can be told to make, by the name that `vsva run --bug` takes. */
export const GUEST_BUGS = {
  'guest-munmap-no-flush': 'munmap frees the pages and tells no device',
  'guest-munmap-frees-early': 'munmap frees the pages before the invalidation',
  'guest-exit-frees-early': 'a dying process frees its memory before its PASID is taken away',
  'guest-flush-too-narrow': 'a range is invalidated with an address mask one too small',
  'guest-flush-wrong-pasid': 'a range is invalidated for the next PASID',
  'guest-flush-wrong-did': 'a range is invalidated for the next domain id',
  'guest-flush-no-device-tlb': 'a range is invalidated in the IOTLB only',
  'guest-flush-device-first': 'a range is invalidated in the device-TLB, then in the IOTLB',
  'guest-teardown-no-pasid-cache': 'a PASID entry goes without a PASID-cache invalidation',
  'guest-teardown-no-iotlb': 'a PASID entry goes without an IOTLB invalidation',
  'guest-teardown-no-drain': 'a PASID is unbound without draining its page requests',
  'guest-replace-no-flush': 'a PASID entry gets another table and nothing is invalidated',
  'guest-replace-frees-early': 'the old top-level table is freed before the PASID has left it',
  'guest-present-first': 'a new PASID entry is written from its first word on, P included',
  'guest-answers-twice': 'a page request group is answered twice',
} as const;
export type GuestBug = keyof typeof GUEST_BUGS;
