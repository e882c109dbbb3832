import type { EventRecord, Layer } from '../../trace/event.ts';
import { functionName, num, text } from '../../trace/state/fields.ts';
import { sentenceOf } from '../../trace/state/notable.ts';
import { eventWords, timeText } from '../../trace/story/text.ts';
import { phaseOf } from '../../trace/story/walkthrough.ts';
import type { Model } from './model.ts';
import { decodeEntry } from './pasid-entry.ts';

/** A line of a phase's page. */
export interface PageLine {
  readonly kind: 'heading' | 'sentence' | 'event' | 'change' | 'field' | 'source' | 'more';
  readonly text: string;
  readonly layer?: Layer;
  /** It went wrong. */
  readonly bad?: true;
  /** The event it is about, 0 for none. */
  readonly seq: number;
}

/** A phase, told whole: what happened, what changed, what caused what, where to read on. */
export interface Page {
  readonly title: string;
  /** 1 for the first. */
  readonly number: number;
  readonly events: number;
  readonly ns: number;
  /** The beginning is not kept any more. */
  readonly cut: boolean;
  readonly lines: readonly PageLine[];
}

/** Steps of the path that the tree of causes tells; the rest is in the trace. */
const TOLD =
  /^(guest:(?!irq|qi_submit|program$)|iommu|intel_iommu:(pasid|context)|syscalls:sys_enter_ioctl$|vmm:|kvm:kvm_msi_set_irq$|dsa:(?!ats|msix|dev_tlb)|vtd:(fault|page_|inv_queue_error))/;

/** Lines of the tree at most, and of one kind of event. */
const MOST_TOLD = 160;
const MOST_OF_KIND = 3;
const DEEPEST = 8;
const MOST_SOURCES = 24;

const EMPTY_PAGE: Page = {
  title: 'Nothing has happened yet',
  number: 0,
  events: 0,
  ns: 0,
  cut: false,
  lines: [],
};

/** The phase that the last event belongs to. */
export function pageOf({ trace, run }: Model): Page {
  const { events } = trace;
  const last = events.at(-1);
  if (last === undefined) return EMPTY_PAGE;
  const from = events.findLastIndex((record) => phaseOf(record) !== undefined);
  const phase = events.slice(Math.max(0, from));
  const begin = phase[0]!;
  const { title, who } = phaseOf(begin) ?? { title: run.phase, who: '' };
  return {
    title: who === '' ? title : `${title} (${who})`,
    number: run.phases,
    events: phase.length,
    ns: last.ns - begin.ns,
    cut: from < 0,
    lines: [...happened(phase), ...changes(phase), ...tree(phase), ...sources(phase)],
  };
}

const heading = (told: string): PageLine => ({ kind: 'heading', text: told, seq: 0 });

function happened(phase: readonly EventRecord[]): PageLine[] {
  const lines: PageLine[] = [];
  for (const record of phase) {
    const sentence = sentenceOf(record);
    if (sentence === undefined || record.def.name === 'guest:program') continue;
    const { weight, text: told } = sentence;
    const bad = weight === 'bad' && ({ bad: true } as const);
    lines.push({ kind: 'sentence', text: told, seq: record.seq, layer: record.def.layer, ...bad });
  }
  if (lines.length === 0) return [];
  return [heading('What happened'), ...folded(lines)];
}

/** Neighbours that differ in numbers only are one line with their count. */
function folded(lines: readonly PageLine[]): PageLine[] {
  const all: { line: PageLine; shape: string; times: number }[] = [];
  for (const line of lines) {
    const shape = line.text.replaceAll(/0x[0-9a-f]+|\d+/gi, '#');
    const last = all.at(-1);
    if (last?.shape === shape) {
      last.line = line;
      last.times++;
    } else all.push({ line, shape, times: 1 });
  }
  return all.map(({ line, times }) =>
    times === 1 ? line : { ...line, text: `${line.text} (×${times})` },
  );
}

