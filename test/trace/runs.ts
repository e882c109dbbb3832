/** Events to try things on: of a whole run, recorded once a test process, and made by hand. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CATALOGUE } from '../../trace/catalogue/all.ts';
import { vtd } from '../../trace/catalogue/vtd.ts';
import type { EventRecord } from '../../trace/event.ts';
import { RecordingWriter } from '../../trace/record/writer.ts';
import { Tracer } from '../../trace/tracer.ts';
import { FrameDecoder, type Item } from '../../trace/wire/decoder.ts';
import { FrameEncoder, inlineSlots } from '../../trace/wire/encoder.ts';
import { schemaOf } from '../../trace/wire/layout.ts';
import { World } from '../../vmm/scenario/world.ts';

const MIB = 2 ** 20;

export interface Run {
  /** As they were emitted. */
  readonly records: readonly EventRecord[];
  /** Ends of spans, too, in order. */
  readonly items: readonly Item[];
  readonly frames: readonly Uint8Array[];
}

/** A run with a file of some bytes, its events and its frames. */
export function wholeRun(seed = 1): Run {
  const records: EventRecord[] = [];
  const items: Item[] = [];
  const frames: Uint8Array[] = [];
  const encoder = new FrameEncoder(inlineSlots((frame) => frames.push(frame.slice())));
  const world = new World({
    seed,
    vms: 1,
    procs: 2,
    guestBytes: 64 * MIB,
    input: Uint8Array.from({ length: 9000 }, (_, i) => i),
    listeners: [(record) => records.push(record)],
    sinks: [
      encoder,
      {
        event: (record) => items.push({ kind: 'event', record }),
        end: (begin, ns, seq) => items.push({ kind: 'end', begin, ns, seq }),
      },
    ],
  });
  while (world.step());
  encoder.flush();
  return { records, items, frames };
}

/** A tracer, with its time in hand, whose frames are kept; hot events too. */
export function framed(defs = CATALOGUE) {
  const time = { ns: 0 };
  const frames: Uint8Array[] = [];
  const trace = new Tracer(() => time.ns);
  const encoder = new FrameEncoder(
    inlineSlots((frame) => frames.push(frame.slice())),
    { defs, hot: true },
  );
  trace.attach(encoder);
  const decoder = new FrameDecoder(schemaOf(defs), defs);
  const decoded = (): Item[] => {
    encoder.flush();
    return frames.flatMap((frame) => [...decoder.frame(frame).items()]);
  };
  return { trace, time, frames, encoder, decoder, decoded };
}

/** Emits a flood of hits on pages from 0 on. */
export function flood(trace: Tracer, count: number, unit = 'host'): void {
  const source = trace.source(vtd.iotlbHit, unit);
  for (let page = 0; page < count; page++) {
    trace.emitHot(source, 0x0108, 5 | (3 << 24), page << 12, page >>> 20);
  }
}

/** Writes frames as a recording into a folder that `remove` takes away. */
export function recorded(frames: readonly Uint8Array[], { close = true } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'vsva-test-'));
  const path = join(folder, 'run.vsva');
  const schema = schemaOf(CATALOGUE);
  const writer = new RecordingWriter(path, {
    schema,
    program: 'vsva 0.0.0',
    command: 'test',
    options: { seed: 1 },
  });
  for (const frame of frames) writer.write(frame.slice());
  if (close) writer.close();
  return { path, folder, writer, remove: () => rmSync(folder, { recursive: true, force: true }) };
}
