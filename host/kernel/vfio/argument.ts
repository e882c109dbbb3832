/** VFIO's convention for ioctl arguments: `argsz` first, and as much of the structure as it covers. */
import type { Fields, Struct, Values } from '../../uapi/struct.ts';
import { Errno } from '../errno.ts';
import type { Caller } from '../file.ts';

export interface Argument<F extends Fields> {
  readonly values: Values<F>;
  /** What the caller says its structure has, in bytes. */
  readonly argsz: number;
}

/**
 * Reads the first `bytes` of a structure, the rest as zeros.
 *
 * @throws Errno EFAULT; EINVAL: `argsz` is below `bytes`
 */
export function readArgument<F extends Fields>(
  caller: Caller,
  address: number,
  struct: Struct<F>,
  bytes: number = struct.minSize,
): Argument<F> {
  const whole = new Uint8Array(struct.size);
  whole.set(caller.mm.copyFrom(BigInt(address), struct.minSize));
  const view = new DataView(whole.buffer);
  const argsz = view.getUint32(0, true);
  if (argsz < bytes) throw new Errno('EINVAL', `argsz ${argsz} is below ${bytes}`);
  if (bytes > struct.minSize) whole.set(caller.mm.copyFrom(BigInt(address), bytes));
  return { values: struct.read(view), argsz };
}

/** Writes the structure back, as much as `argsz` covers. @throws Errno EFAULT */
export function writeArgument<F extends Fields>(
  caller: Caller,
  address: number,
  struct: Struct<F>,
  values: Values<F>,
  argsz: number = struct.size,
): void {
  const bytes = struct.encode(values).subarray(0, Math.min(argsz, struct.size));
  caller.mm.copyTo(BigInt(address), bytes);
}
