/**
 * Claims of `devices/spec/vtd/` against the macros of the Intel driver: register offsets and bits,
 * the capability accessors, invalidation descriptors, PASID entries, page requests, fault records.
 */
import type { FieldSpec } from '../../../../devices/spec/bits.ts';
import * as context from '../../../../devices/spec/vtd/context.ts';
import * as descriptor from '../../../../devices/spec/vtd/descriptor-layout.ts';
import * as faults from '../../../../devices/spec/vtd/faults.ts';
import * as pageRequest from '../../../../devices/spec/vtd/page-request.ts';
import * as pasid from '../../../../devices/spec/vtd/pasid.ts';
import * as registers from '../../../../devices/spec/vtd/registers.ts';
import { bitFieldClaims } from './bit-fields.ts';
import { constantClaims, definesOf, hasConstant, header, merge } from './claims.ts';
import { namedClaims, prefixed, stripComments } from './claims.ts';
import type { Checked, Claim, Header } from './claims.ts';
import type { KernelSource } from './kernel-source.ts';
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

type Fields = Readonly<Record<string, FieldSpec>>;
/** Which macro speaks of which field. */
type Macros = Readonly<Record<string, string>>;

export function vtdCheck(kernel: KernelSource): Check {
  const files = ['iommu.h', 'pasid.h', 'prq.c'].map((name) =>
    kernel.text(`drivers/iommu/intel/${name}`),
  );
  const names = /^(?:DMAR?_|QI_|VTD_PAGE_|PASID_|CONTEXT_|e?cap_|dma_frcd_|dma_fsts_|context_pdts)/;
  const defines = files.map((text) => definesOf(text, names));
  const source = header('intel/iommu.h', [KERNEL_C, ...defines].join('\n'), ...files);
  const checked = merge(
    registerClaims(source),
    capabilityClaims(source),
    descriptorClaims(source),
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
    constantClaims(source, [
      ['DMA_RTADDR_SMT', registers.RTADDR.encode({ TTM: registers.TTM.SCALABLE })[0]!],
      ['DMA_CCMD_ICC', registers.CCMD.masks.ICC],
      ['DMA_TLB_IVT', registers.IOTLB_REG.masks.IVT],
      ['DMA_TLB_READ_DRAIN', registers.IOTLB_REG.masks.DR],
      ['DMA_TLB_WRITE_DRAIN', registers.IOTLB_REG.masks.DW],
      ['DMA_TLB_IH_NONLEAF', registers.IVA.masks.IH],
      ['DMA_TLB_MAX_SIZE', registers.IVA.masks.AM],
    ]),
    built(source, 'CCMD', registers.CCMD.fields, {
      FM: 'DMA_CCMD_FM',
      SID: 'DMA_CCMD_SID',
      DID: 'DMA_CCMD_DID',
    }),
    built(source, 'IOTLB_REG', registers.IOTLB_REG.fields, { DID: 'DMA_TLB_DID' }),
    accessed(source, 'IOTLB_REG', registers.IOTLB_REG.fields, {
      IIRG: 'DMA_TLB_IIRG',
      IAIG: 'DMA_TLB_IAIG',
    }),
    accessed(source, 'IQERCD', registers.IQERCD.fields, {
      IQEI: 'DMAR_IQER_REG_IQEI',
      ITESID: 'DMAR_IQER_REG_ITESID',
      ICESID: 'DMAR_IQER_REG_ICESID',
    }),
  );
}

function capabilityClaims(source: Header): Checked {
  return merge(
    accessed(source, 'CAP', registers.CAP.fields, {
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
    }),
    accessed(source, 'ECAP', registers.ECAP.fields, {
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
    }),
  );
}

