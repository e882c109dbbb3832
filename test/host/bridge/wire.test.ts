import test from 'ava';
import { MAGIC, OP, REQUEST_BYTES, RequestReader } from '../../../host/bridge/wire.ts';

function frame(sequence: number, data: Uint8Array = new Uint8Array(0)): Uint8Array {
  const bytes = new Uint8Array(REQUEST_BYTES + data.length + 4);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, OP.IOCTL, true);
  view.setUint16(6, bytes.length, true);
  view.setUint32(8, 77, true);
  view.setUint32(16, sequence, true);
  bytes.set(data, REQUEST_BYTES);
  view.setUint32(bytes.length - 4, (MAGIC ^ sequence ^ 77 ^ bytes.length) >>> 0, true);
  return bytes;
}

function sequences(...parts: readonly Uint8Array[]): number[] {
  const reader = new RequestReader();
  const found: number[] = [];
  for (const part of parts) {
    reader.bytes.set(part, reader.room());
    reader.added(part.length);
    for (let next = reader.next(); next !== undefined; next = reader.next()) {
      found.push(next.sequence);
    }
  }
  return found;
}

test('requests in a row come out in order', (t) => {
  t.deepEqual(sequences(frame(1), Uint8Array.from([...frame(2), ...frame(3)])), [1, 2, 3]);
});

test('rubbish between requests costs nobody a request', (t) => {
  const rubbish = Uint8Array.from({ length: 777 }, (_, i) => (i * 31) & 0xff);
  t.deepEqual(sequences(rubbish, frame(1), rubbish, frame(2)), [1, 2]);
});

test('half a request, left by a client that died, does not swallow the next ones', (t) => {
  t.deepEqual(sequences(frame(1).subarray(0, 50), frame(2), frame(3)), [2, 3]);
});

test('a beginning that claims to be long is passed over when a whole request follows', (t) => {
  const liar = frame(1).slice(0, 8);
  new DataView(liar.buffer).setUint16(6, 4096, true);
  t.deepEqual(sequences(liar, frame(2)), [2]);
});
