/** What the trace costs: in the hit path of the unit, an event in a recording, in time and bytes. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CATALOGUE } from '../../trace/catalogue/all.ts';
import type { EventRecord } from '../../trace/event.ts';
import { RecordingWriter } from '../../trace/record/writer.ts';
import { jsonLine } from '../../trace/story/json-line.ts';
import { Tracer } from '../../trace/tracer.ts';
import { FrameEncoder, inlineSlots } from '../../trace/wire/encoder.ts';
import { schemaOf } from '../../trace/wire/layout.ts';
import { World } from '../../vmm/scenario/world.ts';
import { importAnew } from './anew.ts';
import type { Figure, Group } from './measure.ts';
import { against, figures, interleaved, measure } from './measure.ts';

const MIB = 2 ** 20;

const HIT = 'IOTLB hit, the line that tells of it left out';
const SILENT = 'IOTLB hit, nobody listens';
const RECORDED = 'IOTLB hit, recorded in frames';
/** The line itself, in devices/vtd/translator.ts. */
const HIT_LINE = /^ *if \(this\.#trace\.hot\) .*$/m;

const LINE = 'an event as a JSON line';

export const trace: Group = {
  name: 'trace',
  about: 'what the trace costs',
  async run(options) {
    const recorder = new Tracer(() => 0);
    let frames = 0;
    recorder.attach(
      new FrameEncoder(
        inlineSlots(() => frames++),
        { hot: true },
      ),
    );
    const module = new URL('./hits.ts', import.meta.url);
    const untraced = (await importAnew(module, 'untraced', HIT_LINE)) as typeof import('./hits.ts');
    const silent = (await importAnew(module, 'silent')) as typeof import('./hits.ts');
    const recorded = (await importAnew(module, 'recorded')) as typeof import('./hits.ts');
    const times = await interleaved(
      [untraced.hits(HIT), silent.hits(SILENT), recorded.hits(RECORDED, recorder)],
      options,
    );
    if (frames === 0) throw new Error('nothing was recorded');
    const hit = against(times, HIT, {
      [SILENT]: 'trace-off/no-trace',
      [RECORDED]: 'trace-recorded/no-trace',
    });
    return [...hit, ...(await events(options))];
  },
};

/** The events of a whole run. */
async function events(options: Parameters<Group['run']>[0]): Promise<Figure[]> {
  const records: EventRecord[] = [];
  const world = new World({
    seed: 1,
    vms: 1,
    procs: 1,
    guestBytes: 64 * MIB,
    input: new Uint8Array(options.quick ? 4096 : 64 * 1024),
    listeners: [(record) => records.push(record)],
  });
  while (world.step());
  const folder = mkdtempSync(join(tmpdir(), 'vsva-bench-'));
  try {
    const schema = schemaOf(CATALOGUE);
    const meta = { schema, program: 'vsva', command: 'bench', options: {} };
    const writer = new RecordingWriter(join(folder, 'timed.vsva'), meta);
    const toFile = new FrameEncoder(inlineSlots((frame) => writer.write(frame)));
    const toNowhere = new FrameEncoder(inlineSlots(() => undefined));
    let characters = 0;
    const calls = records.length;
    const times = await measure(
      [
        {
          name: LINE,
          calls,
          run: () => {
            for (const record of records) characters += jsonLine(record).length + 1;
          },
        },
        {
          name: 'an event in a frame',
          calls,
          run: () => {
            for (const record of records) toNowhere.event(record);
          },
        },
        {
          name: 'an event in a recording on disk, state and index with it',
          calls,
          run: () => {
            for (const record of records) toFile.event(record);
          },
        },
      ],
      options,
    );
    writer.close();
    if (characters === 0) throw new Error('nothing was told');
    return [...figures(times, LINE), ...sizes(records, join(folder, 'sized.vsva'))];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Bytes of an event on disk. */
function sizes(records: readonly EventRecord[], path: string): Figure[] {
  const schema = schemaOf(CATALOGUE);
  const writer = new RecordingWriter(path, { schema, program: '', command: '', options: {} });
  const empty = writer.bytes;
  const encoder = new FrameEncoder(inlineSlots((frame) => writer.write(frame)));
  for (const record of records) encoder.event(record);
  encoder.flush();
  writer.close();
  const json = records.reduce((sum, record) => sum + jsonLine(record).length + 1, 0);
  const of = 'bytes of an event as a JSON line';
  const figure = (name: string, bytes: number): Figure => ({
    name,
    ratio: bytes / json,
    of,
    value: bytes / records.length,
    unit: 'bytes',
  });
  const bytes = statSync(path).size - empty;
  return [figure(of, json), figure('bytes of an event in a recording', bytes)];
}
