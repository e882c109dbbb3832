/** Up to this length a loop beats making a view (performance rule 10). */
const LOOP_BYTES = 128;

/** Copies `length` bytes between different buffers. The ranges must lie inside them. */
export function copyBytes(
  to: Uint8Array,
  toAt: number,
  from: Uint8Array,
  fromAt: number,
  length: number,
): void {
  if (fromAt === 0 && length === from.length) {
    // Without a view: making one costs half of copying a page.
    to.set(from, toAt);
    return;
  }
  if (length > LOOP_BYTES) {
    to.set(from.subarray(fromAt, fromAt + length), toAt);
    return;
  }
  for (let i = 0; i < length; i++) to[toAt + i] = from[fromAt + i]!;
}
