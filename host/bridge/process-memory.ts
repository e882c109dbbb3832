import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import type { Backing } from './foreign.ts';
import { type Mapping, Maps, type Moment } from './maps.ts';

/**
 * The memory of one process image, through /proc/PID/mem. That file reads and writes by force what
 * the process itself may not touch: whether an access is allowed only `maps` tells. It belongs to
 * the image: after exec or exit there is nothing in it.
 */
export class ProcessMemory implements Backing, Disposable {
  readonly pid: number;
  readonly maps: Maps;
  readonly #fd: number;
  #open = true;

  /** Throws what open says: no such process, or not the user's. */
  constructor(pid: number, moment: Moment) {
    this.pid = pid;
    this.#fd = openSync(`/proc/${pid}/mem`, 'r+');
    try {
      this.maps = new Maps(pid, moment);
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    }
  }

  /** Whether the image is there still. */
  get alive(): boolean {
    return this.#open;
  }

  /** All that it has mapped. */
  mappings(): Mapping[] {
    return this.#open ? this.maps.all() : [];
  }

  read(address: number, into: Uint8Array): boolean {
    return (
      this.#open &&
      move(into.length, (at, left) => {
        return readSync(this.#fd, into, at, left, address + at);
      })
    );
  }

  write(address: number, from: Uint8Array): boolean {
    return (
      this.#open &&
      move(from.length, (at, left) => {
        // A number: writeSync ignores a bigint position.
        return writeSync(this.#fd, from, at, left, address + at);
      })
    );
  }

  /** The image is gone. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
    this.maps[Symbol.dispose]();
  }
}

/** A part may come short where the next page is missing. */
export function move(length: number, step: (at: number, left: number) => number): boolean {
  try {
    for (let at = 0; at < length; ) {
      const moved = step(at, length - at);
      if (moved === 0) return false;
      at += moved;
    }
    return true;
  } catch {
    return false;
  }
}
