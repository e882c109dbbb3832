/**
 * Claims of `devices/spec/dsa/` against `include/uapi/linux/idxd.h` (operations, status codes,
 * descriptor and completion record) and the driver's `registers.h` (register file).
 */
import * as completion from '../../../../devices/spec/dsa/completion.ts';
import * as descriptor from '../../../../devices/spec/dsa/descriptor.ts';
import * as opcodes from '../../../../devices/spec/dsa/opcodes.ts';
import * as registers from '../../../../devices/spec/dsa/registers.ts';
import * as tables from '../../../../devices/spec/dsa/tables.ts';
import type { BitRanges } from './bit-fields.ts';
import { bitFieldClaims } from './bit-fields.ts';
import type { Checked, Claim, Header } from './claims.ts';
import {
  constantClaims,
  definesOf,
  header,
  merge,
  namedClaims,
  prefixed,
  stripComments,
} from './claims.ts';
import type { KernelSource } from './kernel-source.ts';
import type { Check } from './uapi.ts';

export function dsaChecks(kernel: KernelSource): Check[] {
  return [descriptorCheck(kernel), registerCheck(kernel)];
}

function descriptorCheck(kernel: KernelSource): Check {
  const text = kernel.text('include/uapi/linux/idxd.h');
  const source = header('idxd.h', '#include <linux/idxd.h>', text);
  const constants = constantClaims(source, [
    ['DSA_COMP_STATUS_MASK', completion.STATUS_CODE_MASK],
    ['DSA_COMP_STATUS_WRITE', completion.STATUS_FAULT_ON_WRITE],
  ]);
  const checked = merge(constants, operations(source), statuses(source), records(source));
  return { source, checked };
}

function operations(source: Header): Checked {
  const { Opcode, DescriptorFlag } = opcodes;
  return merge(
    namedClaims(
      source,
      'Opcode',
      Opcode,
      prefixed(Opcode, 'DSA_OPCODE_', {
        FILL: 'DSA_OPCODE_MEMFILL',
        COMPARE_PATTERN: 'DSA_OPCODE_COMPVAL',
        CREATE_DELTA: 'DSA_OPCODE_CR_DELTA',
        APPLY_DELTA: 'DSA_OPCODE_AP_DELTA',
        TRANSLATION_FETCH: 'DSA_OPCODE_TRANSL_FETCH',
        DIF_INSERT: 'DSA_OPCODE_DIF_INS',
        DIF_STRIP: 'DSA_OPCODE_DIF_STRP',
        DIF_UPDATE: 'DSA_OPCODE_DIF_UPDT',
        DIX_GENERATE: 'DSA_OPCODE_DIX_GEN',
        CACHE_FLUSH: 'DSA_OPCODE_CFLUSH',
      }),
    ),
    namedClaims(source, 'DescriptorFlag', DescriptorFlag, {
      FENCE: 'IDXD_OP_FLAG_FENCE',
      BLOCK_ON_FAULT: 'IDXD_OP_FLAG_BOF',
      COMPLETION_VALID: 'IDXD_OP_FLAG_CRAV',
      REQUEST_COMPLETION: 'IDXD_OP_FLAG_RCR',
      REQUEST_INTERRUPT: 'IDXD_OP_FLAG_RCI',
      COMPLETION_STEERING: 'IDXD_OP_FLAG_CRSTS',
      CHECK_RESULT: 'IDXD_OP_FLAG_CR',
      CACHE_CONTROL: 'IDXD_OP_FLAG_CC',
      ADDRESS1_TC: 'IDXD_OP_FLAG_ADDR1_TCS',
      ADDRESS2_TC: 'IDXD_OP_FLAG_ADDR2_TCS',
      ADDRESS3_TC: 'IDXD_OP_FLAG_ADDR3_TCS',
      COMPLETION_TC: 'IDXD_OP_FLAG_CR_TCS',
      STRICT_ORDER: 'IDXD_OP_FLAG_STORD',
      DESTINATION_READBACK: 'IDXD_OP_FLAG_DRDBK',
      DESTINATION_STEERING: 'IDXD_OP_FLAG_DSTS',
    }),
  );
}

