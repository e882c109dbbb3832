/** Claims of `devices/spec/pci.ts` against `include/uapi/linux/pci_regs.h`. */
import * as pci from '../../../../devices/spec/pci.ts';
import type { Checked, Header } from './claims.ts';
import { constantClaims, header, merge, namedClaims, prefixed } from './claims.ts';
import type { KernelSource } from './kernel-source.ts';
import type { Check } from './uapi.ts';

export function pciCheck(kernel: KernelSource): Check {
  const text = kernel.text('include/uapi/linux/pci_regs.h');
  const source = header('pci_regs.h', '#include <linux/pci_regs.h>', text);
  const sizes = constantClaims(source, [
    ['PCI_CFG_SPACE_SIZE', pci.CONVENTIONAL_CONFIG_BYTES],
    ['PCI_CFG_SPACE_EXP_SIZE', pci.CONFIG_SPACE_BYTES],
  ]);
  return {
    source,
    checked: merge(sizes, headerClaims(source), capabilities(source), extended(source)),
  };
}

function headerClaims(source: Header): Checked {
  const { PciHeader, PciCommand, PciStatus, PciHeaderType, PciBar } = pci;
  return merge(
    namedClaims(
      source,
      'PciHeader',
      PciHeader,
      prefixed(PciHeader, 'PCI_', {
        REVISION: 'PCI_CLASS_REVISION',
        CLASS: 'PCI_CLASS_PROG',
        BAR0: 'PCI_BASE_ADDRESS_0',
        BAR1: 'PCI_BASE_ADDRESS_1',
        BAR2: 'PCI_BASE_ADDRESS_2',
        BAR3: 'PCI_BASE_ADDRESS_3',
        BAR4: 'PCI_BASE_ADDRESS_4',
        BAR5: 'PCI_BASE_ADDRESS_5',
        ROM_BAR: 'PCI_ROM_ADDRESS',
        CAP_PTR: 'PCI_CAPABILITY_LIST',
        INT_LINE: 'PCI_INTERRUPT_LINE',
        INT_PIN: 'PCI_INTERRUPT_PIN',
      }),
    ),
    namedClaims(
      source,
      'PciCommand',
      PciCommand,
      prefixed(PciCommand, 'PCI_COMMAND_', { BUS_MASTER: 'PCI_COMMAND_MASTER' }),
    ),
    namedClaims(
      source,
      'PciStatus',
      PciStatus,
      prefixed(PciStatus, 'PCI_STATUS_', {
        RECEIVED_TARGET_ABORT: 'PCI_STATUS_REC_TARGET_ABORT',
        RECEIVED_MASTER_ABORT: 'PCI_STATUS_REC_MASTER_ABORT',
      }),
    ),
    namedClaims(source, 'PciHeaderType', PciHeaderType, {
      TYPE_MASK: 'PCI_HEADER_TYPE_MASK',
      MULTI_FUNCTION: 'PCI_HEADER_TYPE_MFD',
    }),
    namedClaims(source, 'PciBar', PciBar, {
      SPACE_IO: 'PCI_BASE_ADDRESS_SPACE_IO',
      TYPE_MASK: 'PCI_BASE_ADDRESS_MEM_TYPE_MASK',
      TYPE_32: 'PCI_BASE_ADDRESS_MEM_TYPE_32',
      TYPE_64: 'PCI_BASE_ADDRESS_MEM_TYPE_64',
      PREFETCHABLE: 'PCI_BASE_ADDRESS_MEM_PREFETCH',
    }),
  );
}

