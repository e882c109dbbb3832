import type { Attachment, Iommufd, ObjectsState } from '../../trace/state/objects.ts';
import type { PasidsState } from '../../trace/state/pasids.ts';

/** A line of the tree of objects. */
export interface ObjectRow {
  readonly depth: number;
  readonly kind: 'process' | 'object' | 'area' | 'attachment' | 'kernel';
  readonly title: string;
  readonly detail: string;
  /** Who refers to it. */
  readonly users: string;
  /** The event that made it, 0 where none is known. */
  readonly seq: number;
}

const MOST_ROWS = 4096;

/** Areas of an IOAS that have a line each. */
const MOST_AREAS = 64;

const FAULT_QUEUE = /\bFAULT (\d+)\b/;

/** The objects of each process: what hangs on what, and what is attached to it. */
export function objectRows(state: ObjectsState, pasids: PasidsState): ObjectRow[] {
  const rows: ObjectRow[] = [];
  const pids = new Set(Array.from(state.objects.values(), ({ pid }) => pid));
  for (const pid of pids) {
    const mine = [...state.objects.values()].filter((object) => object.pid === pid);
    const vm = pasids.vmOfPid.get(pid);
    const detail = `${mine.length} objects`;
    const title = vm === undefined ? `process ${pid}` : `process ${pid}, the VMM of ${vm}`;
    rows.push({ depth: 0, kind: 'process', title, detail, users: '', seq: 0 });
    const ids = new Set(mine.map(({ id }) => id));
    for (const object of mine) {
      if (object.parent === 0 || !ids.has(object.parent)) branch(rows, state, mine, object, 1);
    }
  }
  const own = [...state.attachments.values()].filter(({ hwpt }) => hwpt === 0);
  if (own.length > 0) {
    const title = 'domains of the kernel’s own';
    rows.push({ depth: 0, kind: 'kernel', title, detail: '', users: '', seq: 0 });
    for (const attachment of own) rows.push(attached(attachment, 1));
  }
  return rows.slice(0, MOST_ROWS);
}

/** Deeper there is nothing: a parent is made before its children. */
const DEEPEST = 16;

function branch(
  rows: ObjectRow[],
  state: ObjectsState,
  mine: readonly Iommufd[],
  object: Iommufd,
  depth: number,
): void {
  const { pid, id, type, detail, seq } = object;
  if (depth > DEEPEST || rows.length >= MOST_ROWS) return;
  const attachments = attachmentsOf(state, mine, object);
  const children = mine.filter(({ parent }) => parent === id);
  const users = usersOf(object, mine, children, attachments);
  rows.push({ depth, kind: 'object', title: `${type} ${id}`, detail, users, seq });
  const areas = [...(state.areas.get(`${pid}/${id}`)?.values() ?? [])];
  for (const { iova, bytes, base, perm, seq: at } of areas.slice(0, MOST_AREAS)) {
    const last = `0x${(BigInt(iova) + BigInt(bytes) - 1n).toString(16)}`;
    rows.push({
      depth: depth + 1,
      kind: 'area',
      title: `area ${iova}..${last}`,
      detail: `${perm} from ${base}`,
      users: '',
      seq: at,
    });
  }
  if (areas.length > MOST_AREAS) {
    const title = `${areas.length - MOST_AREAS} more areas`;
    rows.push({ depth: depth + 1, kind: 'area', title, detail: '', users: '', seq: 0 });
  }
  for (const attachment of attachments) rows.push(attached(attachment, depth + 1));
  for (const child of children) branch(rows, state, mine, child, depth + 1);
}

/** HWPT numbers are the process's own: an attachment is its when the function is. */
function attachmentsOf(
  state: ObjectsState,
  mine: readonly Iommufd[],
  { id, type }: Iommufd,
): Attachment[] {
  if (!type.startsWith('HWPT')) return [];
  const devices = new Set(
    mine
      .filter((object) => object.type === 'DEVICE')
      .map(({ detail }) => detail.replace(/^0000:/, '')),
  );
  return [...state.attachments.values()].filter(
    ({ hwpt, device }) => hwpt === id && devices.has(device),
  );
}

function usersOf(
  { id, type }: Iommufd,
  mine: readonly Iommufd[],
  children: readonly Iommufd[],
  attachments: readonly Attachment[],
): string {
  const names = children.map((child) => `${child.type} ${child.id}`);
  if (type === 'FAULT') {
    for (const object of mine) {
      if (Number(FAULT_QUEUE.exec(object.detail)?.[1]) === id) {
        names.push(`${object.type} ${object.id}`);
      }
    }
  }
  for (const { device, pasid } of attachments) {
    names.push(pasid < 0 ? device : `${device} PASID ${pasid}`);
  }
  return names.join(', ');
}

const attached = ({ device, pasid, domain, seq }: Attachment, depth: number): ObjectRow => ({
  depth,
  kind: 'attachment',
  title: pasid < 0 ? `${device} without PASID` : `${device} PASID ${pasid}`,
  detail: `domain ${domain}`,
  users: '',
  seq,
});
