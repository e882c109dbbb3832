import { LAYERS, type Layer } from '../event.ts';
import { timeText } from '../story/text.ts';
import { byId } from './dom.ts';
import { type Model, placeOf } from './model.ts';

/** The storeys from top to bottom, the harness last. */
const LANES: readonly Layer[] = LAYERS;
const MARGIN = 64;
const HEAD = 18;

/** Events across the picture, when it is not zoomed. */
const SPAN = 400;
const LEAST_SPAN = 8;

/**
 * Lanes of the last events, with an arrow from each cause to its effect. Events stand in their order,
 * or where virtual time puts them.
 */
export class Timeline {
  readonly #model: Model;
  readonly #canvas: HTMLCanvasElement;
  /** The last event in view, and how many; `end` undefined: the newest. */
  #end: number | undefined;
  #span = SPAN;
  byTime = false;
  /** As long as neither the scheme nor the style changes. */
  #palette: ((name: string) => string) | undefined;

  constructor(model: Model) {
    this.#model = model;
    this.#canvas = byId('timeline').querySelector('canvas')!;
    model.onChange(() => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.#canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.#palette = undefined;
      this.draw();
    });
    this.#listen();
  }

  /** Shows fewer (factor < 1) or more events around the selected one. */
  zoom(factor: number): void {
    const { events } = this.#model;
    const most = Math.max(SPAN, events.length);
    const before = this.#window();
    const centre = placeOf(events, this.#model.selected);
    this.#span = Math.min(Math.max(LEAST_SPAN, Math.round(this.#span * factor)), most);
    const share = (centre - before.from) / Math.max(1, before.to - before.from);
    const inView = share >= 0 && share <= 1;
    this.#end = inView ? Math.round(centre + (1 - share) * this.#span) : before.to;
    this.draw();
  }

  /** Moves along by a share of what is seen. */
  pan(share: number): void {
    this.#end = this.#window().to + Math.round(share * this.#span);
    this.draw();
  }

  #window(): { from: number; to: number } {
    const { length } = this.#model.events;
    const end = this.#end === undefined || this.#end >= length ? length : this.#end;
    if (end === length) this.#end = undefined;
    const to = Math.max(end, Math.min(length, this.#span));
    return { from: Math.max(0, to - this.#span), to };
  }

  /** Brings the selected event into view. */
  reveal(): void {
    const at = placeOf(this.#model.events, this.#model.selected);
    const { from, to } = this.#window();
    if (at < from || at >= to) this.#end = at + Math.ceil(this.#span / 2);
  }

  #listen(): void {
    const canvas = this.#canvas;
    canvas.addEventListener(
      'wheel',
      (event) => {
        event.preventDefault();
        if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
          this.pan((event.deltaX || event.deltaY) / 1000);
        } else this.zoom(event.deltaY > 0 ? 1.25 : 0.8);
      },
      { passive: false },
    );
    let dragged: { x: number; to: number; moved: boolean } | undefined;
    canvas.addEventListener('pointerdown', (event) => {
      canvas.setPointerCapture(event.pointerId);
      dragged = { x: event.offsetX, to: this.#window().to, moved: false };
    });
    canvas.addEventListener('pointermove', (event) => {
      if (dragged === undefined) return;
      const by = dragged.x - event.offsetX;
      if (Math.abs(by) > 4) dragged.moved = true;
      if (!dragged.moved) return;
      this.#end = dragged.to + Math.round((by / (canvas.clientWidth - MARGIN)) * this.#span);
      this.draw();
    });
    canvas.addEventListener('pointerup', (event) => {
      if (dragged?.moved === false) this.#pick(event.offsetX, event.offsetY);
      dragged = undefined;
    });
  }

  /** Selects what is nearest to where the user pointed. */
  #pick(x: number, y: number): void {
    const { events } = this.#model;
    const { from, to } = this.#window();
    const lane = Math.floor(((y - HEAD) / (this.#canvas.clientHeight - HEAD)) * LANES.length);
    let best: number | undefined;
    let distance = 24;
    for (let i = from; i < to; i++) {
      const record = events[i]!;
      const off = Math.abs(this.#x(i, from, to) - x) + (LANES[lane] === record.def.layer ? 0 : 16);
      if (off < distance) {
        distance = off;
        best = record.seq;
      }
    }
    if (best !== undefined) this.#model.select(best);
  }

  #x(index: number, from: number, to: number): number {
    const width = this.#canvas.clientWidth - MARGIN - 12;
    if (!this.byTime) return MARGIN + ((index - from + 0.5) / Math.max(1, to - from)) * width;
    const { events } = this.#model;
    const first = events[from]!.ns;
    const length = events[to - 1]!.ns - first;
    return MARGIN + 4 + (length === 0 ? 0.5 : (events[index]!.ns - first) / length) * width;
  }

  draw(): void {
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    if (width === 0) return;
    const scale = devicePixelRatio;
    if (
      canvas.width !== Math.round(width * scale) ||
      canvas.height !== Math.round(height * scale)
    ) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const context = canvas.getContext('2d')!;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, width, height);
    this.#palette ??= palette();
    const colour = this.#palette;
    const y = (layer: Layer): number =>
      HEAD + ((LANES.indexOf(layer) + 0.5) / LANES.length) * (height - HEAD);
    context.font = '11px system-ui, sans-serif';
    context.textBaseline = 'middle';
    for (const layer of LANES) {
      context.fillStyle = colour(layer);
      context.fillText(layer, 8, y(layer));
      context.strokeStyle = colour('line');
      context.beginPath();
      context.moveTo(MARGIN, y(layer));
      context.lineTo(width, y(layer));
      context.stroke();
    }
    const { events, selected } = this.#model;
    const { from, to } = this.#window();
    canvas.dataset['from'] = String(events[from]?.seq ?? 0);
    canvas.dataset['to'] = String(events[to - 1]?.seq ?? 0);
    if (from === to) return;
    const chain = this.#chain();
    this.#spans(context, from, to, y, colour);
    const at = (index: number): number => this.#x(index, from, to);
    for (let i = from; i < to; i++) {
      const record = events[i]!;
      const cause = placeOf(events, record.cause);
      if (record.cause === 0 || events[cause]?.seq !== record.cause) continue;
      const lit = chain.has(record.seq) && chain.has(record.cause);
      context.strokeStyle = lit ? colour('accent') : colour('line');
      context.lineWidth = lit ? 2 : 1;
      context.beginPath();
      const x0 = Math.max(MARGIN, at(Math.max(cause, from)));
      const y0 = y(events[cause].def.layer);
      const [x1, y1] = [at(i), y(record.def.layer)];
      context.moveTo(x0, y0);
      context.bezierCurveTo((x0 + x1) / 2, y0, (x0 + x1) / 2, y1, x1, y1);
      context.stroke();
    }
    for (let i = from; i < to; i++) {
      const { seq, def, span } = events[i]!;
      const lit = chain.has(seq);
      const half = seq === selected ? 6 : lit ? 4.5 : 3;
      context.fillStyle = colour(def.layer);
      context.beginPath();
      if (span === true) context.rect(at(i) - half, y(def.layer) - half, 2 * half, 2 * half);
      else context.arc(at(i), y(def.layer), half, 0, 2 * Math.PI);
      context.fill();
      if (seq !== selected) continue;
      context.strokeStyle = colour('ink');
      context.lineWidth = 2;
      context.stroke();
    }
    this.#names(context, from, to, y, colour);
    context.fillStyle = colour('faint');
    const [first, last] = [events[from]!, events[to - 1]!];
    context.textAlign = 'left';
    context.fillText(`#${first.seq}  ${timeText(first.ns)}`, MARGIN, 9);
    context.textAlign = 'right';
    context.fillText(`${timeText(last.ns)}  #${last.seq}`, width - 8, 9);
    context.textAlign = 'left';
  }

  /** Spans as slices, from the event that begins one to the last before its end. */
  #spans(
    context: CanvasRenderingContext2D,
    from: number,
    to: number,
    y: (layer: Layer) => number,
    colour: (name: string) => string,
  ): void {
    const { events, ends } = this.#model;
    context.globalAlpha = 0.22;
    for (let i = from; i < to; i++) {
      const { seq, def, span } = events[i]!;
      const last = span === true ? ends.get(seq) : undefined;
      if (last === undefined || last === seq) continue;
      const end = Math.min(placeOf(events, last), to - 1);
      const [x0, x1] = [this.#x(i, from, to), this.#x(end, from, to)];
      context.fillStyle = colour(def.layer);
      context.beginPath();
      context.roundRect(x0 - 5, y(def.layer) - 8, x1 - x0 + 10, 16, 5);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  /** What events are called, where the next one of the lane leaves room. */
  #names(
    context: CanvasRenderingContext2D,
    from: number,
    to: number,
    y: (layer: Layer) => number,
    colour: (name: string) => string,
  ): void {
    const { events } = this.#model;
    const next = new Map<Layer, number>();
    let named = 0;
    for (let i = to - 1; i >= from; i--) {
      const { def } = events[i]!;
      const x = this.#x(i, from, to);
      const room = (next.get(def.layer) ?? this.#canvas.clientWidth) - x - 16;
      next.set(def.layer, x);
      const name = def.name.slice(def.name.indexOf(':') + 1);
      if (room < 30 || context.measureText(name).width > room) continue;
      context.fillStyle = colour(def.layer);
      context.fillText(name, x + 9, y(def.layer) - 9);
      named++;
    }
    this.#canvas.dataset['named'] = String(named);
  }

  /** The selected event and all that led to it, as far as it is here. */
  #chain(): Set<number> {
    const chain = new Set<number>();
    for (let record = this.#model.current; record !== undefined && !chain.has(record.seq); ) {
      chain.add(record.seq);
      record = this.#model.event(record.cause);
    }
    return chain;
  }
}

/** What a colour of the style sheet is now, light or dark. */
function palette(): (name: string) => string {
  const probe = document.createElement('i');
  document.body.append(probe);
  const known = new Map<string, string>();
  for (const name of ['line', 'ink', 'faint', 'accent', ...LANES]) {
    probe.style.color = `var(--${name})`;
    known.set(name, getComputedStyle(probe).color);
  }
  probe.remove();
  return (name) => known.get(name) ?? '';
}
