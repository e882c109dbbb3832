/**
 * Claims of `devices/spec/vtd/` against the macros of the Intel driver: register offsets and bits,
 * the capability accessors, invalidation descriptors, PASID entries, page requests, fault records.
 */
import * as context from '../../../../devices/spec/vtd/context.ts';
import * as descriptor from '../../../../devices/spec/vtd/descriptor-layout.ts';
import * as faults from '../../../../devices/spec/vtd/faults.ts';
import * as pageRequest from '../../../../devices/spec/vtd/page-request.ts';
import * as pasid from '../../../../devices/spec/vtd/pasid.ts';
import * as registers from '../../../../devices/spec/vtd/registers.ts';
import type { BitRanges } from './bit-fields.ts';
import { bitFieldClaims } from './bit-fields.ts';
import type { Checked, Claim, Header } from './claims.ts';
import {
  constantClaims,
  definesOf,
  hasConstant,
  header,
  merge,
  namedClaims,
  prefixed,
} from './claims.ts';
import type { KernelSource } from './kernel-source.ts';
import type { Fields, HowNamed, Macros } from './macro-fields.ts';
import { fieldClaims } from './macro-fields.ts';
import type { Check } from './uapi.ts';

/** What the macros below are written in. */
const KERNEL_C = `
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
#define PAGE_SHIFT 12
#define BIT(n) (1UL << (n))
#define BIT_ULL(n) (1ULL << (n))
#define GENMASK_ULL(h, l) ((~0ULL << (l)) & (~0ULL >> (63 - (h))))
#define FIELD_GET(mask, value) (((value) & (mask)) >> __builtin_ctzll(mask))
`;

export function vtdCheck(kernel: KernelSource): Check {
  const files = ['iommu.h', 'pasid.h', 'prq.c'].map((name) =>
    kernel.text(`drivers/iommu/intel/${name}`),
  );
  const names = /^(?:DMAR?_|QI_|VTD_PAGE_|PASID_|CONTEXT_|e?cap_|dma_frcd_|dma_fsts_|context_pdts)/;
  const defines = files.map((text) => definesOf(text, names));
  const source = header('intel/iommu.h', [KERNEL_C, ...defines].join('\n'), ...files);
  const checked = merge(
    registerClaims(source),
    registerFields(source),
    capabilityClaims(source),
    descriptorConstants(source),
    descriptorFields(source),
    tableClaims(source),
    eventClaims(source),
  );
  return { source, checked };
}

function registerClaims(source: Header): Checked {
  const { REG, GCMD, GSTS, FSTS, PRS, PMEN, EVENT_CONTROL } = registers;
  const offsets = Object.keys(REG).map((name) => [name, `DMAR_${name}_REG`]);
  return merge(
    namedClaims(source, 'REG', REG, {
      ...(Object.fromEntries(offsets) as Record<string, string>),
      IQERCD: 'DMAR_IQER_REG',
    }),
    namedClaims(source, 'GCMD', GCMD, prefixed(GCMD, 'DMA_GCMD_')),
    namedClaims(source, 'GSTS', GSTS, prefixed(GSTS, 'DMA_GSTS_')),
    namedClaims(source, 'FSTS', FSTS, prefixed(FSTS, 'DMA_FSTS_')),
    namedClaims(source, 'PRS', PRS, prefixed(PRS, 'DMA_PRS_')),
    namedClaims(source, 'PMEN', PMEN, prefixed(PMEN, 'DMA_PMEN_')),
    namedClaims(source, 'EVENT_CONTROL', EVENT_CONTROL, { IM: 'DMA_FECTL_IM' }),
  );
}

