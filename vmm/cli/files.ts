import {
  closeSync,
  fstatSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { Refusal, whyNot } from './fail.ts';

/**
 * The bytes of FILE, or of standard input for `-`.
 * @throws Refusal when it cannot be read
 */
export function readInput(path: string): Uint8Array {
  try {
    return path === '-' ? readFileSync(0) : readFileSync(path);
  } catch (error) {
    throw new Refusal(1, `cannot read ${path === '-' ? 'standard input' : path}: ${whyNot(error)}`);
  }
}

/**
 * A file that will be written at the end: opened at once, so that a path that cannot be written is
 * refused before the run, and put in its place only when whole, so that nothing old is lost.
 */
export class OutputFile {
  readonly path: string;
  readonly #temporary: string;

  /** @throws Refusal when the path cannot be written */
  constructor(path: string) {
    this.path = path;
    try {
      if (isSpecial(path)) {
        this.#temporary = '';
        closeSync(openSync(path, 'a'));
        return;
      }
      this.#temporary = `${path}.${process.pid}.partial`;
      closeSync(openSync(this.#temporary, 'wx'));
    } catch (error) {
      throw new Refusal(1, `cannot write ${path}: ${whyNot(error)}`);
    }
  }

  /** @throws Refusal when the disk refuses */
  commit(bytes: Uint8Array): void {
    try {
      if (this.#temporary === '') {
        writeFileSync(this.path, bytes);
        return;
      }
      writeFileSync(this.#temporary, bytes);
      renameSync(this.#temporary, this.path);
    } catch (error) {
      this.abandon();
      throw new Refusal(1, `cannot write ${this.path}: ${whyNot(error)}`);
    }
  }

  /** Leaves what was at the path as it was. */
  abandon(): void {
    if (this.#temporary !== '') rmSync(this.#temporary, { force: true });
  }
}

/** Devices and pipes are written in place; a directory is refused. */
function isSpecial(path: string): boolean {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isDirectory() === true) throw Object.assign(new Error(), { code: 'EISDIR' });
  return stat !== undefined && !stat.isFile();
}

const FLUSH_AT = 1 << 16;

/** Appends lines to a file through a buffer; `close` writes what is left. */
export class LineFile {
  readonly path: string;
  readonly #fd: number;
  #lines: string[] = [];
  #length = 0;

  /** @throws Refusal when the path cannot be written */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = openSync(path, 'w');
      fstatSync(this.#fd);
    } catch (error) {
      throw new Refusal(1, `cannot write ${path}: ${whyNot(error)}`);
    }
  }

  write(line: string): void {
    this.#lines.push(line);
    this.#length += line.length;
    if (this.#length >= FLUSH_AT) this.#flush();
  }

  close(): void {
    this.#flush();
    closeSync(this.#fd);
  }

  #flush(): void {
    if (this.#lines.length === 0) return;
    const bytes = Buffer.from(`${this.#lines.join('\n')}\n`);
    this.#lines = [];
    this.#length = 0;
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      throw new Refusal(1, `cannot write ${this.path}: ${whyNot(error)}`);
    }
  }
}