function descriptorClaims(source: Header): Checked {
  const { DESCRIPTOR_TYPE, CC_GRANULARITY: CC, IOTLB_GRANULARITY: TLB } = descriptor;
  const { PASID_CACHE_GRANULARITY: CACHE, PASID_IOTLB_GRANULARITY: EIOTLB } = descriptor;
  const fieldsOf = { ...descriptor };
  const granularity = (expr: string, value: number): Claim => ({
    what: expr,
    expr: `(${expr}) >> 4`,
    value,
  });
  return merge(
    namedClaims(source, 'DESCRIPTOR_TYPE', DESCRIPTOR_TYPE, {
      CC: 'QI_CC_TYPE',
      IOTLB: 'QI_IOTLB_TYPE',
      DEV_TLB: 'QI_DIOTLB_TYPE',
      IEC: 'QI_IEC_TYPE',
      WAIT: 'QI_IWD_TYPE',
      PASID_IOTLB: 'QI_EIOTLB_TYPE',
      PASID_CACHE: 'QI_PC_TYPE',
      PASID_DEV_TLB: 'QI_DEIOTLB_TYPE',
      PAGE_GROUP_RESPONSE: 'QI_PGRP_RESP_TYPE',
    }),
    {
      claims: [
        granularity('QI_CC_GRAN(DMA_CCMD_GLOBAL_INVL)', CC.GLOBAL),
        granularity('QI_CC_GRAN(DMA_CCMD_DOMAIN_INVL)', CC.DOMAIN),
        granularity('QI_CC_GRAN(DMA_CCMD_DEVICE_INVL)', CC.DEVICE),
        granularity('QI_IOTLB_GRAN(DMA_TLB_GLOBAL_FLUSH)', TLB.GLOBAL),
        granularity('QI_IOTLB_GRAN(DMA_TLB_DSI_FLUSH)', TLB.DOMAIN),
        granularity('QI_IOTLB_GRAN(DMA_TLB_PSI_FLUSH)', TLB.PAGE),
      ],
      absent: [],
    },
    constantClaims(source, [
      ['QI_PC_ALL_PASIDS', CACHE.DOMAIN],
      ['QI_PC_PASID_SEL', CACHE.PASID],
      ['QI_PC_GLOBAL', CACHE.GLOBAL],
      ['QI_GRAN_NONG_PASID', EIOTLB.ALL],
      ['QI_GRAN_PSI_PASID', EIOTLB.PAGE],
      ['QI_IEC_SELECTIVE', descriptor.iecLayout.masks.G],
      ['QI_IWD_STATUS_WRITE', descriptor.waitLayout.masks.SW],
      ['QI_IWD_FENCE', descriptor.waitLayout.masks.FN],
      ['QI_IWD_PRQ_DRAIN', descriptor.waitLayout.masks.PD],
      ['QI_DEV_IOTLB_SIZE', descriptor.devTlbLayout.masks.S],
      ['QI_DEV_EIOTLB_SIZE', descriptor.pasidDevTlbLayout.masks.S],
      ['QI_RESP_SUCCESS', pageRequest.RESPONSE.SUCCESS],
      ['QI_RESP_INVALID', pageRequest.RESPONSE.INVALID],
      ['QI_RESP_FAILURE', pageRequest.RESPONSE.FAILURE],
    ]),
    ...Object.entries(DESCRIPTOR_MACROS).map(([layout, macros]) =>
      built(source, layout, fieldsOf[layout as keyof typeof DESCRIPTOR_MACROS].fields, macros),
    ),
    sourceIdOfPf(source, 'QI_DEV_IOTLB_PFSID', descriptor.devTlbLayout.masks),
    sourceIdOfPf(source, 'QI_DEV_EIOTLB_PFSID', descriptor.pasidDevTlbLayout.masks),
  );
}

