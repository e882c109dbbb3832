/** Ioctl arguments in one short text, for the trace. */
import {
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_DATA_VTD_S1,
  IOMMU_HWPT_FAULT_ID_VALID,
  IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  iommu_hwpt_vtd_s1,
  iommu_hwpt_vtd_s1_invalidate,
} from '../../uapi/iommufd.ts';
import type { FieldType, FieldValue, Struct } from '../../uapi/struct.ts';
import type { Mm } from '../mm.ts';

type FlagNames = readonly (readonly [bit: number, name: string])[];

const MAP: FlagNames = [
  [IOMMU_IOAS_MAP_FIXED_IOVA, 'FIXED_IOVA'],
  [IOMMU_IOAS_MAP_WRITEABLE, 'WRITEABLE'],
  [IOMMU_IOAS_MAP_READABLE, 'READABLE'],
];
const FLAGS: Readonly<Record<string, FlagNames>> = {
  iommu_ioas_map: MAP,
  iommu_ioas_copy: MAP,
  iommu_hwpt_alloc: [
    [IOMMU_HWPT_ALLOC_NEST_PARENT, 'NEST_PARENT'],
    [IOMMU_HWPT_ALLOC_DIRTY_TRACKING, 'DIRTY_TRACKING'],
    [IOMMU_HWPT_FAULT_ID_VALID, 'FAULT_ID_VALID'],
    [IOMMU_HWPT_ALLOC_PASID, 'PASID'],
  ],
  vfio_device_attach_iommufd_pt: [[1, 'PASID']],
  vfio_device_detach_iommufd_pt: [[1, 'PASID']],
};

/** Not told: sizes and padding. */
const HIDDEN = /^(size|argsz|__reserved2?|pad|cap_offset)$/;

/**
 * `pt_id=3 pasid=1 flags=PASID`: the fields that are not 0. Unreadable memory gives ''.
 *
 * @param bytes how much of the structure the caller has there
 */
export function describeArgument(mm: Mm, address: number, struct: Struct, bytes: number): string {
  const whole = new Uint8Array(struct.size);
  try {
    const length = Math.min(bytes, struct.size);
    whole.set(mm.copyFrom(BigInt(address), length));
  } catch {
    return '';
  }
  const values = struct.read(new DataView(whole.buffer));
  const texts: string[] = [];
  for (const [name, value] of Object.entries(values)) {
    if (HIDDEN.test(name) || Number(value) === 0 || Array.isArray(value)) continue;
    const names = name === 'flags' ? FLAGS[struct.name] : undefined;
    texts.push(`${name}=${names === undefined ? plain(value) : flagText(Number(value), names)}`);
  }
  const payload = PAYLOADS[struct.name];
  if (payload !== undefined && payload.type === values['data_type']) {
    const text = describePayload(mm, payload.struct, values['data_uptr']);
    if (text !== '') texts.push(`${payload.struct.name}{${text}}`);
  }
  return texts.join(' ');
}

/** Driver data behind `data_uptr`, by the type the caller names: where stage 1 crosses to the host. */
const PAYLOADS: Readonly<Record<string, { readonly type: number; readonly struct: Struct }>> = {
  iommu_hwpt_alloc: { type: IOMMU_HWPT_DATA_VTD_S1, struct: iommu_hwpt_vtd_s1 },
  iommu_hwpt_invalidate: {
    type: IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
    struct: iommu_hwpt_vtd_s1_invalidate,
  },
};

/** The (first) structure there. */
function describePayload(mm: Mm, struct: Struct, pointer: unknown): string {
  if (typeof pointer !== 'bigint' || pointer === 0n) return '';
  try {
    const bytes = mm.copyFrom(pointer, struct.size);
    const values = struct.read(new DataView(bytes.buffer, bytes.byteOffset, bytes.length));
    return Object.entries(values)
      .filter(([name]) => !HIDDEN.test(name))
      .map(([name, value]) => `${name}=${plain(value)}`)
      .join(' ');
  } catch {
    return '';
  }
}

/** 64-bit values are addresses and lengths. */
function plain(value: FieldValue<FieldType>): string {
  return typeof value === 'bigint' ? `0x${value.toString(16)}` : String(value);
}

function flagText(flags: number, names: FlagNames): string {
  const texts = names.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
  const rest = names.reduce((left, [bit]) => left & ~bit, flags);
  if (rest !== 0) texts.push(`0x${(rest >>> 0).toString(16)}`);
  return texts.join('|');
}
