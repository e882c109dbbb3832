/** The OTLP export, against a collector that keeps what it is sent. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import test from 'ava';
import { exportOtlp, OtlpError } from '../../../trace/record/otlp.ts';
import { Recording } from '../../../trace/record/reader.ts';
import { recorded, wholeRun } from '../runs.ts';

interface Attribute {
  readonly key: string;
  readonly value: { readonly intValue?: number | string; readonly stringValue?: string };
}

interface SpanJson {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly Attribute[];
  readonly events: readonly { readonly name: string; readonly attributes: readonly Attribute[] }[];
}

interface Request {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly { readonly spans: readonly SpanJson[] }[];
  }[];
}

/** A collector that answers with the status. */
async function collector(status = 200) {
  const requests: Request[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => {
      body += text;
    });
    request.on('end', () => {
      requests.push(JSON.parse(body) as Request);
      response.writeHead(status, { 'content-type': 'application/json' }).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return { requests, url: `http://127.0.0.1:${port}/v1/traces`, close: () => server.close() };
}

const run = wholeRun();
const EPOCH_MS = 1_700_000_000_123;

const seqOf = ({ attributes }: { readonly attributes: readonly Attribute[] }): number =>
  Number(attributes.find(({ key }) => key === 'vsva.seq')?.value.intValue);

test('every event arrives once, as a span or within one, under what caused it', async (t) => {
  const { path, remove } = recorded(run.frames);
  const { requests, url, close } = await collector();
  const recording = Recording.open(path);
  try {
    const sent = await exportOtlp(recording, { url, epochMs: EPOCH_MS });
    const resources = requests.flatMap(({ resourceSpans }) => resourceSpans);
    const spans = resources.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans));
    t.is(spans.length, sent);
    t.true(requests.length > 1, 'in batches');
    const service = resources[0]!.resource.attributes.find(({ key }) => key === 'service.name');
    t.is(service?.value.stringValue, 'vsva');
    const seqs = spans.flatMap((span) => [seqOf(span), ...span.events.map(seqOf)]);
    t.deepEqual(
      seqs.sort((a, b) => a - b),
      run.records.map(({ seq }) => seq),
    );
    const byId = new Map(spans.map((span) => [span.spanId, span]));
    for (const span of spans) {
      const record = run.records[seqOf(span) - 1]!;
      t.is(span.name, record.def.name);
      const base = BigInt(EPOCH_MS) * 1_000_000n;
      t.is(BigInt(span.startTimeUnixNano) - base, BigInt(record.ns));
      t.true(BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano));
      const parent = byId.get(span.parentSpanId ?? '');
      if (record.cause === 0) t.is(parent, undefined);
      else t.true([parent!, ...parent!.events].map(seqOf).includes(record.cause));
    }
    const bind = spans.find(({ name }) => name === 'iommu:attach_device_pasid')!;
    t.is(bind.attributes.find(({ key }) => key === 'vsva.device')?.value.stringValue, '00:01.0');
  } finally {
    recording.close();
    close();
    remove();
  }
});

test('a collector that refuses, and one that is not there', async (t) => {
  const { path, remove } = recorded(run.frames);
  const { url, close } = await collector(400);
  const recording = Recording.open(path);
  try {
    const options = { url, epochMs: 0 };
    await t.throwsAsync(exportOtlp(recording, options), { instanceOf: OtlpError });
  } finally {
    recording.close();
    close();
    remove();
  }
});
