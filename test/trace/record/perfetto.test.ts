/** The Perfetto export, read by a protobuf parser that is not the one that wrote it. */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import test from 'ava';
import { guest } from '../../../trace/catalogue/guest.ts';
import { host } from '../../../trace/catalogue/host.ts';
import { vtd } from '../../../trace/catalogue/vtd.ts';
import { PerfettoExport } from '../../../trace/record/perfetto.ts';
import { Recording } from '../../../trace/record/reader.ts';
import { flood, framed, recorded, wholeRun } from '../runs.ts';

type Message = Map<number, (bigint | Uint8Array)[]>;

/** The fields of a message by number, as they are on the wire. */
function parse(bytes: Uint8Array): Message {
  const reader = new BinaryReader(bytes);
  const fields: Message = new Map();
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    const value =
      type === WireType.LengthDelimited
        ? reader.bytes()
        : BigInt(type === WireType.Bit64 ? reader.fixed64() : reader.int64());
    fields.set(field, [...(fields.get(field) ?? []), value]);
  }
  return fields;
}

const number = (message: Message | undefined, field: number): number =>
  Number(message?.get(field)?.[0] ?? 0);
const text = (message: Message | undefined, field: number): string => {
  const value = message?.get(field)?.[0];
  return value instanceof Uint8Array ? new TextDecoder().decode(value) : '';
};
const inner = (message: Message | undefined, field: number): Message | undefined => {
  const value = message?.get(field)?.[0];
  return value instanceof Uint8Array ? parse(value) : undefined;
};
const all = (message: Message | undefined, field: number): Message[] =>
  (message?.get(field) ?? []).flatMap((value) => (value instanceof Uint8Array ? parse(value) : []));

const BEGIN = 1;
const END = 2;
const INSTANT = 3;
const COUNTER = 4;

/** What a viewer would make of the trace: tracks by number, events with their names. */
function viewed(frames: readonly Uint8Array[]) {
  const { path, remove } = recorded(frames);
  const recording = Recording.open(path);
  try {
    const parts = [...new PerfettoExport(recording).chunks()];
    const trace = parse(Buffer.concat(parts));
    const names = new Map<number, string>();
    const keys = new Map<number, string>();
    const tracks = new Map<
      number,
      { name: string; parent: number; process: string; counter: boolean }
    >();
    const events = [];
    for (const packet of all(trace, 1)) {
      const interned = inner(packet, 12);
      for (const one of all(interned, 2)) names.set(number(one, 1), text(one, 2));
      for (const one of all(interned, 3)) keys.set(number(one, 1), text(one, 2));
      const descriptor = inner(packet, 60);
      if (descriptor !== undefined) {
        tracks.set(number(descriptor, 1), {
          name: text(descriptor, 2),
          parent: number(descriptor, 5),
          process: text(inner(descriptor, 3), 6),
          counter: descriptor.has(8),
        });
      }
      const event = inner(packet, 11);
      if (event === undefined) continue;
      const double = event.get(44)?.[0];
      events.push({
        ns: number(packet, 8),
        type: number(event, 9),
        track: number(event, 11),
        name: names.get(number(event, 10)) ?? '',
        flows: (event.get(47) ?? []).map(Number),
        ends: (event.get(48) ?? []).map(Number),
        fields: new Map(
          all(event, 4).map((one) => [
            keys.get(number(one, 1)),
            one.has(6) ? text(one, 6) : (one.get(4)?.[0] ?? one.get(7)?.[0]),
          ]),
        ),
        value:
          typeof double === 'bigint'
            ? new Float64Array(BigUint64Array.of(double).buffer)[0]
            : undefined,
      });
    }
    return { tracks, events, bytes: parts.reduce((sum, { length }) => sum + length, 0) };
  } finally {
    recording.close();
    remove();
  }
}

const run = wholeRun();
const view = viewed(run.frames);

test('every event is there once, with its fields', (t) => {
  const told = view.events.filter(({ type }) => type === BEGIN || type === INSTANT);
  t.deepEqual(
    told.map(({ name, ns, fields }) => [Number(fields.get('seq')), name, ns]),
    run.records.map(({ seq, def, ns }) => [seq, def.name, ns]),
  );
  const bind = run.records.find(({ def }) => def.name === 'guest:iommu_sva_bind_device')!;
  const { fields } = told[bind.seq - 1]!;
  t.is(fields.get('vm'), 'vm0');
  t.is(fields.get('pasid'), BigInt(Number(bind.values['pasid'])));
  t.is(fields.get('pgd'), BigInt(bind.values['pgd']!));
});

