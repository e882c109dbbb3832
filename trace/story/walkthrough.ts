import type { EventRecord, Layer } from '../event.ts';
import { eventWords, timeText, wrap } from './text.ts';

/**
 * A line of the walkthrough. `text` is ready to print; `layer` says how to colour its margin. A
 * phase is printed as `<number>. <text>`.
 */
export type Line =
  | { readonly kind: 'phase'; readonly number: number; readonly text: string }
  | {
      readonly kind: 'event';
      readonly layer: Layer;
      readonly margin: string;
      readonly text: string;
    }
  | { readonly kind: 'more'; readonly text: string }
  | { readonly kind: 'fold'; readonly text: string };

export interface WalkthroughOptions {
  /** Columns; default 100. */
  readonly width?: number;
  /** Name the VM on each line (several run). */
  readonly withVm?: boolean;
}

const TIME_COLUMNS = 9;
const LAYER_COLUMNS = 6;
const MARGIN = TIME_COLUMNS + 1 + LAYER_COLUMNS + 1;
const DEEPEST = 14;

/** Depths are kept for this many of the latest events: causes are seldom older. */
const DEPTHS = 1 << 20;

/** How often an event of the same shape is told within a phase before it is only counted. */
const TOLD = 1;

/** The steps of the path itself: each of them is told, whoever takes it. */
const ALWAYS = new Set([
  'guest:program',
  'guest:iommu_sva_bind_device',
  'guest:iommu_sva_unbind_device',
  'iommu:attach_device_pasid',
  'iommu:replace_device_pasid',
  'iommu:detach_device_pasid',
]);

/** The levels of a walk belong together: a walk that is told is told whole. */
const WALK_LEVEL = 'vtd:walk_level';

/**
 * Fields whose value makes two events of one name different things to tell; those from `reason` on are how
 * it turned out, so that a refusal is never folded into the successes before it.
 */
const SHAPE_FIELDS = [
  'name',
  'register',
  'what',
  'change',
  'table',
  'level',
  'type',
  'operation',
  'handler',
  'command',
  'by',
  'unit',
  'reason',
  'status',
  'answer',
  'outcome',
  'code',
  'perm',
] as const;

/** Accesses to config space or to unnamed registers are one thing to tell, wherever they go. */
const INDIFFERENT = /(?<=^ECAM) .*|\+0x[0-9a-f]+$/;

/**
 * Tells a run as it happens: phases with their causal chains. Nothing in it is scripted: each line is
 * an event, indented under the event that caused it. What repeats within a phase is told once and
 * then counted.
 */
export class Walkthrough {
  readonly #print: (line: Line) => void;
  readonly #width: number;
  readonly #withVm: boolean;
  readonly #depths = new Uint8Array(DEPTHS);
  /** 1 where the event was told. */
  readonly #isTold = new Uint8Array(DEPTHS);
  /** How often each shape was told, by phase title, so that later processes' phases fold too. */
  readonly #told = new Map<string, Map<string, number>>();
  #folded = new Map<string, number>();
  #toldNow = new Map<string, number>();
  #phases = 0;
  #phaseNs = 0;

  constructor(print: (line: Line) => void, options: WalkthroughOptions = {}) {
    this.#print = print;
    this.#width = options.width ?? 100;
    this.#withVm = options.withVm ?? false;
  }

  /** Number of phases begun. */
  get phases(): number {
    return this.#phases;
  }