function statuses(source: Header): Checked {
  return namedClaims(source, 'DsaStatus', completion.DsaStatus, {
    NOT_WRITTEN: 'DSA_COMP_NONE',
    SUCCESS: 'DSA_COMP_SUCCESS',
    SUCCESS_FALSE_PREDICATE: 'DSA_COMP_SUCCESS_PRED',
    PAGE_FAULT: 'DSA_COMP_PAGE_FAULT_NOBOF',
    PAGE_RESPONSE_INVALID: 'DSA_COMP_PAGE_FAULT_IR',
    BATCH_MEMBER_ERROR: 'DSA_COMP_BATCH_FAIL',
    BATCH_LIST_FAULT: 'DSA_COMP_BATCH_PAGE_FAULT',
    DELTA_OFFSET_ORDER: 'DSA_COMP_DR_OFFSET_NOINC',
    DELTA_OFFSET_RANGE: 'DSA_COMP_DR_OFFSET_ERANGE',
    DIF_ERROR: 'DSA_COMP_DIF_ERR',
    UNSUPPORTED_OPCODE: 'DSA_COMP_BAD_OPCODE',
    INVALID_FLAGS: 'DSA_COMP_INVALID_FLAGS',
    RESERVED_NOT_ZERO: 'DSA_COMP_NOZERO_RESERVE',
    TRANSFER_SIZE: 'DSA_COMP_XFER_ERANGE',
    DESCRIPTOR_COUNT: 'DSA_COMP_DESC_CNT_ERANGE',
    DELTA_SIZE: 'DSA_COMP_DR_ERANGE',
    OVERLAP: 'DSA_COMP_OVERLAP_BUFFERS',
    DUALCAST_ALIGNMENT: 'DSA_COMP_DCAST_ERR',
    DESCRIPTOR_LIST_ALIGNMENT: 'DSA_COMP_DESCLIST_ALIGN',
    INTERRUPT_HANDLE: 'DSA_COMP_INT_HANDLE_INVAL',
    COMPLETION_FAULT: 'DSA_COMP_CRA_XLAT',
    COMPLETION_ALIGNMENT: 'DSA_COMP_CRA_ALIGN',
    OPERAND_ALIGNMENT: 'DSA_COMP_ADDR_ALIGN',
    PRIVILEGE: 'DSA_COMP_PRIV_BAD',
    TRAFFIC_CLASS: 'DSA_COMP_TRAFFIC_CLASS_CONF',
    READBACK_FAULT: 'DSA_COMP_PFAULT_RDBA',
    HARDWARE_ERROR: 'DSA_COMP_HW_ERR1',
    HARDWARE_TIMEOUT: 'DSA_COMP_HW_ERR_DRB',
    TRANSLATION_ERROR: 'DSA_COMP_TRANSLATION_FAIL',
    DRAIN_EVENT_LOG: 'DSA_COMP_DRAIN_EVL',
    BATCH_EVENT_LOG: 'DSA_COMP_BATCH_EVL_ERR',
  });
}

/** Members of the C structures at our offsets; bit fields have no offset to ask for. */
function records(source: Header): Checked {
  const { DescriptorOffset, DESCRIPTOR_BYTES } = descriptor;
  const { CompletionOffset, COMPLETION_BYTES } = completion;
  const claims = [
    sizeClaim('struct dsa_hw_desc', DESCRIPTOR_BYTES),
    ...offsetClaims('struct dsa_hw_desc', [
      ['completion_addr', DescriptorOffset.COMPLETION],
      ['src_addr', DescriptorOffset.SOURCE],
      ['rdback_addr', DescriptorOffset.SOURCE],
      ['pattern', DescriptorOffset.SOURCE],
      ['desc_list_addr', DescriptorOffset.SOURCE],
      ['dst_addr', DescriptorOffset.DESTINATION],
      ['rdback_addr2', DescriptorOffset.DESTINATION],
      ['src2_addr', DescriptorOffset.DESTINATION],
      ['comp_pattern', DescriptorOffset.DESTINATION],
      ['xfer_size', DescriptorOffset.SIZE],
      ['desc_count', DescriptorOffset.SIZE],
      ['int_handle', DescriptorOffset.INTERRUPT_HANDLE],
      ['rsvd1', DescriptorOffset.RESERVED],
      ['op_specific', DescriptorOffset.SPECIFIC],
      ['expected_res', DescriptorOffset.EXPECTED_RESULT],
      ['dest2', DescriptorOffset.DESTINATION2],
      ['crc_seed', DescriptorOffset.CRC_SEED],
      ['seed_addr', DescriptorOffset.CRC_SEED_ADDRESS],
    ]),
    sizeClaim('struct dsa_completion_record', COMPLETION_BYTES),
    ...offsetClaims('struct dsa_completion_record', [
      ['status', CompletionOffset.STATUS],
      ['result', CompletionOffset.RESULT],
      ['fault_info', CompletionOffset.FAULT_INFO],
      ['bytes_completed', CompletionOffset.BYTES_COMPLETED],
      ['fault_addr', CompletionOffset.FAULT_ADDRESS],
      ['op_specific', CompletionOffset.SPECIFIC],
      ['crc_val', CompletionOffset.SPECIFIC],
    ]),
  ];
  const at = (byte: number) => ({ base: 8 * byte, block: 'outer' as const });
  const pasid: BitRanges = { pasid: [19, 0], privileged: [31, 31] };
  const flags: BitRanges = { flags: [23, 0], opcode: [31, 24] };
  const bits = merge(
    bitFieldClaims(source, 'dsa_hw_desc', pasid, at(DescriptorOffset.PASID)),
    bitFieldClaims(source, 'dsa_hw_desc', flags, at(DescriptorOffset.FLAGS_OPCODE)),
  );
  return merge({ claims, absent: [] }, bits);
}

