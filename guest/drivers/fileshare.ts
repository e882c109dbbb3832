/** Driver of the VMM's file share (devices/spec/fileshare.ts). */
import {
  FILESHARE_COMMAND,
  FILESHARE_MAGIC,
  FILESHARE_REG,
  FILESHARE_REGISTERS_BYTES,
  FILESHARE_STATUS,
  FILESHARE_WINDOW_BYTES,
} from '../../devices/spec/fileshare.ts';
import type { Core } from '../core.ts';
import { GuestError } from '../errno.ts';
import type { AddressSpace } from '../mm/mm.ts';
import { copyFromUser, copyToUser } from '../mm/uaccess.ts';
import { mmioRead, mmioRead32, mmioWrite } from '../mmio.ts';
import type { PciFunction } from '../pci.ts';
import { Mutex, sleep, type Task } from '../task.ts';

/** Bytes moved between window and program at a time. */
const BOUNCE_BYTES = 0x1_0000;

export class FileShare {
  /** Bytes in the input file. */
  readonly size: number;
  readonly #core: Core;
  readonly #registers: number;
  readonly #window: number;
  readonly #lock = new Mutex();
  readonly #bounce = new Uint8Array(BOUNCE_BYTES);

  private constructor(core: Core, registers: number, window: number, size: number) {
    this.#core = core;
    this.#registers = registers;
    this.#window = window;
    this.size = size;
  }

  /** Throws GuestError ENODEV when the function is not the file share after all. */
  static *probe(core: Core, pci: PciFunction): Task<FileShare> {
    yield* pci.enable(false);
    const registers = pci.bar(0, FILESHARE_REGISTERS_BYTES).address;
    const window = pci.bar(2, FILESHARE_WINDOW_BYTES).address;
    const magic = yield* mmioRead32(registers + FILESHARE_REG.MAGIC);
    if (magic !== FILESHARE_MAGIC) throw new GuestError('ENODEV', `${pci.name}: no file share`);
    const size = Number(yield* mmioRead(registers + FILESHARE_REG.FILE_SIZE, 8));
    return new FileShare(core, registers, window, size);
  }

  /**
   * Reads the file's bytes [position, position + count) to `address` of the running process.
   * Throws GuestError EIO when the share refuses, EFAULT or ENOMEM for the memory.
   */
  *read(mm: AddressSpace, address: number, count: number, position: number): Task {
    yield* this.#windows(count, FILESHARE_COMMAND.READ, position, 0, (window, done, length) => {
      const part = this.#bounce.subarray(0, length);
      this.#core.cpu.readBytes(window, part);
      copyToUser(this.#core.cpu, mm, address + done, part);
    });
  }

  /** Writes `count` bytes of the running process to output file `output`; 0 bytes create it. */
  *write(mm: AddressSpace, address: number, count: number, position: number, output: number): Task {
    yield* this.#windows(
      count,
      FILESHARE_COMMAND.WRITE,
      position,
      output,
      (window, done, length) => {
        const part = this.#bounce.subarray(0, length);
        copyFromUser(this.#core.cpu, mm, address + done, part);
        this.#core.cpu.writeBytes(window, part);
      },
    );
  }

  /** One command per window; `move` copies each bounce buffer of it. */
  *#windows(
    count: number,
    command: number,
    position: number,
    output: number,
    move: (window: number, done: number, length: number) => void,
  ): Task {
    let done = 0;
    do {
      const length = Math.min(FILESHARE_WINDOW_BYTES, count - done);
      yield* this.#lock.lock();
      try {
        const start = done;
        const moveAll = (): void => {
          for (let at = 0; at < length; at += BOUNCE_BYTES) {
            move(this.#window + at, start + at, Math.min(BOUNCE_BYTES, length - at));
          }
        };
        if (command === FILESHARE_COMMAND.WRITE) moveAll();
        yield* this.#command(command, position + done, length, output);
        if (command === FILESHARE_COMMAND.READ) moveAll();
      } finally {
        this.#lock.unlock();
      }
      done += length;
      yield* sleep(0);
    } while (done < count);
  }

  *#command(command: number, offset: number, length: number, output: number): Task {
    const at = this.#registers;
    yield* mmioWrite(at + FILESHARE_REG.OFFSET, 8, offset);
    yield* mmioWrite(at + FILESHARE_REG.LENGTH, 4, length);
    yield* mmioWrite(at + FILESHARE_REG.OUTPUT, 4, output);
    yield* mmioWrite(at + FILESHARE_REG.COMMAND, 4, command);
    const status = yield* mmioRead32(at + FILESHARE_REG.STATUS);
    if (status !== FILESHARE_STATUS.OK) {
      throw new GuestError('EIO', `file share: status ${status} at offset ${offset}`);
    }
  }
}
