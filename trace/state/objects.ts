import type { EventRecord } from '../event.ts';
import { functionName, num, text } from './fields.ts';
import { reducer, setNewest } from './reducer.ts';

/** An iommufd object: IOAS, HWPT_PAGING, HWPT_NESTED, DEVICE, FAULT, VIOMMU... */
export interface Iommufd {
  /** The process that opened /dev/iommu. */
  readonly pid: number;
  readonly id: number;
  readonly type: string;
  readonly detail: string;
  /** The object that it is of or on: the IOAS of a paging HWPT, its parent for a nested one; 0: none. */
  readonly parent: number;
  /** The event that made it. */
  readonly seq: number;
}

/** An area of an IOAS; addresses in hexadecimal. */
export interface IoasArea {
  readonly iova: string;
  readonly bytes: number;
  /** Where it begins in the memory of the caller or in the file. */
  readonly base: string;
  readonly perm: string;
  readonly seq: number;
}

/** A stretch of I/O virtual addresses of a domain, as mapped; hexadecimal. */
export interface Mapping {
  readonly iova: string;
  readonly bytes: number;
  readonly paddr: string;
  readonly leaves: string;
}

/** What a function's requests go to without and with a PASID: the domain's label and its HWPT. */
export interface Attachment {
  readonly device: string;
  /** -1: requests without a PASID. */
  readonly pasid: number;
  readonly domain: string;
  /** 0: no HWPT, it is a domain of the kernel's own. */
  readonly hwpt: number;
  readonly seq: number;
  readonly ns: number;
}

export interface ObjectsState {
  /** By `pid/id`. */
  readonly objects: ReadonlyMap<string, Iommufd>;
  /** By `pid/ioas`, then by first address. */
  readonly areas: ReadonlyMap<string, ReadonlyMap<string, IoasArea>>;
  /** By `device/pasid`. */
  readonly attachments: ReadonlyMap<string, Attachment>;
  /** By domain, then oldest first; a run of adjacent mappings is one. */
  readonly mappings: ReadonlyMap<string, readonly Mapping[]>;
}

interface Draft extends ObjectsState {
  objects: Map<string, Iommufd>;
  areas: Map<string, ReadonlyMap<string, IoasArea>>;
  attachments: Map<string, Attachment>;
  mappings: Map<string, readonly Mapping[]>;
}

export const EMPTY_OBJECTS: ObjectsState = {
  objects: new Map(),
  areas: new Map(),
  attachments: new Map(),
  mappings: new Map(),
};

const MOST_OBJECTS = 4096;
const MOST_ATTACHMENTS = 4096;
const MOST_DOMAINS = 256;
const MOST_MAPPINGS = 1024;
const MOST_IOAS = 256;
const MOST_AREAS = 1024;

const word = ({ values }: EventRecord, field: string): bigint => BigInt(values[field] ?? 0);
const hexOf = (value: bigint): string => `0x${value.toString(16)}`;

function attach(draft: Draft, r: EventRecord, pasid: number, domain: string): void {
  const device = functionName(text(r, 'device'));
  const attachment = {
    device,
    pasid,
    domain,
    hwpt: num(r, 'hwpt'),
    seq: r.seq,
    ns: r.ns,
  };
  setNewest(draft.attachments, `${device}/${pasid}`, attachment, MOST_ATTACHMENTS);
}

export const reduceObjects = reducer<ObjectsState, Draft>(
  {
    'iommufd:object_new': (draft, r) => {
      const [pid, id] = [num(r, 'pid'), num(r, 'id')];
      const object = {
        pid,
        id,
        type: text(r, 'type'),
        detail: text(r, 'detail'),
        parent: num(r, 'parent'),
        seq: r.seq,
      };
      setNewest(draft.objects, `${pid}/${id}`, object, MOST_OBJECTS);
    },
    'iommufd:object_destroy': (draft, r) => {
      draft.objects.delete(`${num(r, 'pid')}/${num(r, 'id')}`);
    },
    'iommufd:area_new': (draft, r) => {
      const key = `${num(r, 'pid')}/${num(r, 'ioas')}`;
      const areas = new Map(draft.areas.get(key));
      const iova = hexOf(word(r, 'iova'));
      const area = {
        iova,
        bytes: num(r, 'bytes'),
        base: hexOf(word(r, 'base')),
        perm: text(r, 'perm'),
        seq: r.seq,
      };
      setNewest(areas, iova, area, MOST_AREAS);
      setNewest(draft.areas, key, areas, MOST_IOAS);
    },
    'iommufd:area_remove': (draft, r) => {
      const key = `${num(r, 'pid')}/${num(r, 'ioas')}`;
      const areas = new Map(draft.areas.get(key));
      areas.delete(hexOf(word(r, 'iova')));
      if (areas.size === 0) draft.areas.delete(key);
      else draft.areas.set(key, areas);
    },
    'iommu:attach_device_to_domain': (draft, r) => attach(draft, r, -1, text(r, 'domain')),
    'iommu:attach_device_pasid': (draft, r) => attach(draft, r, num(r, 'pasid'), text(r, 'domain')),
    'iommu:replace_device_pasid': (draft, r) => attach(draft, r, num(r, 'pasid'), text(r, 'to')),
    'iommu:detach_device_pasid': (draft, r) => {
      draft.attachments.delete(`${functionName(text(r, 'device'))}/${num(r, 'pasid')}`);
    },
    'iommu:map': (draft, r) => {
      const domain = text(r, 'domain');
      const more = {
        iova: hexOf(word(r, 'iova')),
        bytes: num(r, 'bytes'),
        paddr: hexOf(word(r, 'paddr')),
        leaves: text(r, 'leaves'),
      };
      const mappings = [...(draft.mappings.get(domain) ?? []), more].slice(-MOST_MAPPINGS);
      setNewest(draft.mappings, domain, mappings, MOST_DOMAINS);
    },
    'iommu:unmap': (draft, r) => {
      const domain = text(r, 'domain');
      const from = word(r, 'iova');
      const to = from + word(r, 'bytes');
      const left = (draft.mappings.get(domain) ?? []).flatMap((one) => without(one, from, to));
      if (left.length === 0) draft.mappings.delete(domain);
      else draft.mappings.set(domain, left);
    },
  },
  ({ objects, areas, attachments, mappings }) => ({
    objects: new Map(objects),
    areas: new Map(areas),
    attachments: new Map(attachments),
    mappings: new Map(mappings),
  }),
);

/** What of a mapping lies outside [from, to). */
function without(mapping: Mapping, from: bigint, to: bigint): Mapping[] {
  const first = BigInt(mapping.iova);
  const end = first + BigInt(mapping.bytes);
  if (to <= first || from >= end) return [mapping];
  const parts: Mapping[] = [];
  if (from > first) parts.push({ ...mapping, bytes: Number(from - first) });
  if (to < end) {
    const paddr = hexOf(BigInt(mapping.paddr) + (to - first));
    parts.push({ ...mapping, iova: hexOf(to), paddr, bytes: Number(end - to) });
  }
  return parts;
}
