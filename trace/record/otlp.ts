import {
  type Attributes,
  type HrTime,
  trace as otel,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
} from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { type ReadableSpan, TracerProvider } from '@opentelemetry/sdk-trace';
import { type EventRecord, KINDS } from '../event.ts';
import { Recent } from '../recent.ts';
import { whoOf } from '../story/kernel-line.ts';
import { valueText } from '../story/text.ts';
import type { Recording } from './reader.ts';

/** Spans sent at once; the next are made when the collector has answered. */
const BATCH = 512;

/** Events are seldom caused by older ones: a span whose cause is older begins a tree of its own. */
const CAUSES_KEPT = 1 << 18;

/** How long a collector may take for a batch; one that is not there is tried for so long. */
const TIMEOUT_MS = 3000;

/** Events that one span may hold. */
const MOST_EVENTS = 10_000;

const NS_PER_S = 1_000_000_000;

/** What an exporter says of spans that were taken. */
const DONE = 0;

/** A collector that does not take what it is sent, in one line. */
export class OtlpError extends Error {}

export interface OtlpOptions {
  /** Where spans go: http://HOST:4318/v1/traces; without a path, /v1/traces is meant. */
  readonly url: string;
  /** Real time of the beginning of virtual time, in milliseconds since 1970. */
  readonly epochMs: number;
}

/**
 * Sends a recording to an OpenTelemetry collector: a span for each event that lasts, with its parent
 * the span that caused it; other events are span events of what caused them, or spans of no length.
 * Returns how many spans were sent.
 * @throws OtlpError; RecordingError where the recording is damaged
 */
export async function exportOtlp(recording: Recording, options: OtlpOptions): Promise<number> {
  const exporter = new OTLPTraceExporter({
    url: tracesUrl(options.url),
    timeoutMillis: TIMEOUT_MS,
  });
  const spans = new Spans(recording, options.epochMs);
  let sent = 0;
  try {
    for (const item of recording.items()) {
      if (item.kind === 'event') spans.event(item.record);
      else spans.end(item.begin, item.ns);
      if (spans.ended.length >= BATCH) sent += await send(exporter, spans.ended.splice(0));
    }
    spans.endAll(recording.ns);
    while (spans.ended.length > 0) sent += await send(exporter, spans.ended.splice(0, BATCH));
    return sent;
  } finally {
    await exporter.shutdown();
  }
}

/** A collector's address is often given without the path that the protocol names. */
function tracesUrl(text: string): string {
  const url = new URL(text);
  if (url.pathname === '/') url.pathname = '/v1/traces';
  return url.href;
}

function send(exporter: OTLPTraceExporter, spans: ReadableSpan[]): Promise<number> {
  return new Promise((resolve, reject) => {
    exporter.export(spans, ({ code, error }) => {
      if ((code as number) === DONE) resolve(spans.length);
      else reject(new OtlpError(error?.message ?? 'the collector refused the spans'));
    });
  });
}

/** Makes spans of events. */
class Spans {
  /** What is over and not sent yet. */
  readonly ended: ReadableSpan[] = [];
  readonly #tracer;
  readonly #epoch: HrTime;
  readonly #open = new Map<number, Span>();
  /** By event: the span that it is, or is in. */
  readonly #contexts = new Recent<number, SpanContext>(CAUSES_KEPT);

  constructor({ about }: Recording, epochMs: number) {
    const told: Record<string, string> = {};
    for (const [key, value] of Object.entries(about.meta.options)) {
      told[`vsva.${key}`] = String(value);
    }
    const done = (): Promise<void> => Promise.resolve();
    const provider = new TracerProvider({
      resource: resourceFromAttributes({
        'service.name': 'vsva',
        'vsva.command': about.meta.command,
        ...told,
      }),
      spanLimits: { eventCountLimit: MOST_EVENTS },
      spanProcessors: [
        {
          onStart: () => undefined,
          onEnd: (span) => this.ended.push(span),
          forceFlush: done,
          shutdown: done,
        },
      ],
    });
    this.#tracer = provider.getTracer('vsva', about.meta.program);
    this.#epoch = [Math.floor(epochMs / 1000), Math.round((epochMs % 1000) * 1e6)];
  }

  /** Events of the data path are too many for spans. */
  event(record: EventRecord): void {
    const { seq, cause, ns, def, span: lasts } = record;
    if (def.hot === true) return;
    const holder = this.#open.get(cause);
    if (lasts !== true && holder !== undefined) {
      holder.addEvent(def.name, attributesOf(record), this.#time(ns));
      this.#contexts.set(seq, holder.spanContext());
      return;
    }
    const parent = this.#contexts.get(cause);
    const context = parent === undefined ? ROOT_CONTEXT : otel.setSpanContext(ROOT_CONTEXT, parent);
    const span = this.#tracer.startSpan(
      def.name,
      { startTime: this.#time(ns), attributes: attributesOf(record) },
      context,
    );
    this.#contexts.set(seq, span.spanContext());
    if (lasts === true) this.#open.set(seq, span);
    else span.end(this.#time(ns));
  }

  end(begin: number, ns: number): void {
    this.#open.get(begin)?.end(this.#time(ns));
    this.#open.delete(begin);
  }

  endAll(ns: number): void {
    for (const begin of [...this.#open.keys()]) this.end(begin, ns);
  }

  #time(ns: number): HrTime {
    const nanos = this.#epoch[1] + (ns % NS_PER_S);
    const carried = Math.floor(nanos / NS_PER_S);
    return [this.#epoch[0] + Math.floor(ns / NS_PER_S) + carried, nanos % NS_PER_S];
  }
}

/** Words of 64 bits are text in hexadecimal: attributes are numbers of 53. */
function attributesOf(record: EventRecord): Attributes {
  const { seq, def, values } = record;
  const attributes: Attributes = {
    'vsva.seq': seq,
    'vsva.layer': def.layer,
    'vsva.who': whoOf(record),
  };
  for (const [field, kind] of Object.entries(def.fields)) {
    const value = values[field];
    if (value === undefined) continue;
    attributes[`vsva.${field}`] =
      KINDS[kind].value === 'number' ? Number(value) : valueText(kind, value);
  }
  return attributes;
}
