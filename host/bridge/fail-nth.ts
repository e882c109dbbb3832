import { Errno } from '../kernel/errno.ts';
import type { FailPoints } from '../kernel/failpoint.ts';
import type { Caller, FileOps, OpenFile } from '../kernel/file.ts';
import type { Task } from '../syscall.ts';

/** Longest number that is looked at. */
const MAX_TEXT = 34;
const NUMBER = /^\+?(?:0[xX][0-9a-fA-F]+|[0-9]+)\n?$/;

/**
 * `/proc/PID/task/TID/fail-nth`: which failure point of a thread is to fail (lib/fault-inject.c).
 * Reads as the points left, writes arm it; 0 disarms. Errno EINVAL (no number), ERANGE.
 */
export class FailNthFile implements FileOps {
  readonly name = 'fail-nth';
  readonly #points: FailPoints;
  readonly #task: object;
  #position = 0;

  /** @param task the thread, as `FailPoints.currentTask` names it */
  constructor(points: FailPoints, task: object) {
    this.#points = points;
    this.#task = task;
  }

  *read(caller: Caller, file: OpenFile, buffer: number, count: number): Task<number> {
    const bytes = yield* this.pread(caller, file, buffer, count, this.#position);
    this.#position += bytes;
    return bytes;
  }

  *pread(caller: Caller, _: OpenFile, buffer: number, count: number, from: number): Task<number> {
    const text = new TextEncoder().encode(`${this.#points.leftOf(this.#task)}\n`);
    const bytes = text.subarray(from, from + count);
    if (bytes.length > 0) caller.mm.copyTo(BigInt(buffer), bytes);
    return bytes.length;
  }

  *write(caller: Caller, _: OpenFile, buffer: number, count: number): Task<number> {
    const bytes = caller.mm.copyFrom(BigInt(buffer), Math.min(count, MAX_TEXT));
    const text = new TextDecoder('latin1').decode(bytes).replace(/\0.*$/s, '');
    if (!NUMBER.test(text)) throw new Errno('EINVAL', `${JSON.stringify(text)} is no number`);
    const number = parse(text.trim().replace('+', ''));
    if (!(number <= 0xffff_ffff)) throw new Errno('ERANGE', `${text.trim()} is beyond 32 bits`);
    this.#points.armTask(this.#task, number);
    return count;
  }

  pwrite(caller: Caller, file: OpenFile, buffer: number, count: number): Task<number> {
    return this.write(caller, file, buffer, count);
  }
}

/** As kstrtouint reads it with base 0: hexadecimal after 0x, octal after 0. */
function parse(text: string): number {
  if (/^0[xX]/.test(text)) return Number.parseInt(text, 16);
  if (/^0./.test(text)) return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : refuse(text);
  return Number.parseInt(text, 10);
}

function refuse(text: string): never {
  throw new Errno('EINVAL', `${text} is no octal number`);
}