function sizeClaim(type: string, bytes: number): Claim {
  return { what: `${type}: size`, expr: `sizeof(${type})`, value: bytes };
}

function offsetClaims(type: string, members: readonly (readonly [string, number])[]): Claim[] {
  return members.map(([member, offset]) => ({
    what: `${type}.${member}: offset`,
    expr: `__builtin_offsetof(${type}, ${member})`,
    value: offset,
  }));
}

function registerCheck(kernel: KernelSource): Check {
  const file = kernel.text('drivers/dma/idxd/registers.h');
  const defines = definesOf(file, /^(?:IDXD|DEVICE_VERSION|GRPCFG_SIZE)/);
  const enums = stripComments(file).match(/enum \w+ \{[^}]*\};/g) ?? [];
  const source = header('idxd/registers.h', `${defines}\n${enums.join('\n')}`, file);
  return { source, checked: merge(registerConstants(source), registerFields(source)) };
}

function registerConstants(source: Header): Checked {
  const { DsaReg, DsaVersion, DeviceState, ResetType, Intcause, DsaCommand, CmdError } = registers;
  const offsets = Object.keys(DsaReg).map((name) => [name, `IDXD_${name}_OFFSET`]);
  const command = (key: string): string => `IDXD_CMDSTS_${key}`;
  return merge(
    constantClaims(source, [
      ['IDXD_TABLE_MULT', registers.OFFSETS_UNIT],
      ['IDXD_CMDSTS_ACTIVE', registers.CMDSTS_ACTIVE],
      ['GRPCFG_SIZE', tables.Grpcfg.BYTES],
    ]),
    namedClaims(source, 'DsaReg', DsaReg, {
      ...(Object.fromEntries(offsets) as Record<string, string>),
      VERSION: 'IDXD_VER_OFFSET',
      OFFSETS: 'IDXD_TABLE_OFFSET',
      GENSTS: 'IDXD_GENSTATS_OFFSET',
    }),
    namedClaims(source, 'DsaVersion', DsaVersion, {
      DSA_1_0: 'DEVICE_VERSION_1',
      DSA_2_0: 'DEVICE_VERSION_2',
    }),
    namedClaims(source, 'DeviceState', DeviceState, {
      DISABLED: 'IDXD_DEVICE_STATE_DISABLED',
      ENABLED: 'IDXD_DEVICE_STATE_ENABLED',
      DRAINING: 'IDXD_DEVICE_STATE_DRAIN',
      HALTED: 'IDXD_DEVICE_STATE_HALT',
    }),
    namedClaims(source, 'ResetType', ResetType, prefixed(ResetType, 'IDXD_DEVICE_RESET_')),
    namedClaims(source, 'Intcause', Intcause, {
      SOFTWARE_ERROR: 'IDXD_INTC_ERR',
      COMMAND: 'IDXD_INTC_CMD',
      OCCUPANCY: 'IDXD_INTC_OCCUPY',
      PERFMON: 'IDXD_INTC_PERFMON_OVFL',
      HALT: 'IDXD_INTC_HALT_STATE',
      EVENT_LOG: 'IDXD_INTC_EVL',
      HANDLES_REVOKED: 'IDXD_INTC_INT_HANDLE_REVOKED',
    }),
    namedClaims(
      source,
      'DsaCommand',
      DsaCommand,
      prefixed(DsaCommand, 'IDXD_CMD_', {
        REQUEST_INTERRUPT_HANDLE: 'IDXD_CMD_REQUEST_INT_HANDLE',
        RELEASE_INTERRUPT_HANDLE: 'IDXD_CMD_RELEASE_INT_HANDLE',
      }),
    ),
    namedClaims(source, 'CmdError', CmdError, {
      SUCCESS: command('SUCCESS'),
      INVALID_COMMAND: command('INVAL_CMD'),
      INVALID_WQ_INDEX: command('INVAL_WQIDX'),
      HARDWARE_ERROR: command('HW_ERR'),
      DEVICE_ALREADY_ENABLED: command('ERR_DEV_ENABLED'),
      CONFIGURATION_ERROR: command('ERR_CONFIG'),
      BUS_MASTER_DISABLED: command('ERR_BUSMASTER_EN'),
      PASID_NOT_ENABLED: command('ERR_PASID_INVAL'),
      WQ_SIZES_OUT_OF_RANGE: command('ERR_WQ_SIZE_ERANGE'),
      GROUP_MEMBERSHIP: command('ERR_GRP_CONFIG'),
      GROUP_INCOMPLETE: command('ERR_GRP_CONFIG2'),
      GROUP_READ_BUFFERS: command('ERR_GRP_CONFIG3'),
      GROUP_FLAGS: command('ERR_GRP_CONFIG4'),
      DEVICE_NOT_ENABLED: command('ERR_DEV_NOTEN'),
      WQ_ALREADY_ENABLED: command('ERR_WQ_ENABLED'),
      WQ_SIZE: command('ERR_WQ_SIZE'),
      WQ_PRIORITY: command('ERR_WQ_PRIOR'),
      WQ_MODE: command('ERR_WQ_MODE'),
      WQ_BLOCK_ON_FAULT: command('ERR_BOF_EN'),
      WQ_PASID_ENABLE: command('ERR_PASID_EN'),
      WQ_MAX_BATCH: command('ERR_MAX_BATCH_SIZE'),
      WQ_MAX_TRANSFER: command('ERR_MAX_XFER_SIZE'),
      DISABLE_DEVICE_NOT_ENABLED: command('ERR_DIS_DEV_EN'),
      WQ_NOT_ENABLED: command('ERR_DEV_NOT_EN'),
      INVALID_INTERRUPT_INDEX: command('ERR_INVAL_INT_IDX'),
      NO_INTERRUPT_HANDLE: command('ERR_NO_HANDLE'),
    }),
  );
}