const DESCRIPTOR_MACROS = {
  ccLayout: { DID: 'QI_CC_DID', SID: 'QI_CC_SID', FM: 'QI_CC_FM' },
  iotlbLayout: {
    DW: 'QI_IOTLB_DW',
    DR: 'QI_IOTLB_DR',
    DID: 'QI_IOTLB_DID',
    AM: 'QI_IOTLB_AM',
    IH: 'QI_IOTLB_IH',
    ADDR: 'QI_IOTLB_ADDR',
  },
  devTlbLayout: { MIP: 'QI_DEV_IOTLB_QDEP', SID: 'QI_DEV_IOTLB_SID', ADDR: 'QI_DEV_IOTLB_ADDR' },
  iecLayout: { IM: 'QI_IEC_IM', IIDX: 'QI_IEC_IIDEX' },
  waitLayout: { DATA: 'QI_IWD_STATUS_DATA' },
  pasidIotlbLayout: {
    G: 'QI_EIOTLB_GRAN',
    DID: 'QI_EIOTLB_DID',
    PASID: 'QI_EIOTLB_PASID',
    AM: 'QI_EIOTLB_AM',
    IH: 'QI_EIOTLB_IH',
    ADDR: 'QI_EIOTLB_ADDR',
  },
  pasidCacheLayout: { G: 'QI_PC_GRAN', DID: 'QI_PC_DID', PASID: 'QI_PC_PASID' },
  pasidDevTlbLayout: {
    MIP: 'QI_DEV_EIOTLB_QDEP',
    SID: 'QI_DEV_EIOTLB_SID',
    PASID: 'QI_DEV_EIOTLB_PASID',
    ADDR: 'QI_DEV_EIOTLB_ADDR',
  },
  pageGroupResponseLayout: {
    PP: 'QI_PGRP_PASID_P',
    RC: 'QI_PGRP_RESP_CODE',
    RID: 'QI_PGRP_DID',
    PASID: 'QI_PGRP_PASID',
    LPIG: 'QI_PGRP_LPIG',
    PRGI: 'QI_PGRP_IDX',
  },
} as const;

