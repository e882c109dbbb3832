import type { FrameView } from './decoder.ts';
import { FRAME, FRAME_HEADER, RECORDS_AT, writeHeader } from './frame.ts';
import { END_ID } from './layout.ts';

/** Which record is wanted: its id (END_ID: the end of a span), its `seq`, and where it begins. */
export type Keep = (id: number, seq: number, at: number) => boolean;

/** A frame with the records that are wanted and the texts of all; undefined where none is. */
export function selectRecords(view: FrameView, keep: Keep): Uint8Array | undefined {
  const kept: Uint8Array[] = [];
  let bytes = 0;
  let count = 0;
  view.scan((id, at) => {
    const record = view.bytesAt(at);
    const back = new DataView(record.buffer, record.byteOffset).getInt32(4, true);
    if (!keep(id, view.firstSeq + back, at)) return;
    kept.push(record);
    bytes += record.length;
    if (id !== END_ID) count++;
  });
  if (kept.length === 0) return undefined;
  const texts = view.textBytes;
  const frame = new Uint8Array(RECORDS_AT + bytes + texts.length);
  const head = new DataView(frame.buffer);
  head.setUint32(FRAME_HEADER, count, true);
  head.setUint32(FRAME_HEADER + 4, bytes, true);
  let at = RECORDS_AT;
  for (const record of kept) {
    frame.set(record, at);
    at += record.length;
  }
  frame.set(texts, at);
  writeHeader(frame, FRAME.EVENTS, view.header.seq, view.header.ns);
  return frame;
}