function registerFields(source: Header): Checked {
  const { Wqcfg } = tables;
  const wqcfg = (layout: BitRanges, byte: number): Checked =>
    bitFieldClaims(source, 'wqcfg', layout, { base: 8 * byte });
  return merge(
    bitFieldClaims(source, 'gen_cap_reg', registers.Gencap.layout),
    bitFieldClaims(source, 'wq_cap_reg', registers.Wqcap.layout),
    bitFieldClaims(source, 'group_cap_reg', registers.Grpcap.layout),
    bitFieldClaims(source, 'engine_cap_reg', registers.Engcap.layout),
    bitFieldClaims(source, 'offsets_reg', registers.Offsets0.layout),
    bitFieldClaims(source, 'offsets_reg', registers.Offsets1.layout, { base: 64 }),
    bitFieldClaims(source, 'gencfg_reg', registers.Gencfg.layout),
    bitFieldClaims(source, 'genctrl_reg', registers.Genctrl.layout),
    bitFieldClaims(source, 'gensts_reg', registers.Gensts.layout),
    bitFieldClaims(source, 'idxd_command_reg', registers.CmdReg.layout),
    bitFieldClaims(source, 'cmdsts_reg', registers.CmdstsReg.layout),
    bitFieldClaims(source, 'sw_err_reg', registers.Swerr0.layout),
    bitFieldClaims(source, 'sw_err_reg', registers.Swerr1.layout, { base: 64 }),
    bitFieldClaims(source, 'evlcfg_reg', registers.Evlcfg0.layout),
    bitFieldClaims(source, 'evlcfg_reg', registers.Evlcfg1.layout, { base: 64 }),
    bitFieldClaims(source, 'evl_status_reg', registers.Evlstatus.layout),
    bitFieldClaims(source, 'group_flags', tables.GrpcfgFlags.layout),
    bitFieldClaims(source, 'msix_perm', tables.MsixPermission.layout),
    wqcfg(tables.WqcfgSize.layout, Wqcfg.SIZE),
    wqcfg(tables.WqcfgThreshold.layout, Wqcfg.THRESHOLD),
    wqcfg(tables.WqcfgMode.layout, Wqcfg.MODE),
    wqcfg(tables.WqcfgLimits.layout, Wqcfg.LIMITS),
    wqcfg(tables.WqcfgOccupancyHandle.layout, Wqcfg.OCCUPANCY_HANDLE),
    wqcfg(tables.WqcfgOccupancyLimit.layout, Wqcfg.OCCUPANCY_LIMIT),
    wqcfg(tables.WqcfgState.layout, Wqcfg.STATE),
  );
}