function registerFields(source: Header): Checked {
  const { RTADDR, TTM, CCMD, IQERCD, IVA, IOTLB_REG } = registers;
  return merge(
    constantClaims(source, [['DMA_RTADDR_SMT', RTADDR.encode({ TTM: TTM.SCALABLE })[0]!]]),
    fieldClaims(source, 'CCMD', CCMD.fields, {
      bits: { ICC: 'DMA_CCMD_ICC' },
      place: { FM: 'DMA_CCMD_FM', SID: 'DMA_CCMD_SID', DID: 'DMA_CCMD_DID' },
    }),
    fieldClaims(source, 'IQERCD', IQERCD.fields, {
      extract: {
        IQEI: 'DMAR_IQER_REG_IQEI',
        ITESID: 'DMAR_IQER_REG_ITESID',
        ICESID: 'DMAR_IQER_REG_ICESID',
      },
    }),
    fieldClaims(source, 'IVA', IVA.fields, {
      bits: { IH: 'DMA_TLB_IH_NONLEAF', AM: 'DMA_TLB_MAX_SIZE' },
    }),
    fieldClaims(source, 'IOTLB_REG', IOTLB_REG.fields, {
      bits: { IVT: 'DMA_TLB_IVT', DR: 'DMA_TLB_READ_DRAIN', DW: 'DMA_TLB_WRITE_DRAIN' },
      place: { DID: 'DMA_TLB_DID' },
      extract: { IIRG: 'DMA_TLB_IIRG', IAIG: 'DMA_TLB_IAIG' },
    }),
  );
}

function capabilityClaims(source: Header): Checked {
  const cap: Macros = {
    ND: 'cap_ndoms',
    RWBF: 'cap_rwbf',
    PLMR: 'cap_plmr',
    PHMR: 'cap_phmr',
    CM: 'cap_caching_mode',
    SAGAW: 'cap_sagaw',
    MGAW: 'cap_mgaw',
    ZLR: 'cap_zlr',
    FRO: 'cap_fault_reg_offset',
    SSLPS: 'cap_super_page_val',
    PSI: 'cap_pgsel_inv',
    NFR: 'cap_num_fault_regs',
    MAMV: 'cap_max_amask_val',
    DWD: 'cap_write_drain',
    DRD: 'cap_read_drain',
    FS1GP: 'cap_fl1gp_support',
    PI: 'cap_pi_support',
    FS5LP: 'cap_fl5lp_support',
    ECMDS: 'cap_ecmds',
    ESIRTPS: 'cap_esirtps',
    ESRTPS: 'cap_esrtps',
  };
  const ecap: Macros = {
    C: 'ecap_coherent',
    QI: 'ecap_qis',
    DT: 'ecap_dev_iotlb_support',
    IR: 'ecap_ir_support',
    EIM: 'ecap_eim_support',
    PT: 'ecap_pass_through',
    SC: 'ecap_sc_support',
    IRO: 'ecap_iotlb_offset',
    MHMV: 'ecap_max_handle_mask',
    MTS: 'ecap_mts',
    NEST: 'ecap_nest',
    PRS: 'ecap_prs',
    ERS: 'ecap_ers',
    SRS: 'ecap_srs',
    NWFS: 'ecap_nwfs',
    EAFS: 'ecap_eafs',
    PSS: 'ecap_pss',
    PASID: 'ecap_pasid',
    DIT: 'ecap_dit',
    PDS: 'ecap_pds',
    SMTS: 'ecap_smts',
    SSADS: 'ecap_slads',
    SSTS: 'ecap_slts',
    FSTS: 'ecap_flts',
    SMPWCS: 'ecap_smpwc',
    RPS: 'ecap_rps',
    PMS: 'ecap_pms',
  };
  return merge(
    fieldClaims(source, 'CAP', registers.CAP.fields, { extract: cap }),
    fieldClaims(source, 'ECAP', registers.ECAP.fields, { extract: ecap }),
  );
}

