import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { Recording, RecordingError } from '../../../trace/record/reader.ts';
import { EMPTY_STATE, reduceState, stateToJson } from '../../../trace/state/state.ts';
import { jsonLine } from '../../../trace/story/json-line.ts';
import { flood, framed, recorded, wholeRun } from '../runs.ts';

const run = wholeRun();

/** Opens a recording of the frames, and takes it away after the test. */
function open(frames = run.frames, how: { close?: boolean; edit?: (path: string) => void } = {}) {
  const { path, remove, writer } = recorded(frames, { close: how.close ?? true });
  how.edit?.(path);
  try {
    const recording = Recording.open(path);
    return { recording, path, writer, [Symbol.dispose]: remove };
  } catch (error) {
    remove();
    throw error;
  }
}

const refused = (edit: (path: string) => void): string => {
  try {
    using opened = open(run.frames, { edit });
    return `opened ${opened.path}`;
  } catch (error) {
    if (error instanceof RecordingError) return error.message.replace(/^\S+run\.vsva/, 'IT');
    throw error;
  }
};

test('a recording gives back the run', (t) => {
  using opened = open();
  const { recording } = opened;
  t.deepEqual([...recording.records()].map(jsonLine), run.records.map(jsonLine));
  const { about } = recording;
  t.is(about.events, run.records.length);
  t.is(about.firstSeq, 1);
  t.is(about.lastSeq, run.records.at(-1)!.seq);
  t.is(about.lastNs, run.records.at(-1)!.ns);
  t.true(about.whole);
  t.is(about.lostBytes, 0);
  t.is(about.meta.command, 'test');
  t.deepEqual(about.meta.options, { seed: 1 });
});

test('events by number, by range and by time', (t) => {
  using opened = open();
  const { recording } = opened;
  for (const seq of [1, 2, 700, run.records.length]) {
    t.is(jsonLine(recording.record(seq)!), jsonLine(run.records[seq - 1]!));
  }
  t.is(recording.record(0), undefined);
  t.is(recording.record(run.records.length + 1), undefined);
  const seqs = (range: Parameters<Recording['records']>[0]): number[] =>
    [...recording.records(range)].map(({ seq }) => seq);
  t.deepEqual(seqs({ fromSeq: 1200, toSeq: 1203 }), [1200, 1201, 1202, 1203]);
  t.deepEqual(seqs({ fromSeq: run.records.length + 1 }), []);
  const { ns } = run.records[1500]!;
  t.deepEqual(
    seqs({ fromNs: ns }),
    run.records.filter((record) => record.ns >= ns).map(({ seq }) => seq),
  );
  t.deepEqual(
    seqs({ toNs: ns }),
    run.records.filter((record) => record.ns <= ns).map(({ seq }) => seq),
  );
  for (const at of [0, ns - 1, ns, ns + 1, 1e12]) {
    t.is(recording.seqAtNs(at), run.records.findLast((record) => record.ns <= at)?.seq ?? 0);
  }
  t.is(recording.seqAtNs(-1), 0);
});

test('frames by number say what they hold', (t) => {
  using opened = open();
  const { recording } = opened;
  let next = 1;
  for (let frame = recording.firstFrame; frame < recording.endFrame; frame++) {
    const { firstSeq, lastSeq } = recording.info(frame);
    t.is(firstSeq, next);
    next = lastSeq + 1;
    t.is(recording.frameOfSeq(firstSeq), frame);
    t.is(recording.frameOfSeq(lastSeq), frame);
    const bytes = recording.frame(frame);
    const crc = bytes.slice().fill(0, 4, 8);
    t.deepEqual(crc, run.frames[frame]);
  }
  t.is(next, run.records.length + 1);
  t.is(recording.frameOfSeq(next), recording.endFrame);
  t.throws(() => recording.frame(recording.endFrame), { instanceOf: RangeError });
});

test('an event and what led to it', (t) => {
  using opened = open();
  const last = run.records.findLast(({ def }) => def.name === 'dsa:desc_complete')!;
  const causes = opened.recording.causes(last.seq);
  t.is(causes.at(-1)!.seq, last.seq);
  t.is(causes[0]!.cause, 0);
  for (let i = 1; i < causes.length; i++) t.is(causes[i]!.cause, causes[i - 1]!.seq);
  t.true(causes.length > 2);
});

test('the state at any event is that of the events up to it', (t) => {
  using opened = open();
  for (const seq of [0, 1, 500, 1234, run.records.length]) {
    const expected = reduceState(EMPTY_STATE, run.records.slice(0, seq));
    t.deepEqual(stateToJson(opened.recording.stateAt(seq)), stateToJson(expected), `at ${seq}`);
  }
});

test('a long recording has snapshots and several indexes, and finds its way', (t) => {
  const { trace, frames, encoder, time } = framed();
  const HITS = 2_300_000;
  for (let part = 0; part < 23; part++) {
    time.ns = part * 1000;
    flood(trace, HITS / 23);
  }
  encoder.flush();
  t.true(frames.length > 1024, 'more than one index frame');
  using opened = open(frames);
  const { recording } = opened;
  t.is(recording.about.events, HITS);
  t.true(recording.about.snapshots > 5);
  t.is(recording.record(1_700_001)?.ns, 17_000);
  t.is(recording.seqAtNs(16_999), 1_700_000);
  const state = recording.stateAt(1_234_567);
  t.is(state.seq, 1_234_567);
  t.is(state.hardware.units.get('host')?.hits, 1_234_567);
  t.is(state.run.events, 1_234_567);
  t.is(state.chain.events.vtd, 1_234_567);
});