  add(record: EventRecord): void {
    const phase = phaseOf(record);
    if (phase !== undefined) this.#begin(phase.title, phase.who, record.ns);
    const parent = record.cause % DEPTHS;
    const depth = record.cause === 0 ? 0 : Math.min(this.#depths[parent]! + 1, DEEPEST);
    this.#depths[record.seq % DEPTHS] = depth;
    const tells = ALWAYS.has(record.def.name) || isRefusal(record) || this.#isNew(record, parent);
    this.#isTold[record.seq % DEPTHS] = tells ? 1 : 0;
    if (tells) {
      this.#tell(record, depth);
      return;
    }
    const name = record.def.name.slice(record.def.name.indexOf(':') + 1);
    this.#folded.set(name, (this.#folded.get(name) ?? 0) + 1);
  }

  /**
   * Whether an event shows something that this phase has not told yet. What a folded event caused is
   * folded with it: a line never stands under a cause that is not its own.
   */
  #isNew(record: EventRecord, parent: number): boolean {
    if (record.cause !== 0 && this.#isTold[parent] === 0) return false;
    if (record.def.name === WALK_LEVEL) return true;
    const shape = shapeOf(record);
    const told = this.#toldNow.get(shape) ?? 0;
    this.#toldNow.set(shape, told + 1);
    return told < TOLD;
  }

  /** Closes the last phase: what was folded in it is counted out. */
  end(): void {
    if (this.#folded.size === 0) return;
    const words = [...this.#folded].map(
      ([name, count], i, all) => `${count}\u00d7${name}${i + 1 < all.length ? ',' : ''}`,
    );
    const lines = wrap(['more of the same:', ...words], this.#width - MARGIN, 2);
    for (const text of lines) this.#print({ kind: 'fold', text: ' '.repeat(MARGIN) + text });
    this.#folded = new Map();
  }

  #begin(title: string, who: string, ns: number): void {
    this.end();
    this.#phases++;
    this.#phaseNs = ns;
    const told = this.#told.get(title) ?? new Map<string, number>();
    this.#told.set(title, told);
    this.#toldNow = told;
    const named = this.#withVm && who !== '' ? `${title} (${who})` : title;
    const text = `${named}, at ${ns} ns`;
    const indent = `${this.#phases}. `.length;
    const [first, ...rest] = wrap(text.split(/\s+/), this.#width - indent, 0);
    this.#print({ kind: 'phase', number: this.#phases, text: first ?? '' });
    for (const more of rest) this.#print({ kind: 'more', text: ' '.repeat(indent) + more });
  }

  #tell(record: EventRecord, depth: number): void {
    const { layer } = record.def;
    const words = eventWords(record, this.#withVm);
    const [first, ...rest] = wrap(words, this.#width - MARGIN - depth, 4);
    const pad = ' '.repeat(depth);
    this.#print({
      kind: 'event',
      layer,
      margin: `${this.#offset(record.ns)} ${layer.padEnd(LAYER_COLUMNS)} `,
      text: pad + (first ?? ''),
    });
    for (const text of rest) this.#print({ kind: 'more', text: ' '.repeat(MARGIN) + pad + text });
  }

  /** Virtual time since the phase began: what happens in one takes far less than a boot. */
  #offset(ns: number): string {
    return `+${timeText(ns - this.#phaseNs)}`.padStart(TIME_COLUMNS);
  }
}

/** A refusal, or a fault that the unit records, is never folded. */
function isRefusal({ values }: EventRecord): boolean {
  const { result, recorded } = values;
  return recorded === 1 || (typeof result === 'string' && /^-E/.test(result));
}

function shapeOf(record: EventRecord): string {
  let shape = record.def.name;
  for (const field of SHAPE_FIELDS) {
    const value = record.values[field];
    if (value !== undefined) shape += `|${String(value).replace(INDIFFERENT, '')}`;
  }
  const { descriptor } = record.values;
  if (typeof descriptor === 'string') shape += `|${descriptor.split(' ', 1)[0] ?? ''}`;
  return shape;
}

/** Events with which a phase begins: power-on, a machine, a guest, a program's step, the end. */
export function phaseOf(record: EventRecord): { title: string; who: string } | undefined {
  const { values } = record;
  const vm = String(values['vm'] ?? '');
  switch (record.def.name) {
    case 'engine:power_on':
      return { title: 'The host boots', who: '' };
    case 'vmm:start':
      return { title: 'The VMM builds a machine around the assigned device', who: vm };
    case 'guest:boot':
      return { title: 'The guest boots: it finds its IOMMU and the device', who: vm };
    case 'guest:program':
      return { title: `Program: ${String(values['step'])}`, who: `${vm} process ${values['pid']}` };
    case 'guest:power_off':
      return { title: 'The guest powers off; the VMM takes the machine apart', who: vm };
    case 'engine:settled':
      return { title: 'What is left', who: '' };
    default:
      return undefined;
  }
}
