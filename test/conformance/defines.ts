/**
 * Names that a tree's tests use and its headers lack. The stable 6.12 took over the tests of later
 * releases without the headers they were written for. A name is given to the compiler only when the
 * tests use it and no header of the tree has it.
 */
export interface Define {
  readonly name: string;
  readonly value: string;
  readonly reason: string;
}

export const DEFINES: readonly Define[] = [
  {
    name: 'MOCK_FLAGS_DEVICE_PASID',
    value: '(1 << 2)',
    reason: 'the mock device with PASIDs came with iommufd_test.h of 6.15',
  },
  {
    name: 'MOCK_PASID_WIDTH',
    value: '20',
    reason: 'bits of the mock device’s PASIDs, iommufd_test.h of 6.15',
  },
  {
    name: 'IOMMU_HW_INFO_TYPE_DEFAULT',
    value: '0',
    reason: 'the type that asks for the driver’s own, linux/iommufd.h of 6.18',
  },
  {
    name: 'IOMMU_HW_INFO_FLAG_INPUT_TYPE',
    value: '(1 << 0)',
    reason: 'says that a type is asked for, linux/iommufd.h of 6.18',
  },
  {
    name: 'in_data_type',
    value: 'out_data_type',
    reason: 'the two names of one member of struct iommu_hw_info, linux/iommufd.h of 6.18',
  },
];

/** Those that `tests` use and `headers` lack; both are source text. */
export function definesFor(tests: string, headers: string): Define[] {
  return DEFINES.filter(({ name }) => {
    const word = new RegExp(`\\b${name}\\b`);
    return word.test(tests) && !word.test(headers);
  });
}