function descriptorConstants(source: Header): Checked {
  const { DESCRIPTOR_TYPE, CC_GRANULARITY: CC, IOTLB_GRANULARITY: TLB } = descriptor;
  const { PASID_CACHE_GRANULARITY: CACHE, PASID_IOTLB_GRANULARITY: EIOTLB } = descriptor;
  // The driver derives these two granularities from the register commands; the field is 5:4.
  const granularity = (expr: string, value: number): Claim => ({
    what: expr,
    expr: `(${expr}) >> 4`,
    value,
  });
  const claims = [
    granularity('QI_CC_GRAN(DMA_CCMD_GLOBAL_INVL)', CC.GLOBAL),
    granularity('QI_CC_GRAN(DMA_CCMD_DOMAIN_INVL)', CC.DOMAIN),
    granularity('QI_CC_GRAN(DMA_CCMD_DEVICE_INVL)', CC.DEVICE),
    granularity('QI_IOTLB_GRAN(DMA_TLB_GLOBAL_FLUSH)', TLB.GLOBAL),
    granularity('QI_IOTLB_GRAN(DMA_TLB_DSI_FLUSH)', TLB.DOMAIN),
    granularity('QI_IOTLB_GRAN(DMA_TLB_PSI_FLUSH)', TLB.PAGE),
  ];
  const types = namedClaims(source, 'DESCRIPTOR_TYPE', DESCRIPTOR_TYPE, {
    CC: 'QI_CC_TYPE',
    IOTLB: 'QI_IOTLB_TYPE',
    DEV_TLB: 'QI_DIOTLB_TYPE',
    IEC: 'QI_IEC_TYPE',
    WAIT: 'QI_IWD_TYPE',
    PASID_IOTLB: 'QI_EIOTLB_TYPE',
    PASID_CACHE: 'QI_PC_TYPE',
    PASID_DEV_TLB: 'QI_DEIOTLB_TYPE',
    PAGE_GROUP_RESPONSE: 'QI_PGRP_RESP_TYPE',
  });
  const values = constantClaims(source, [
    ['QI_PC_ALL_PASIDS', CACHE.DOMAIN],
    ['QI_PC_PASID_SEL', CACHE.PASID],
    ['QI_PC_GLOBAL', CACHE.GLOBAL],
    ['QI_GRAN_NONG_PASID', EIOTLB.ALL],
    ['QI_GRAN_PSI_PASID', EIOTLB.PAGE],
    ['QI_RESP_SUCCESS', pageRequest.RESPONSE.SUCCESS],
    ['QI_RESP_INVALID', pageRequest.RESPONSE.INVALID],
    ['QI_RESP_FAILURE', pageRequest.RESPONSE.FAILURE],
  ]);
  return merge(types, values, { claims, absent: [] });
}

const PFSID = ['PFSID_LO', 'PFSID_HI'] as const;

