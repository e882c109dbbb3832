import test from 'ava';
import { CATALOGUE } from '../../trace/catalogue/all.ts';
import { EMPTY_STATE, reduceState } from '../../trace/state/state.ts';
import { LiveHistory } from '../../trace/stream/live-history.ts';
import { FrameDecoder } from '../../trace/wire/decoder.ts';
import { FrameEncoder, inlineSlots } from '../../trace/wire/encoder.ts';
import { schemaOf } from '../../trace/wire/layout.ts';
import { HistoryPast, HistorySource } from '../../tui/source/history-past.ts';
import { Timeline } from '../../tui/timeline.ts';
import { recordRun } from './events.ts';

const run = recordRun({ procs: 2 });

function recorded(): { source: HistorySource; close: () => void } {
  const decoder = new FrameDecoder(schemaOf(CATALOGUE), CATALOGUE);
  const history = new LiveHistory({ decoder, limit: 2 ** 28 });
  const encoder = new FrameEncoder(inlineSlots((frame) => history.append(frame.slice())));
  for (const record of run) encoder.event(record);
  encoder.flush();
  const past = new HistoryPast(history, decoder);
  const close = (): void => history.close();
  return { source: new HistorySource(past, close), close };
}

test('a recording is read from its beginning to its end, event by event', (t) => {
  const { source } = recorded();
  const timeline = new Timeline(source);
  t.false(timeline.ended);
  t.is(timeline.newest, run.length);
  const seen: number[] = [];
  while (!timeline.ended) {
    timeline.peek(100);
    for (const { seq } of timeline.take(100)) seen.push(seq);
  }
  t.deepEqual(
    seen,
    run.map(({ seq }) => seq),
  );
  source.close();
});

test('a moment far away has its state and the events before it, and goes on from there', (t) => {
  const { source } = recorded();
  const timeline = new Timeline(source);
  for (const seq of [1500, 700, run.length, 12, 0]) {
    const place = timeline.go(seq, []);
    t.is(place?.moment.seq, seq);
    const { run: told, objects } = reduceState(EMPTY_STATE, run.slice(0, seq));
    t.deepEqual(place?.moment.run, told);
    t.deepEqual(place?.moment.objects, objects);
    t.is(place?.events?.at(-1)?.seq ?? 0, seq);
    t.is(timeline.peek(1)[0]?.seq, seq === run.length ? undefined : seq + 1);
  }
  source.close();
});

test('beyond the end is the end', (t) => {
  const { source } = recorded();
  t.is(new Timeline(source).go(10 * run.length, [])?.moment.seq, run.length);
  source.close();
});
