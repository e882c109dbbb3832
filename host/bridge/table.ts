import { Errno } from '../kernel/errno.ts';
import type { OpenFile } from '../kernel/file.ts';
import type { Kernel, Thread } from '../kernel/kernel.ts';
import type { Task } from '../syscall.ts';
import { POLLIN } from '../uapi/poll.ts';
import type { Broker } from './broker.ts';
import type { FileTable } from './files.ts';

interface Entry {
  /** Null while it is only a connection. */
  file: OpenFile | null;
  path: string | undefined;
  /** Whether the program's descriptors show it as readable. */
  readable: boolean;
  watcher: Thread | null;
  /** The program's end of the connection, as /proc shows it; '' before it was looked at. */
  socket: string;
}

/** Connections of the programs and the open files they stand for, by number. */
export class OpenFiles implements FileTable {
  readonly #kernel: Kernel;
  readonly #broker: Broker;
  readonly #entries = new Map<number, Entry>();
  readonly #bySocket = new Map<string, number>();
  #open = 0;

  constructor(kernel: Kernel, broker: Broker) {
    this.#kernel = kernel;
    this.#broker = broker;
  }

  /** How many files are open. */
  get size(): number {
    return this.#open;
  }

  connected(number: number): void {
    const entry = { file: null, path: undefined, readable: false, watcher: null, socket: '' };
    this.#entries.set(number, entry);
  }

  /** The last descriptor has gone. */
  *disconnected(number: number): Task {
    const file = this.withdraw(number);
    this.#bySocket.delete(this.#entries.get(number)?.socket ?? '');
    this.#entries.delete(number);
    if (file !== undefined) yield* file.put();
  }

  fileOf(number: number): OpenFile | undefined {
    return this.#entries.get(number)?.file ?? undefined;
  }

  fileBehind(socket: string): OpenFile | undefined {
    const number = this.#bySocket.get(socket);
    return number === undefined ? undefined : this.fileOf(number);
  }

  remember(socket: string, number: number): void {
    const entry = this.#entries.get(number);
    if (entry === undefined || entry.socket !== '') return;
    entry.socket = socket;
    this.#bySocket.set(socket, number);
  }

  pathOf(number: number): string | undefined {
    return this.#entries.get(number)?.path;
  }

  establish(number: number, file: OpenFile, path?: string): void {
    const entry = this.#entries.get(number);
    if (entry === undefined) {
      throw new Errno('EMFILE', 'the bridge has no descriptor left for another file');
    }
    if (entry.file !== null) throw new Errno('EBADF', `connection ${number} cannot be a file`);
    entry.file = file;
    entry.path = path;
    this.#open += 1;
    if (file.ops.poll === undefined) {
      // As poll(2) has it for files that cannot tell: always ready.
      this.#broker.readable(number);
      return;
    }
    const name = `poll:${number}`;
    entry.watcher = this.#kernel.machine.scheduler.spawn(name, this.#watch(number, entry));
  }

  withdraw(number: number): OpenFile | undefined {
    const entry = this.#entries.get(number);
    const file = entry?.file ?? null;
    if (entry === undefined || file === null) return undefined;
    entry.file = null;
    entry.watcher?.kill();
    entry.watcher = null;
    this.#open -= 1;
    return file;
  }

  /** A read has taken the mark of readiness: it comes back if there is more. */
  wasRead(number: number): void {
    const entry = this.#entries.get(number);
    if (entry === undefined) return;
    if (entry.file?.ops.poll === undefined) {
      this.#broker.readable(number);
      return;
    }
    entry.readable = false;
    this.#show(number, entry);
  }

  *#watch(number: number, entry: Entry): Task {
    const { file } = entry;
    while (file !== null && entry.file === file) {
      this.#show(number, entry);
      yield file.ops.poll!(file).queue.killable;
    }
  }

  #show(number: number, entry: Entry): void {
    const { file } = entry;
    if (file === null || entry.readable || (file.ops.poll!(file).events & POLLIN) === 0) return;
    entry.readable = true;
    this.#broker.readable(number);
  }
}
