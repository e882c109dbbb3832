/** Mistakes that the VMM can be told to make, by the name that `vsva run --bug` takes. */
export const VMM_BUGS = {
  'vmm-drops-invalidation': 'a guest p_iotlb does not become IOMMU_HWPT_INVALIDATE',
  'vmm-invalidates-one-page': 'a guest p_iotlb of many pages invalidates the first on the host',
  'vmm-invalidates-other-pasid': "a guest p_iotlb invalidates another PASID's HWPT",
  'vmm-ignores-detach': 'a guest PASID entry that went stays attached on the host',
  'vmm-ignores-replace': 'a guest PASID entry that changed stays as it was on the host',
  'vmm-keeps-refused': 'when the host refuses the new table of a PASID, the old one stays attached',
} as const;
export type VmmBug = keyof typeof VMM_BUGS;
