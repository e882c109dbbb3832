import { randomBytes } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  mkdtempSync,
  openSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { Refusal, whyNot } from './fail.ts';

/** Read at a time from what has no size of its own. */
const CHUNK_BYTES = 1 << 20;

/**
 * The bytes of FILE, or of standard input for `-`. What has no end (a pipe, /dev/zero) is read to
 * `most` bytes and no further.
 *
 * @param check told the size before anything is held: it throws when that is too much
 * @throws Refusal when it cannot be read; what `check` throws
 */
export function readInput(path: string, most: number, check: (bytes: number) => void): Uint8Array {
  try {
    return readBounded(path === '-' ? 0 : path, most, check);
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(1, `cannot read ${path === '-' ? 'standard input' : path}: ${whyNot(error)}`);
  }
}

function readBounded(path: string | 0, most: number, check: (bytes: number) => void): Uint8Array {
  const fd = path === 0 ? 0 : openSync(path, 'r');
  try {
    const stat = fstatSync(fd);
    if (stat.isFile()) check(stat.size);
    const chunks: Uint8Array[] = [];
    let bytes = 0;
    for (;;) {
      const chunk = new Uint8Array(CHUNK_BYTES);
      const count = readSome(fd, chunk);
      if (count === 0) break;
      chunks.push(chunk.subarray(0, count));
      bytes += count;
      if (bytes > most) check(bytes);
    }
    check(bytes);
    return Buffer.concat(chunks);
  } finally {
    if (path !== 0) closeSync(fd);
  }
}

/** A terminal or a pipe that is set non-blocking answers EAGAIN while nothing is there yet. */
function readSome(fd: number, into: Uint8Array): number {
  for (;;) {
    try {
      return readSync(fd, into);
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (code === 'EOF') return 0;
      if (code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

/** Whether writing one path would overwrite the other. Devices and pipes lose nothing by it. */
export function sameFile(a: string, b: string): boolean {
  const [x, y] = [statOf(a), statOf(b)];
  if (x === undefined || y === undefined) return resolve(a) === resolve(b);
  return x.isFile() && x.dev === y.dev && x.ino === y.ino;
}

/** undefined: there is nothing, or nothing that can be looked at. */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

/** What must not outlive the process, however it ends. */
const temporaries = new Set<string>();
process.once('exit', () => {
  for (const path of temporaries) rmSync(path, { recursive: true, force: true });
});

/**
 * A file that will be written at the end: opened at once, so that a path that cannot be written is
 * refused before the run, and put in its place only when whole, so that nothing old is lost.
 */
export class OutputFile {
  readonly path: string;
  /** The file itself, behind symbolic links. */
  readonly #target: string;
  /** Empty: a device or pipe, written in place. */
  readonly #temporary: string;

  /** @throws Refusal when the path cannot be written */
  constructor(path: string) {
    this.path = path;
    try {
      const old = statSync(path, { throwIfNoEntry: false });
      this.#target = old === undefined ? path : realpathSync(path);
      this.#temporary = old === undefined || old.isFile() ? temporaryBeside(this.#target) : '';
      if (old?.isDirectory() === true) throw withCode('EISDIR');
      if (old !== undefined) accessSync(path, constants.W_OK);
      if (this.#temporary === '') return;
      closeSync(openSync(this.#temporary, 'wx', old?.mode ?? 0o666));
      temporaries.add(this.#temporary);
    } catch (error) {
      throw new Refusal(1, `cannot write ${path || "''"}: ${whyNot(error)}`);
    }
  }

  /** @throws Refusal when the disk refuses */
  commit(bytes: Uint8Array): void {
    this.commitAll([bytes]);
  }

  /**
   * Writes parts one after the other, in memory one at a time.
   * @throws Refusal when the disk refuses; what `parts` throws
   */
  commitAll(parts: Iterable<Uint8Array>): void {
    const fd = this.#told(() => openToWrite(this.#temporary || this.#target));
    try {
      for (const part of parts) this.#told(() => writeFileSync(fd, part));
    } finally {
      closeSync(fd);
    }
    if (this.#temporary === '') return;
    this.#told(() => {
      renameSync(this.#temporary, this.#target);
      temporaries.delete(this.#temporary);
    });
  }

  #told<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      this.abandon();
      throw new Refusal(1, `cannot write ${this.path}: ${whyNot(error)}`);
    }
  }

  /** Leaves what was at the path as it was. */
  abandon(): void {
    if (!temporaries.delete(this.#temporary)) return;
    rmSync(this.#temporary, { force: true });
  }
}

const { O_WRONLY, O_CREAT, O_TRUNC, O_NONBLOCK } = constants;

/** Opens a file anew. A pipe that nobody reads is an error (ENXIO): no signal ends a wait in `open`. */
function openToWrite(path: string): number {
  if (statOf(path)?.isFIFO() !== true) return openSync(path, O_WRONLY | O_CREAT | O_TRUNC, 0o666);
  const probe = openSync(path, O_WRONLY | O_NONBLOCK);
  try {
    return openSync(path, O_WRONLY);
  } finally {
    closeSync(probe);
  }
}

/** The path of a file that goes when the process does, and `drop` to let it go before. */
export function scratchFile(name: string): { path: string; drop: () => void } {
  const folder = mkdtempSync(join(tmpdir(), 'vsva-'));
  temporaries.add(folder);
  const drop = (): void => {
    temporaries.delete(folder);
    rmSync(folder, { recursive: true, force: true });
  };
  return { path: join(folder, name), drop };
}

/** A name in the same folder: only there does a rename replace the file in one step. */
function temporaryBeside(path: string): string {
  if (basename(path) === '' || path.endsWith('/')) throw withCode('ENOENT');
  return join(dirname(path), `.vsva-${randomBytes(6).toString('hex')}.partial`);
}

const withCode = (code: string): Error => Object.assign(new Error(code), { code });

/**
 * Lines that go to a file. `write` only keeps them, so that it never fails in the midst of the
 * model; `flush` and `close` write what is kept.
 */
export class LineFile {
  readonly path: string;
  readonly #fd: number;
  #lines: string[] = [];

  /** @throws Refusal when the path cannot be written */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = openToWrite(path);
    } catch (error) {
      throw new Refusal(1, `cannot write ${path || "''"}: ${whyNot(error)}`);
    }
  }

  write(line: string): void {
    this.#lines.push(line);
  }

  /** @throws Refusal when the disk refuses */
  flush(): void {
    if (this.#lines.length === 0) return;
    const bytes = Buffer.from(`${this.#lines.join('\n')}\n`);
    this.#lines = [];
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      throw new Refusal(1, `cannot write ${this.path}: ${whyNot(error)}`);
    }
  }

  /** @throws Refusal when the disk refuses */
  close(): void {
    try {
      this.flush();
    } finally {
      closeSync(this.#fd);
    }
  }
}