const WRITES: ReadonlySet<string> = new Set(['intel_iommu:pasid_entry', 'guest:pasid_entry']);

function changes(phase: readonly EventRecord[]): PageLine[] {
  const lines = phase.flatMap((record) => (WRITES.has(record.def.name) ? entryChange(record) : []));
  return lines.length === 0
    ? []
    : [heading('What changed in the tables (before → after)'), ...lines];
}

function entryChange(record: EventRecord): PageLine[] {
  const { seq, def, values } = record;
  const words = (prefix: string): bigint[] =>
    [0, 1, 2].map((i) => BigInt(values[`${prefix}${i}`] ?? 0));
  const [before, after] = [words('old'), words('qw')];
  const owner =
    def.layer === 'guest'
      ? `${text(record, 'vm')}’s own table`
      : `the host’s table of ${functionName(text(record, 'device'))}`;
  const title = `PASID ${num(record, 'pasid')} in ${owner}: ${text(record, 'change')}`;
  const lines: PageLine[] = [{ kind: 'change', text: title, layer: def.layer, seq }];
  after.forEach((word, i) => {
    const was = before[i]!;
    if (word === was) return;
    const bits = (word ^ was).toString(2).replaceAll('0', '').length;
    lines.push({
      kind: 'field',
      text: `bits ${64 * i + 63}:${64 * i}  ${padded(was)} → ${padded(word)}  * ${bits} changed`,
      seq,
    });
  });
  for (const { field, value, was } of decodeEntry(after, before)) {
    if (value === was) continue;
    const told = field.told ?? String;
    lines.push({
      kind: 'field',
      text: `* ${field.name} (${field.meaning}): ${told(was)} → ${told(value)}`,
      seq,
    });
  }
  return lines;
}

const padded = (word: bigint): string => `0x${word.toString(16).padStart(16, '0')}`;

/** What caused what, as far as it is the path itself; what repeats is counted. */
function tree(phase: readonly EventRecord[]): PageLine[] {
  const depths = new Map<number, number>();
  const told = new Map<string, number>();
  const lines: PageLine[] = [];
  let left = 0;
  for (const record of phase) {
    const { def, seq, cause, ns } = record;
    const above = depths.get(cause);
    if (!TOLD.test(def.name)) {
      if (above !== undefined) depths.set(seq, above);
      continue;
    }
    const depth = Math.min(DEEPEST, above === undefined ? 0 : above + 1);
    depths.set(seq, depth);
    const times = (told.get(def.name) ?? 0) + 1;
    told.set(def.name, times);
    if (times > MOST_OF_KIND || lines.length >= MOST_TOLD) {
      left++;
      continue;
    }
    const branch = depth === 0 ? '' : `${'  '.repeat(depth - 1)}└ `;
    const since = `+${timeText(ns - phase[0]!.ns)}`.padStart(9);
    const words = eventWords(record, false).join(' ');
    lines.push({ kind: 'event', text: `${since} ${branch}${words}`, layer: def.layer, seq });
  }
  if (lines.length === 0) return [];
  const more: PageLine[] =
    left === 0 ? [] : [{ kind: 'more', text: `${left} more of the same: see the trace`, seq: 0 }];
  return [heading('What caused what'), ...lines, ...more];
}

function sources(phase: readonly EventRecord[]): PageLine[] {
  const found = new Map<string, EventRecord>();
  for (const record of phase) {
    const { name, source } = record.def;
    if (TOLD.test(name) && !found.has(source) && found.size < MOST_SOURCES) {
      found.set(source, record);
    }
  }
  const lines = Array.from(
    found,
    ([source, { def, seq }]): PageLine => ({
      kind: 'source',
      text: `${def.name}: ${source}`,
      layer: def.layer,
      seq,
    }),
  );
  return lines.length === 0 ? [] : [heading('Where to read on'), ...lines];
}
