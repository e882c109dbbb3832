/** An engine of its own thread for ring.test.ts: it tells hits as fast as it can. */
import { workerData } from 'node:worker_threads';
import { Tracer } from '../../../trace/tracer.ts';
import { FrameEncoder } from '../../../trace/wire/encoder.ts';
import { RingWriter } from '../../../trace/wire/ring.ts';
import { flood } from '../runs.ts';

const { ring, events } = workerData as { ring: SharedArrayBuffer; events: number };
const writer = new RingWriter(ring);
const encoder = new FrameEncoder(writer, { hot: true });
const trace = new Tracer(() => 0);
trace.attach(encoder);
flood(trace, events);
encoder.flush();
writer.close();