function capabilities(source: Header): Checked {
  const { PciCap, PmCap, MsiCap, MsixCap, MsixEntry, PcieCap, PcieType } = pci;
  return merge(
    namedClaims(
      source,
      'PciCap',
      PciCap,
      prefixed(PciCap, 'PCI_CAP_ID_', { PCIE: 'PCI_CAP_ID_EXP' }),
    ),
    namedClaims(source, 'PmCap', PmCap, {
      BYTES: 'PCI_PM_SIZEOF',
      CAPABILITIES: 'PCI_PM_PMC',
      CONTROL: 'PCI_PM_CTRL',
      CONTROL_STATE_MASK: 'PCI_PM_CTRL_STATE_MASK',
      CONTROL_NO_SOFT_RESET: 'PCI_PM_CTRL_NO_SOFT_RESET',
    }),
    namedClaims(source, 'MsiCap', MsiCap, {
      CONTROL: 'PCI_MSI_FLAGS',
      CONTROL_ENABLE: 'PCI_MSI_FLAGS_ENABLE',
      CONTROL_64BIT: 'PCI_MSI_FLAGS_64BIT',
      CONTROL_PER_VECTOR_MASK: 'PCI_MSI_FLAGS_MASKBIT',
      ADDRESS_LOW: 'PCI_MSI_ADDRESS_LO',
      ADDRESS_HIGH: 'PCI_MSI_ADDRESS_HI',
      DATA_32: 'PCI_MSI_DATA_32',
      DATA_64: 'PCI_MSI_DATA_64',
    }),
    namedClaims(source, 'MsixCap', MsixCap, {
      BYTES: 'PCI_CAP_MSIX_SIZEOF',
      CONTROL: 'PCI_MSIX_FLAGS',
      CONTROL_SIZE_MASK: 'PCI_MSIX_FLAGS_QSIZE',
      CONTROL_FUNCTION_MASK: 'PCI_MSIX_FLAGS_MASKALL',
      CONTROL_ENABLE: 'PCI_MSIX_FLAGS_ENABLE',
      TABLE: 'PCI_MSIX_TABLE',
      PBA: 'PCI_MSIX_PBA',
      BIR_MASK: 'PCI_MSIX_TABLE_BIR',
    }),
    namedClaims(source, 'MsixEntry', MsixEntry, {
      BYTES: 'PCI_MSIX_ENTRY_SIZE',
      ADDRESS_LOW: 'PCI_MSIX_ENTRY_LOWER_ADDR',
      ADDRESS_HIGH: 'PCI_MSIX_ENTRY_UPPER_ADDR',
      DATA: 'PCI_MSIX_ENTRY_DATA',
      VECTOR_CONTROL: 'PCI_MSIX_ENTRY_VECTOR_CTRL',
      VECTOR_CONTROL_MASK: 'PCI_MSIX_ENTRY_CTRL_MASKBIT',
    }),
    namedClaims(source, 'PcieCap', PcieCap, {
      FLAGS: 'PCI_EXP_FLAGS',
      FLAGS_VERSION_MASK: 'PCI_EXP_FLAGS_VERS',
      FLAGS_TYPE_MASK: 'PCI_EXP_FLAGS_TYPE',
      DEVCAP: 'PCI_EXP_DEVCAP',
      DEVCAP_FLR: 'PCI_EXP_DEVCAP_FLR',
      DEVCTL: 'PCI_EXP_DEVCTL',
      DEVCTL_INITIATE_FLR: 'PCI_EXP_DEVCTL_BCR_FLR',
      DEVSTA: 'PCI_EXP_DEVSTA',
      DEVSTA_TRANSACTIONS_PENDING: 'PCI_EXP_DEVSTA_TRPND',
      DEVCAP2: 'PCI_EXP_DEVCAP2',
      DEVCAP2_END_END_TLP_PREFIX: 'PCI_EXP_DEVCAP2_EE_PREFIX',
      DEVCTL2: 'PCI_EXP_DEVCTL2',
    }),
    namedClaims(source, 'PcieType', PcieType, {
      ENDPOINT: 'PCI_EXP_TYPE_ENDPOINT',
      ROOT_PORT: 'PCI_EXP_TYPE_ROOT_PORT',
      RC_ENDPOINT: 'PCI_EXP_TYPE_RC_END',
    }),
  );
}

function extended(source: Header): Checked {
  const { PciExtCap, AtsCap, PriCap, PasidCap, AcsCap } = pci;
  return merge(
    namedClaims(
      source,
      'PciExtCap',
      PciExtCap,
      prefixed(PciExtCap, 'PCI_EXT_CAP_ID_', { AER: 'PCI_EXT_CAP_ID_ERR' }),
    ),
    namedClaims(source, 'AtsCap', AtsCap, {
      BYTES: 'PCI_EXT_CAP_ATS_SIZEOF',
      CAPABILITY: 'PCI_ATS_CAP',
      CAPABILITY_PAGE_ALIGNED: 'PCI_ATS_CAP_PAGE_ALIGNED',
      CONTROL: 'PCI_ATS_CTRL',
      CONTROL_ENABLE: 'PCI_ATS_CTRL_ENABLE',
    }),
    namedClaims(source, 'PriCap', PriCap, {
      BYTES: 'PCI_EXT_CAP_PRI_SIZEOF',
      CONTROL: 'PCI_PRI_CTRL',
      CONTROL_ENABLE: 'PCI_PRI_CTRL_ENABLE',
      CONTROL_RESET: 'PCI_PRI_CTRL_RESET',
      STATUS: 'PCI_PRI_STATUS',
      STATUS_RESPONSE_FAILURE: 'PCI_PRI_STATUS_RF',
      STATUS_UNEXPECTED_PRGI: 'PCI_PRI_STATUS_UPRGI',
      STATUS_STOPPED: 'PCI_PRI_STATUS_STOPPED',
      STATUS_PRG_RESPONSE_PASID: 'PCI_PRI_STATUS_PASID',
      MAX_REQUESTS: 'PCI_PRI_MAX_REQ',
      ALLOCATION: 'PCI_PRI_ALLOC_REQ',
    }),
    namedClaims(source, 'PasidCap', PasidCap, {
      BYTES: 'PCI_EXT_CAP_PASID_SIZEOF',
      CAPABILITY: 'PCI_PASID_CAP',
      CAPABILITY_EXEC: 'PCI_PASID_CAP_EXEC',
      CAPABILITY_PRIVILEGED: 'PCI_PASID_CAP_PRIV',
      CAPABILITY_WIDTH_MASK: 'PCI_PASID_CAP_WIDTH',
      CONTROL: 'PCI_PASID_CTRL',
      CONTROL_ENABLE: 'PCI_PASID_CTRL_ENABLE',
      CONTROL_EXEC: 'PCI_PASID_CTRL_EXEC',
      CONTROL_PRIVILEGED: 'PCI_PASID_CTRL_PRIV',
    }),
    namedClaims(source, 'AcsCap', AcsCap, {
      CAPABILITY: 'PCI_ACS_CAP',
      CONTROL: 'PCI_ACS_CTRL',
      SOURCE_VALIDATION: 'PCI_ACS_SV',
      TRANSLATION_BLOCKING: 'PCI_ACS_TB',
      REQUEST_REDIRECT: 'PCI_ACS_RR',
      COMPLETION_REDIRECT: 'PCI_ACS_CR',
      UPSTREAM_FORWARDING: 'PCI_ACS_UF',
      EGRESS_CONTROL: 'PCI_ACS_EC',
      DIRECT_TRANSLATED: 'PCI_ACS_DT',
    }),
  );
}