function descriptorFields(source: Header): Checked {
  const { devTlbLayout, pasidDevTlbLayout } = descriptor;
  const of = (label: string, layout: { readonly fields: Fields }, how: HowNamed): Checked =>
    fieldClaims(source, label, layout.fields, how);
  return merge(
    of('cc', descriptor.ccLayout, {
      place: { DID: 'QI_CC_DID', SID: 'QI_CC_SID', FM: 'QI_CC_FM' },
      elsewhere: ['G'],
    }),
    of('iotlb', descriptor.iotlbLayout, {
      place: {
        DW: 'QI_IOTLB_DW',
        DR: 'QI_IOTLB_DR',
        DID: 'QI_IOTLB_DID',
        AM: 'QI_IOTLB_AM',
        IH: 'QI_IOTLB_IH',
        ADDR: 'QI_IOTLB_ADDR',
      },
      elsewhere: ['G'],
    }),
    of('devTlb', devTlbLayout, {
      place: { MIP: 'QI_DEV_IOTLB_QDEP', SID: 'QI_DEV_IOTLB_SID', ADDR: 'QI_DEV_IOTLB_ADDR' },
      bits: { S: 'QI_DEV_IOTLB_SIZE' },
      elsewhere: PFSID,
    }),
    of('iec', descriptor.iecLayout, {
      place: { IM: 'QI_IEC_IM', IIDX: 'QI_IEC_IIDEX' },
      bits: { G: 'QI_IEC_SELECTIVE' },
    }),
    of('wait', descriptor.waitLayout, {
      place: { DATA: 'QI_IWD_STATUS_DATA' },
      bits: { SW: 'QI_IWD_STATUS_WRITE', FN: 'QI_IWD_FENCE', PD: 'QI_IWD_PRQ_DRAIN' },
    }),
    of('pasidIotlb', descriptor.pasidIotlbLayout, {
      place: {
        G: 'QI_EIOTLB_GRAN',
        DID: 'QI_EIOTLB_DID',
        PASID: 'QI_EIOTLB_PASID',
        AM: 'QI_EIOTLB_AM',
        IH: 'QI_EIOTLB_IH',
        ADDR: 'QI_EIOTLB_ADDR',
      },
    }),
    of('pasidCache', descriptor.pasidCacheLayout, {
      place: { G: 'QI_PC_GRAN', DID: 'QI_PC_DID', PASID: 'QI_PC_PASID' },
    }),
    of('pasidDevTlb', pasidDevTlbLayout, {
      place: {
        MIP: 'QI_DEV_EIOTLB_QDEP',
        SID: 'QI_DEV_EIOTLB_SID',
        PASID: 'QI_DEV_EIOTLB_PASID',
        ADDR: 'QI_DEV_EIOTLB_ADDR',
      },
      bits: { S: 'QI_DEV_EIOTLB_SIZE' },
      elsewhere: PFSID,
    }),
    of('pageGroupResponse', descriptor.pageGroupResponseLayout, {
      place: {
        PP: 'QI_PGRP_PASID_P',
        RC: 'QI_PGRP_RESP_CODE',
        RID: 'QI_PGRP_DID',
        PASID: 'QI_PGRP_PASID',
        LPIG: 'QI_PGRP_LPIG',
        PRGI: 'QI_PGRP_IDX',
      },
    }),
    sourceIdOfPf(source, 'QI_DEV_IOTLB_PFSID', devTlbLayout.masks),
    sourceIdOfPf(source, 'QI_DEV_EIOTLB_PFSID', pasidDevTlbLayout.masks),
  );
}

/** The PF's source id is split over two fields, which one macro places. */
function sourceIdOfPf(
  source: Header,
  macro: string,
  masks: { readonly PFSID_LO: bigint; readonly PFSID_HI: bigint },
): Checked {
  if (!hasConstant(source, macro)) return { claims: [], absent: [{ what: macro, claims: 2 }] };
  const low = { what: `${macro}: low`, expr: `${macro}(0xfULL)`, value: masks.PFSID_LO };
  const high = { what: `${macro}: high`, expr: `${macro}(0xfff0ULL)`, value: masks.PFSID_HI };
  return { claims: [low, high], absent: [] };
}

/** Context and PASID entries, whose layout the driver keeps in small setters. */
function tableClaims(source: Header): Checked {
  const { PGTT, pasidEntry } = pasid;
  return merge(
    constantClaims(source, [
      ['PASID_MAX', pasid.PASID_LIMIT],
      ['PASID_TBL_ENTRIES', pasid.PASID_TABLE_ENTRIES],
      ['PASID_PTE_PRESENT', pasidEntry.masks.P],
      ['PASID_PTE_FPD', pasidEntry.masks.FPD],
    ]),
    fieldClaims(source, 'contextEntry', context.contextEntry.fields, {
      bits: { PASIDE: 'CONTEXT_PASIDE' },
      place: { PDTS: 'context_pdts' },
    }),
    namedClaims(source, 'PGTT', PGTT, {
      FIRST_STAGE: 'PASID_ENTRY_PGTT_FL_ONLY',
      SECOND_STAGE: 'PASID_ENTRY_PGTT_SL_ONLY',
      NESTED: 'PASID_ENTRY_PGTT_NESTED',
      PASS_THROUGH: 'PASID_ENTRY_PGTT_PT',
    }),
    setterClaims(source, pasidEntry, {
      DID: 'domain_id',
      SSPTPTR: 'slptr',
      AW: 'address_width',
      PGTT: 'translation_type',
      FPD: 'fault_enable',
      SSADE: 'ssade',
      SRE: 'sre',
      WPE: 'wpe',
      P: 'present',
      PWSNP: 'page_snoop',
      PGSNP: 'pgsnp',
      FSPTPTR: 'flptr',
      FSPM: 'flpm',
      EAFE: 'eafe',
    }),
  );
}

