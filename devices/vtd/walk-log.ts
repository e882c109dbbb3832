import { vtd } from '../../trace/catalogue/vtd.ts';
import type { Values } from '../../trace/event.ts';
import type { Tracer } from '../../trace/tracer.ts';

type Level = Values<typeof vtd.walkLevel.fields>;

/** An entry that a walk read: which table, its level (0: not a page table), byte address, content. */
export type WalkedEntry = Readonly<Pick<Level, 'table' | 'level' | 'address' | 'entry'>>;

/**
 * The entries that a traced walk reads, kept until the walk's own event is out so that they hang
 * under it. Off unless a walk was begun with somebody listening.
 */
export class WalkLog {
  /** Chosen once per walk. */
  on = false;
  #levels: Level[] = [];
  readonly #trace: Tracer;
  readonly #unit: string;

  constructor(trace: Tracer, unit: string) {
    this.#trace = trace;
    this.#unit = unit;
  }

  /** The entries of the last walk that was begun with somebody listening. */
  get entries(): readonly WalkedEntry[] {
    return this.#levels;
  }

  begin(): void {
    this.on = this.#trace.on;
    if (this.on) this.#levels = [];
  }

  /** One entry; call only while `on`. `level` 0: not a page table. */
  level(table: string, level: number, address: number, entry: bigint, decoded: string): void {
    this.#levels.push({ unit: this.#unit, table, level, address, entry, decoded });
  }

  /** Emits the walk and its levels beneath it. */
  end(walk: Omit<Values<typeof vtd.walk.fields>, 'unit'>): void {
    if (!this.on) return;
    this.on = false;
    using _span = this.#trace.span(vtd.walk, { unit: this.#unit, ...walk });
    for (const level of this.#levels) this.#trace.emit(vtd.walkLevel, level);
  }
}

/** A 64-bit entry from its int32 halves. */
export function entryOf(lo: number, hi: number): bigint {
  return (BigInt(hi >>> 0) << 32n) | BigInt(lo >>> 0);
}