/** The PF's source id is split over two fields. */
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
  const { contextEntry } = context;
  const { PGTT, pasidEntry } = pasid;
  return merge(
    constantClaims(source, [
      ['CONTEXT_PASIDE', contextEntry.masks.PASIDE],
      ['PASID_MAX', pasid.PASID_LIMIT],
      ['PASID_TBL_ENTRIES', pasid.PASID_TABLE_ENTRIES],
      ['PASID_PTE_PRESENT', pasidEntry.masks.P],
      ['PASID_PTE_FPD', pasidEntry.masks.FPD],
    ]),
    built(source, 'contextEntry', contextEntry.fields, { PDTS: 'context_pdts' }),
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

/** Word and mask that `pasid_set_<name>` gives to `pasid_set_bits`. */
function setterClaims(source: Header, entry: Entry, setters: Macros): Checked {
  const bodies = source.text.matchAll(
    /\bpasid_set_(\w+)\(struct pasid_entry \*pe[^{]*\{[^}]*pasid_set_bits\(&pe->val\[(\d)\], ([^;]*?), [^,;]*\);/g,
  );
  const found = new Map([...bodies].map(([, name, word, mask]) => [name, { word, mask }]));
  const parts = Object.entries(setters).map(([field, setter]): Checked => {
    const what = `pasid_set_${setter} (${field})`;
    const body = found.get(setter);
    if (body === undefined) return { claims: [], absent: [{ what, claims: 2 }] };
    const word = { what: `${what}: word`, expr: body.word!, value: entry.fields[field]![0] };
    const mask = { what: `${what}: bits`, expr: body.mask!, value: entry.masks[field]! };
    return { claims: [word, mask], absent: [] };
  });
  return merge(...parts);
}

function eventClaims(source: Header): Checked {
  const { FRCD } = faults;
  const { pageRequestDescriptor } = pageRequest;
  const word = (n: number): Record<string, readonly [number, number]> =>
    Object.fromEntries(
      Object.entries(pageRequestDescriptor.fields)
        .filter(([, [at]]) => at === n)
        .map(([name, [, high, low]]) => [name, [high, low] as const]),
    );
  return merge(
    bitFieldClaims(source, 'page_req_dsc', word(0), { block: 0 }),
    bitFieldClaims(source, 'page_req_dsc', word(1), { block: 1 }),
    // The driver reads a fault record as four dwords; the first two hold the address.
    accessed(source, 'FRCD', inDword(FRCD.fields, 2), {
      SID: 'dma_frcd_source_id',
      PP: 'dma_frcd_pasid_present',
    }),
    accessed(source, 'FRCD', inDword(FRCD.fields, 3), {
      FR: 'dma_frcd_fault_reason',
      PV: 'dma_frcd_pasid_value',
      T1: 'dma_frcd_type',
    }),
    constantClaims(source, [['DMA_FRCD_F', FRCD.masks.F >> 32n]]),
    accessed(source, 'FSTS', { FRI: [0, 15, 8] }, { FRI: 'dma_fsts_fault_record_index' }),
  );
}

/** The fields of one 32-bit word of a structure, with bit numbers inside that word. */
function inDword(fields: Fields, dword: number): Fields {
  const base = 32 * (dword & 1);
  return Object.fromEntries(
    Object.entries(fields)
      .filter(([, [word, , low]]) => word === dword >> 1 && low >= base && low < base + 32)
      .map(([name, [, high, low]]) => [name, [0, high - base, low - base] as const]),
  );
}

/**
 * Macros that extract a field, whatever they scale or add: the result must depend on the lowest and
 * on the highest bit of our field, and on nothing outside it.
 */
function accessed(source: Header, label: string, fields: Fields, macros: Macros): Checked {
  return overFields(source, label, fields, macros, 3, (macro, what, high, low) => {
    const mask = ((1n << BigInt(high + 1)) - 1n) & ~((1n << BigInt(low)) - 1n);
    const differs = (bit: number): string => `${macro}(1ULL << ${String(bit)}) != ${macro}(0ULL)`;
    const outside = hexOf(BigInt.asUintN(64, ~mask));
    return [
      { what: `${what}: reads bit ${String(low)}`, expr: differs(low), value: 1 },
      { what: `${what}: reads bit ${String(high)}`, expr: differs(high), value: 1 },
      {
        what: `${what}: reads only ${String(high)}:${String(low)}`,
        expr: `${macro}(${outside}) == ${macro}(0ULL)`,
        value: 1,
      },
    ];
  });
}

/** Macros that place a value: 1 must land on our lowest bit, the largest value fill our field. */
function built(source: Header, label: string, fields: Fields, macros: Macros): Checked {
  return overFields(source, label, fields, macros, 2, (macro, what, high, low, isAddress) => {
    const largest = (1n << BigInt(high - low + 1)) - 1n;
    const one = isAddress ? 1n << BigInt(low) : 1n;
    const all = isAddress ? largest << BigInt(low) : largest;
    return [
      { what: `${what}: lowest bit`, expr: `${macro}(${hexOf(one)})`, value: 1n << BigInt(low) },
      { what: `${what}: mask`, expr: `${macro}(${hexOf(all)})`, value: largest << BigInt(low) },
    ];
  });
}

type FieldClaims = (
  macro: string,
  what: string,
  high: number,
  low: number,
  isAddress: boolean,
) => Claim[];

function overFields(
  source: Header,
  label: string,
  fields: Fields,
  macros: Macros,
  claimsEach: number,
  claimsOf: FieldClaims,
): Checked {
  const unnamed = Object.keys(fields).filter((name) => macros[name] === undefined);
  const parts = Object.entries(macros).map(([name, macro]): Checked => {
    const [, high, low, kind] = fields[name]!;
    const what = `${label}.${name} by ${macro}`;
    if (!hasConstant(source, macro)) return { claims: [], absent: [{ what, claims: claimsEach }] };
    return { claims: claimsOf(macro, what, high, low, kind === 'address'), absent: [] };
  });
  const absent = unnamed.map((name) => ({ what: `${label}.${name}: no such name`, claims: 1 }));
  return merge(...parts, { claims: [], absent });
}

const hexOf = (value: bigint): string => `0x${value.toString(16)}ULL`;