test('a recording that was never closed is read to its last frame', (t) => {
  using opened = open(run.frames, { close: false });
  t.false(opened.recording.about.whole);
  t.is(opened.recording.about.lostBytes, 0);
  t.is([...opened.recording.records()].length, run.records.length);
});

test('a recording cut off anywhere is read to its last whole frame', (t) => {
  const { path, remove } = recorded(run.frames, { close: false });
  const whole = readFileSync(path);
  let shortest = run.records.length;
  try {
    const reference = Recording.open(path);
    const { offset } = reference.info(0);
    reference.close();
    for (let at = whole.length - 1; at > offset; at -= 7919) {
      writeFileSync(path, whole.subarray(0, at));
      const recording = Recording.open(path);
      const count = [...recording.records()].length;
      t.is(count, recording.about.events);
      t.false(recording.about.whole);
      t.true(count <= shortest && recording.about.lostBytes > 0);
      t.deepEqual(
        [...recording.records()].map(({ seq }) => seq),
        run.records.slice(0, count).map(({ seq }) => seq),
      );
      shortest = count;
      recording.close();
    }
    t.is(shortest, 0);
  } finally {
    remove();
  }
});

test('cut off at every byte of its last frame and of what closes it, it keeps the rest', (t) => {
  const { trace, encoder, frames } = framed();
  flood(trace, 40);
  encoder.flush();
  flood(trace, 7);
  encoder.flush();
  const { path, remove } = recorded(frames);
  const whole = readFileSync(path);
  try {
    const reference = Recording.open(path);
    const [first, last] = [reference.info(0).offset, reference.info(1).offset];
    const end = last + frames[1]!.length;
    reference.close();
    for (let size = first; size < whole.length; size++) {
      writeFileSync(path, whole.subarray(0, size));
      const recording = Recording.open(path);
      const events = size >= end ? 47 : size >= last ? 40 : 0;
      const { about } = recording;
      const read = [...recording.records()].length;
      recording.close();
      if (about.events !== events || read !== events || about.whole) t.fail(`${size} bytes`);
    }
    t.true(whole.length - end > 100 && end - last > 200);
  } finally {
    remove();
  }
});

test('a last frame that was not written out is left out', (t) => {
  using opened = open(run.frames, {
    close: false,
    edit: (path) => {
      const bytes = readFileSync(path);
      writeFileSync(path, bytes.fill(0, bytes.length - 500));
    },
  });
  const { about } = opened.recording;
  t.is(about.frames, run.frames.length - 1);
  t.true(about.lostBytes > 0);
});

test('a damaged frame is named where it is read; what lies before it can be read', (t) => {
  let offset = 0;
  using opened = open(run.frames, {
    edit: (path) => {
      const recording = Recording.open(path);
      ({ offset } = recording.info(1));
      recording.close();
      const bytes = readFileSync(path);
      bytes[offset + 1000]! ^= 1;
      writeFileSync(path, bytes);
    },
  });
  const { recording } = opened;
  const { lastSeq } = recording.info(0);
  t.is([...recording.records({ toSeq: lastSeq })].length, lastSeq);
  t.throws(() => [...recording.records()], {
    instanceOf: RecordingError,
    message: new RegExp(`damaged at byte ${offset}, at event ${lastSeq + 1}: record it again`),
  });
});

test('what is no recording of this format is refused with one line that says what to do', (t) => {
  t.is(
    refused((path) => truncateSync(path, 0)),
    'IT is empty: the run recorded nothing',
  );
  t.is(
    refused((path) => truncateSync(path, 300)),
    'IT was cut off in its head (300 bytes): record it again',
  );
  t.is(
    refused((path) => truncateSync(path, 5)),
    'IT is no recording of vsva: record with `vsva run --trace PATH.vsva`',
  );
  t.is(
    refused((path) => writeFileSync(path, '{"seq":1}\n')),
    'IT is JSON lines, which text tools read: record with `vsva run --trace PATH.vsva`',
  );
  t.is(
    refused((path) => writeFileSync(path, 'PK\u0003\u0004 and so on')),
    'IT is no recording of vsva: record with `vsva run --trace PATH.vsva`',
  );
});

test('a recording of a newer format says which program reads it', (t) => {
  const { path, remove } = recorded([]);
  try {
    const text = readFileSync(path, 'latin1');
    const edited = Buffer.from(
      text.replace('"format":1,"program"', '"format":2,"program"'),
      'latin1',
    );
    writeFileSync(path, resealed(edited));
    const error = t.throws(() => Recording.open(path), { instanceOf: RecordingError });
    t.regex(error.message, /format 2, made by vsva 0\.0\.0; this program reads 1: update vsva$/);
  } finally {
    remove();
  }
});

test('an index that leads in circles or out of the file is not followed', (t) => {
  for (const target of [1, 2 ** 40, -8, 60_000]) {
    using opened = open(run.frames, {
      edit: (path) => {
        const bytes = readFileSync(path);
        const trailer = bytes.length - 64;
        bytes.writeDoubleLE(target, trailer + 32);
        writeFileSync(path, resealed(bytes, trailer));
      },
    });
    t.false(opened.recording.about.whole, `index at ${target}`);
    t.is(opened.recording.about.events, run.records.length);
  }
});

/** The checksum of the frame at `at` made right again. */
function resealed(bytes: Buffer, at = 8): Buffer {
  const length = bytes.readUInt32LE(at + 8);
  bytes.writeUInt32LE(crc(bytes.subarray(at + 8, at + length)), at + 4);
  return bytes;
}

/** CRC-32 bit by bit, so that the recording is not checked by what wrote it. */
function crc(bytes: Uint8Array): number {
  let value = 0xffff_ffff;
  for (const byte of bytes) {
    value ^= byte;
    for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb8_8320 : 0);
  }
  return ~value >>> 0;
}
