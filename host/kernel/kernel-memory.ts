import { Errno } from './errno.ts';

/**
 * What users may take of the kernel's own memory by what they make: objects, areas, ranges, events,
 * each about as much as another. Linux charges them to the user's memory cgroup; here the whole
 * kernel has one limit, so that a program can bring neither the simulator nor others' kernel down.
 */
export class KernelMemory {
  readonly limit: number;
  #taken = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** How much is taken now. */
  get taken(): number {
    return this.#taken;
  }

  /** @throws Errno ENOMEM: then nothing is taken */
  take(count: number, what: string): void {
    if (this.#taken + count > this.limit) {
      const state = `the kernel has ${this.#taken} things of its users, and takes ${this.limit}`;
      throw new Errno('ENOMEM', `${count} more (${what}): ${state}`);
    }
    this.#taken += count;
  }

  give(count: number): void {
    this.#taken -= count;
  }
}
