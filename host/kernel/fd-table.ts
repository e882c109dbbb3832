import type { Task } from '../syscall.ts';
import { Errno } from './errno.ts';
import { type FileOps, type Files, OpenFile } from './file.ts';

/** RLIMIT_NOFILE. */
export const MAX_FDS = 1024;

/** A process's file descriptors. */
export class FdTable implements Files {
  readonly #files: (OpenFile | undefined)[] = [];
  #open = 0;

  /** How many are open. */
  get size(): number {
    return this.#open;
  }

  get(fd: number): OpenFile {
    const file = this.#files[fd];
    if (file === undefined) throw new Errno('EBADF', `file descriptor ${fd} is not open`);
    return file;
  }

  peek(fd: number): OpenFile | undefined {
    return this.#files[fd];
  }

  install(ops: FileOps, flags: number): number {
    return this.add(new OpenFile(ops, flags));
  }

  /** Gives `file` (the reference goes along) the lowest free number. Errno EMFILE. */
  add(file: OpenFile): number {
    let fd = 0;
    while (this.#files[fd] !== undefined) fd++;
    if (fd >= MAX_FDS) throw new Errno('EMFILE', `all ${MAX_FDS} file descriptors are open`);
    this.#files[fd] = file;
    this.#open += 1;
    return fd;
  }

  /** Another number for the same open file. Errno EBADF, EMFILE. */
  dup(fd: number): number {
    const file = this.get(fd);
    const copy = this.add(file);
    file.get();
    return copy;
  }

  /** Frees the number at once and drops its reference. Errno EBADF. */
  *close(fd: number): Task {
    const file = this.get(fd);
    this.#files[fd] = undefined;
    this.#open -= 1;
    yield* file.put();
  }

  /** Closes all, in ascending order. */
  *closeAll(): Task {
    for (let fd = 0; fd < this.#files.length; fd++) {
      if (this.#files[fd] !== undefined) yield* this.close(fd);
    }
  }
}