interface Entry {
  readonly fields: Fields;
  readonly masks: Readonly<Record<string, bigint>>;
}

const SETTER =
  /\bpasid_set_(\w+)\(struct pasid_entry \*pe[^{]*\{[^}]*pasid_set_bits\(&pe->val\[(\d)\], ([^;]*?), [^,;]*\);/g;

/** Word and mask that `pasid_set_<name>` gives to `pasid_set_bits`. */
function setterClaims(source: Header, entry: Entry, setters: Macros): Checked {
  const bodies = [...source.text.matchAll(SETTER)];
  const found = new Map(bodies.map(([, name, word, mask]) => [name, { word, mask }]));
  const parts = Object.entries(setters).map(([field, setter]): Checked => {
    const what = `pasid_set_${setter} (${field})`;
    const body = found.get(setter);
    if (body === undefined) return { claims: [], absent: [{ what, claims: 2 }] };
    const word = { what: `${what}: word`, expr: body.word!, value: entry.fields[field]![0] };
    const mask = { what: `${what}: bits`, expr: body.mask!, value: entry.masks[field]! };
    return { claims: [word, mask], absent: [] };
  });
  const unnamed = Object.keys(entry.fields).filter((name) => setters[name] === undefined);
  const absent = unnamed.map((name) => ({ what: `pasidEntry.${name}: no such name`, claims: 1 }));
  return merge(...parts, { claims: [], absent });
}

function eventClaims(source: Header): Checked {
  const { FRCD } = faults;
  const request = pageRequest.pageRequestDescriptor.fields;
  return merge(
    bitFieldClaims(source, 'page_req_dsc', inWord(request, 0), { block: 0 }),
    bitFieldClaims(source, 'page_req_dsc', inWord(request, 1), { block: 1 }),
    // The driver reads a fault record as four dwords; the first two hold the address.
    fieldClaims(source, 'FRCD', inDword(FRCD.fields, 2), {
      extract: { SID: 'dma_frcd_source_id', PP: 'dma_frcd_pasid_present' },
    }),
    fieldClaims(source, 'FRCD', inDword(FRCD.fields, 3), {
      extract: {
        FR: 'dma_frcd_fault_reason',
        PV: 'dma_frcd_pasid_value',
        T1: 'dma_frcd_type',
      },
      bits: { F: 'DMA_FRCD_F' },
    }),
    fieldClaims(source, 'FSTS', fieldOfMask('FRI', registers.FSTS.FRI), {
      extract: { FRI: 'dma_fsts_fault_record_index' },
    }),
  );
}

function inWord(fields: Fields, word: number): BitRanges {
  const inside = Object.entries(fields).filter(([, field]) => field[0] === word);
  return Object.fromEntries(inside.map(([name, [, high, low]]) => [name, [high, low]]));
}

/** The fields of one 32-bit word of a structure, with bit numbers inside that word. */
function inDword(fields: Fields, dword: number): Fields {
  const base = 32 * (dword & 1);
  const inside = Object.entries(fields).filter(
    ([, [word, , low]]) => word === dword >> 1 && low >= base && low < base + 32,
  );
  return Object.fromEntries(
    inside.map(([name, [, high, low]]) => [name, [0, high - base, low - base]]),
  );
}

/** A contiguous 32-bit mask as a field. */
function fieldOfMask(name: string, mask: number): Fields {
  const high = 31 - Math.clz32(mask);
  const low = 31 - Math.clz32(mask & -mask);
  return { [name]: [0, high, low] };
}
