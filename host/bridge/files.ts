import { readlinkSync } from 'node:fs';
import { Errno } from '../kernel/errno.ts';
import { EventFd } from '../kernel/eventfd.ts';
import { type FileMemory, type FileOps, type Files, OpenFile } from '../kernel/file.ts';
import type { Task } from '../syscall.ts';
import { ERRNO } from '../uapi/errno.ts';
import { O_CLOEXEC, O_RDWR } from '../uapi/poll.ts';
import type { Broker } from './broker.ts';
import { KIND, type Request } from './wire.ts';

/** An eventfd of a real program: the broker's copy is written. */
class BridgedEventFd extends EventFd {
  readonly #broker: Broker;
  readonly #handle: number;

  constructor(broker: Broker, handle: number) {
    super(0, false);
    this.#broker = broker;
    this.#handle = handle;
  }

  override signal(n = 1): void {
    this.#broker.signal(this.#handle, n);
  }

  *release(): Task {
    this.#broker.drop(this.#handle);
  }
}

/** A file that is none of ours: no device takes it. */
const STRANGER: FileOps = { name: 'a file of the program' };

/** Where the server keeps open files. */
export interface FileTable {
  fileOf(number: number): OpenFile | undefined;
  /** The node that it was opened at; undefined for a file that an ioctl made. */
  pathOf(number: number): string | undefined;
  /** The file behind a socket of a program, if it was remembered. */
  fileBehind(socket: string): OpenFile | undefined;
  /** Until file `number` is closed, descriptors that show this socket are that file. */
  remember(socket: string, number: number): void;
  /** Makes a connection a file. Errno EBADF if there is no such connection, or it is one. */
  establish(number: number, file: OpenFile, path?: string): void;
  /** Takes that back. */
  withdraw(number: number): OpenFile | undefined;
}

/** What a descriptor of a program shows, if it is a socket. */
function socketOf(pid: number, fd: number): string | undefined {
  try {
    const target = readlinkSync(`/proc/${pid}/fd/${fd}`);
    return target.startsWith('socket:[') ? target : undefined;
  } catch {
    return undefined;
  }
}

/** The operation needs a new descriptor in the program, and the request brought none. */
export class SpareNeeded extends Errno {
  constructor() {
    super('EMFILE', 'the request brought no descriptor for a new file');
  }
}

/** A program's descriptors, as one call sees them. */
export class BridgedFiles implements Files {
  readonly #request: Request;
  readonly #broker: Broker;
  readonly #table: FileTable;
  readonly #memoryFile: (fd: number) => FileMemory | undefined;
  #borrowed: OpenFile[] | null = null;
  #installed = false;
  #inherit = false;

  /** @param memoryFile the file behind a descriptor that is none of ours, if its pages are memory */
  constructor(
    request: Request,
    broker: Broker,
    table: FileTable,
    memoryFile: (fd: number) => FileMemory | undefined,
  ) {
    this.#memoryFile = memoryFile;
    this.#request = request;
    this.#broker = broker;
    this.#table = table;
  }

  /** Whether the spare descriptor became a file. */
  get installed(): boolean {
    return this.#installed;
  }

  /** Whether that file survives exec. */
  get inherit(): boolean {
    return this.#inherit;
  }

  /** Whether `done` has something to do. */
  get borrowing(): boolean {
    return this.#borrowed !== null;
  }

  get(fd: number): OpenFile {
    const { fd: own, file: number, pid } = this.#request;
    if (fd === own) {
      const file = this.#table.fileOf(number);
      if (file === undefined) throw new Errno('EBADF', `file descriptor ${fd} is not open`);
      return file;
    }
    // A descriptor that was seen before is known by its socket: no need to ask the broker.
    const socket = socketOf(pid, fd);
    const known = socket === undefined ? undefined : this.#table.fileBehind(socket);
    if (known !== undefined) return known;
    const found = this.#broker.resolve(pid, fd);
    if (typeof found === 'number') {
      throw new Errno('EBADF', `file descriptor ${fd} is not open: errno ${-found}`);
    }
    const file = found.kind === KIND.FILE ? this.#table.fileOf(found.value) : undefined;
    if (file !== undefined) {
      if (socket !== undefined) this.#table.remember(socket, found.value);
      return file;
    }
    const isEventFd = found.kind === KIND.EVENTFD;
    const ops = isEventFd ? new BridgedEventFd(this.#broker, found.value) : this.#other(fd);
    const borrowed = new OpenFile(ops, O_RDWR);
    (this.#borrowed ??= []).push(borrowed);
    return borrowed;
  }

  #other(fd: number): FileOps {
    const memory = this.#memoryFile(fd);
    if (memory === undefined) return STRANGER;
    return {
      name: STRANGER.name,
      memory,
      *release() {
        memory.release();
      },
    };
  }

  peek(fd: number): OpenFile | undefined {
    try {
      return this.get(fd);
    } catch (error) {
      if (error instanceof Errno && error.number === ERRNO.EBADF) return undefined;
      throw error;
    }
  }

  install(ops: FileOps, flags: number): number {
    const { spareFile, spareFd } = this.#request;
    if (spareFile === 0 || this.#installed) throw new SpareNeeded();
    this.#table.establish(spareFile, new OpenFile(ops, flags));
    this.#installed = true;
    this.#inherit = (flags & O_CLOEXEC) === 0;
    return spareFd;
  }

  *close(fd: number): Task {
    const { spareFile, spareFd } = this.#request;
    if (fd !== spareFd || !this.#installed) {
      throw new Errno('EBADF', `file descriptor ${fd} was not made by this call`);
    }
    this.#installed = false;
    const file = this.#table.withdraw(spareFile);
    if (file !== undefined) yield* file.put();
  }

  /** The call is over: what nobody took a reference to goes. */
  *done(): Task {
    const borrowed = this.#borrowed ?? [];
    this.#borrowed = null;
    for (const file of borrowed) yield* file.put();
  }
}
