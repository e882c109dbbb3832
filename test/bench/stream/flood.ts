/** The thread of a model that tells of nothing but IOTLB hits: more events than any real run has. */
import { workerData } from 'node:worker_threads';
import { vtd } from '../../../trace/catalogue/vtd.ts';
import { pageLow, pasidAndPerm } from '../../../trace/hot.ts';
import { Tracer } from '../../../trace/tracer.ts';
import { FrameEncoder } from '../../../trace/wire/encoder.ts';
import { RingWriter } from '../../../trace/wire/ring.ts';

export interface FloodData {
  readonly ring: SharedArrayBuffer;
  readonly events: number;
}

const SID = 8;
const READ_WRITE = 3;
/** Hits between two ticks of virtual time. */
const HITS_PER_TICK = 64;

const { ring, events } = workerData as FloodData;
const writer = new RingWriter(ring);
const encoder = new FrameEncoder(writer, { hot: true });
let ns = 0;
const trace = new Tracer(() => ns);
trace.attach(encoder);
const source = trace.source(vtd.iotlbHit, 'host');
const pasid = pasidAndPerm(1, READ_WRITE);
for (let i = 0; i < events; i++) {
  if (i % HITS_PER_TICK === 0) ns += 1000;
  trace.emitHot(source, SID, pasid, pageLow(i & 0xffff), 0);
}
encoder.flush();
writer.close();