test('there is a group for each guest, VMM, kernel, unit and device, and a timeline for each process', (t) => {
  const groups = [...view.tracks.values()].map(({ process }) => process).filter(Boolean);
  for (const group of [
    'guest vm0',
    'VMM vm0',
    'host kernel',
    'VT-d unit',
    'VT-d unit of vm0 (virtual)',
    'device 00:01.0',
  ]) {
    t.true(groups.includes(group), group);
  }
  t.is(new Set(groups).size, groups.length);
  const lines = [...view.tracks.values()].map(({ name }) => name);
  for (const line of ['process 100', 'process 101', 'vCPU 0', 'system calls of 1']) {
    t.true(lines.includes(line), line);
  }
  for (const { parent, process } of view.tracks.values()) {
    if (process === '') t.not(view.tracks.get(parent)?.process ?? '', '');
  }
});

test('slices nest on every timeline, and every one ends no earlier than it began', (t) => {
  const open = new Map<number, number[]>();
  for (const { type, track, ns } of view.events) {
    t.true(view.tracks.has(track));
    const stack = open.get(track) ?? [];
    open.set(track, stack);
    if (type === BEGIN) stack.push(ns);
    if (type === END) {
      const began = stack.pop();
      if (began === undefined || began > ns) t.fail(`an end at ${ns} on ${track}`);
    }
  }
  t.true([...open.values()].every((stack) => stack.length === 0));
  const spans = run.records.filter(({ span }) => span === true).length;
  t.is(view.events.filter(({ type }) => type === BEGIN).length, spans);
});

test('arrows lead from each cause to its effects on other timelines, and are no more than that', (t) => {
  const track = new Map(view.events.map((e) => [Number(e.fields.get('seq') ?? 0), e.track]));
  const starts = new Map(view.events.flatMap((e) => e.flows.map((id) => [id, e] as const)));
  const ends = view.events.filter((e) => e.ends.length > 0);
  t.is(ends.length, starts.size);
  t.true(ends.length > 100);
  for (const end of ends) {
    const seq = Number(end.fields.get('seq'));
    const cause = run.records[seq - 1]!.cause;
    t.is(Number(starts.get(end.ends[0]!)?.fields.get('seq')), cause);
    t.not(track.get(cause), track.get(seq));
  }
});

test('counters: queue depth returns to 0, live PASIDs rise and fall', (t) => {
  const values = (name: string): (number | undefined)[] => {
    const [id] = [...view.tracks].find(([, one]) => one.counter && one.name === name) ?? [];
    return view.events.flatMap((e) => (e.type === COUNTER && e.track === id ? [e.value] : []));
  };
  const depth = values('queue depth, WQ 0');
  t.true(depth.length > 4 && depth.some((value) => value! > 0));
  t.is(depth.at(-1), 0);
  t.deepEqual(values('live PASIDs'), [1, 2, 1, 0]);
  t.is(values('page requests in flight').at(-1), 0);
  t.is(values('iommufd objects').at(-1), 0);
});

test('spans that overlap share no timeline, and what is left open is closed', (t) => {
  const { trace, time, encoder, frames } = framed();
  const call = (name: string) => trace.span(host.ioctl, { pid: 1, fd: 0, name, args: '' });
  trace.cause = 0;
  const first = call('first');
  trace.cause = 0;
  time.ns = 5;
  const second = call('second');
  t.truthy(second);
  time.ns = 10;
  first[Symbol.dispose]();
  time.ns = 15;
  trace.emit(guest.shutdown, { vm: 'vm0', code: 0 });
  encoder.flush();
  const { events } = viewed(frames);
  const told = events.map(({ type, ns, track }) => [type, ns, track]);
  const [a, b] = events.map(({ track }) => track);
  t.not(a, b);
  t.deepEqual(told, [
    [BEGIN, 0, a],
    [BEGIN, 5, b],
    [END, 10, a],
    [INSTANT, 15, events[3]!.track],
    [END, 15, b],
  ]);
});

test('the hit rate is that of the unit, though no hit was recorded', (t) => {
  const { trace, encoder, frames } = framed();
  const walk = { sid: '00:01.0', pasid: 1, address: 0, request: 'read', result: 0, shift: 12 };
  for (const [unit, hits] of [
    ['host', 0],
    ['vm0', 30],
    ['host', 1],
    ['host', 7],
  ] as const) {
    trace.emit(vtd.walk, { ...walk, unit, perm: 'r-', loads: 4, hits });
  }
  encoder.flush();
  const { events } = viewed(frames);
  const rates = events.flatMap(({ type, value }) => (type === COUNTER ? [value?.toFixed(2)] : []));
  t.deepEqual(rates, ['0.00', '96.77', '33.33', '70.00']);
});

test('a flood of hits is counted and not drawn', (t) => {
  const { trace, encoder, frames } = framed();
  flood(trace, 5000);
  encoder.flush();
  t.true(viewed(frames).bytes < 2000);
});
