import type { EventRecord } from '../event.ts';
import { eventWords, functionName } from '../story/text.ts';
import type { Layout } from './layout.ts';

/** Which events are wanted: each condition that is there must hold. */
export interface Filter {
  readonly layers?: readonly string[] | undefined;
  /** Names, whole or after the colon; `*` stands for any characters. */
  readonly names?: readonly string[] | undefined;
  readonly pasids?: readonly number[] | undefined;
  /** Functions: `00:01.0`. */
  readonly devices?: readonly string[] | undefined;
  /** Names of VMs; also of the virtual unit of one. */
  readonly vms?: readonly string[] | undefined;
  /** Words that the event as it is told must all contain, in any case. */
  readonly text?: string | undefined;
  /** Virtual time, both ends included. */
  readonly fromNs?: number | undefined;
  readonly toNs?: number | undefined;
}

/** A filter ready for use. */
export interface CompiledFilter {
  /** True: everything passes. */
  readonly all: boolean;
  /** Whether an event of this id can pass. */
  readonly mayPass: (id: number) => boolean;
  readonly matches: (record: EventRecord) => boolean;
  /** Layers and names in the filter that no event has: most likely a slip of the pen. */
  readonly unknown: readonly string[];
}

const DEVICE_KINDS = new Set(['sid']);
const DEVICE_FIELDS = new Set(['device', 'rid', 'sid']);
const VM_FIELDS = new Set(['vm', 'unit']);

/** A pattern with `*` as a regular expression for a whole name or the part after its colon. */
const glob = (pattern: string): RegExp =>
  new RegExp(
    `^(?:[^:]*:)?${pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`,
    'i',
  );

export function compileFilter(layouts: readonly Layout[], filter: Filter): CompiledFilter {
  const { layers, names, pasids, devices, vms, text, fromNs, toNs } = filter;
  const patterns = names?.map((name) => [name, glob(name)] as const);
  const passes = layouts.map((layout) => {
    if (layers !== undefined && !layers.includes(layout.layer)) return false;
    if (pasids !== undefined && !layout.fields.some(({ kind }) => kind === 'pasid')) {
      if (!layout.fields.some(({ name }) => name === 'pasid')) return false;
    }
    return patterns?.some(([, pattern]) => pattern.test(layout.name)) ?? true;
  });
  const ids = new Map(layouts.map(({ def }, id) => [def, id]));
  const byName = new Map(layouts.map(({ name }, id) => [name, id]));
  const words = (text ?? '').toLowerCase().split(/\s+/).filter(Boolean);
  const known = new Set(layouts.map(({ layer }) => layer as string));
  const functions = devices?.map(functionName);
  const mayPass = (id: number): boolean => passes[id] ?? false;
  const matches = (record: EventRecord): boolean => {
    const id = ids.get(record.def) ?? byName.get(record.def.name) ?? -1;
    if (!mayPass(id)) return false;
    if (fromNs !== undefined && record.ns < fromNs) return false;
    if (toNs !== undefined && record.ns > toNs) return false;
    const { values } = record;
    if (pasids !== undefined && !pasids.includes(Number(values['pasid']))) return false;
    if (functions !== undefined && !namesOne(record, functions, isDevice)) return false;
    if (vms !== undefined && !namesOne(record, vms, (field) => VM_FIELDS.has(field))) return false;
    return words.length === 0 || hasWords(record, words);
  };
  return {
    all: Object.values(filter).every((condition) => condition === undefined || condition === ''),
    mayPass,
    matches,
    unknown: [
      ...(layers ?? []).filter((layer) => !known.has(layer)),
      ...(patterns ?? [])
        .filter(([, pattern]) => !layouts.some(({ name }) => pattern.test(name)))
        .map(([name]) => name),
    ],
  };
}

const isDevice = (field: string, kind: string): boolean =>
  DEVICE_KINDS.has(kind) || DEVICE_FIELDS.has(field);

/** Whether one of the fields names one of these. */
function namesOne(
  { def, values }: EventRecord,
  wanted: readonly string[],
  looksAt: (field: string, kind: string) => boolean,
): boolean {
  for (const [field, kind] of Object.entries(def.fields)) {
    if (looksAt(field, kind) && wanted.includes(functionName(String(values[field] ?? '')))) {
      return true;
    }
  }
  return false;
}

function hasWords(record: EventRecord, words: readonly string[]): boolean {
  const { def } = record;
  const told = `${def.layer} ${def.name} ${eventWords(record, true).join(' ')}`.toLowerCase();
  return words.every((word) => told.includes(word));
}
