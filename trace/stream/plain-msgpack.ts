import { BadRequest } from './protocol.ts';

/** Maps and lists within each other in a request, at most. */
const MOST_DEPTH = 8;

/** Values in a request, at most: a `fetch` of 1000 events and what is around it fit. */
const MOST_VALUES = 4096;

const bad = (why: string): BadRequest =>
  new BadRequest('bad_message', `not one plain MessagePack value: ${why}`);

/** Bytes that the length of a text, binary, list or map takes, by the low bits of its first byte. */
const widthOf = (first: number, base: number): number => 1 << (first - base);

/**
 * Walks a message before it is decoded. A decoder makes room for as many entries as a list claims to
 * have, descends as deep as it nests, and obeys extension types: here, entries must be there, eight
 * levels do, and no extension is known.
 * @throws BadRequest
 */
export function checkPlain(data: Uint8Array): void {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  /** Values that are still to come at each depth. */
  const open = [1];
  let at = 0;
  let values = 0;
  const read = (width: number): number => {
    const from = at;
    at += width;
    if (at > data.length) throw bad('it is cut off');
    if (width === 1) return view.getUint8(from);
    return width === 2 ? view.getUint16(from) : view.getUint32(from);
  };
  const skip = (bytes: number): void => {
    at += bytes;
    if (at > data.length) throw bad('it is cut off');
  };
  const enter = (entries: number): void => {
    if (entries > data.length - at) throw bad('it is cut off');
    if (open.length > MOST_DEPTH) throw bad(`it nests deeper than ${MOST_DEPTH}`);
    open.push(entries);
  };
  while (open.length > 0) {
    if (open.at(-1) === 0) {
      open.pop();
      continue;
    }
    open[open.length - 1]!--;
    if (++values > MOST_VALUES) throw bad(`it has more than ${MOST_VALUES} values`);
    const first = read(1);
    if (first < 0x80 || first >= 0xe0) continue;
    if (first < 0x90) enter(2 * (first & 15));
    else if (first < 0xa0) enter(first & 15);
    else if (first < 0xc0) skip(first & 31);
    else if (first === 0xc0 || first === 0xc2 || first === 0xc3) continue;
    else if (first >= 0xc4 && first <= 0xc6) skip(read(widthOf(first, 0xc4)));
    else if (first === 0xca) skip(4);
    else if (first === 0xcb) skip(8);
    else if (first >= 0xcc && first <= 0xcf) skip(widthOf(first, 0xcc));
    else if (first >= 0xd0 && first <= 0xd3) skip(widthOf(first, 0xd0));
    else if (first >= 0xd9 && first <= 0xdb) skip(read(widthOf(first, 0xd9)));
    else if (first >= 0xdc && first <= 0xdd) enter(read(widthOf(first, 0xdc) * 2));
    else if (first >= 0xde) enter(2 * read(widthOf(first, 0xde) * 2));
    else throw bad('it has an extension type');
  }
  if (at < data.length) throw bad('something follows it');
}
