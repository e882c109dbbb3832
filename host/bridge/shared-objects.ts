import type { ForeignFrames } from './foreign.ts';
import type { Mapping } from './maps.ts';
import type { ProcessMemory } from './process-memory.ts';
import { SharedObject } from './shared-object.ts';

/** The shared objects of which something is pinned, and the processes that may have them mapped. */
export class SharedObjects {
  readonly #frames: ForeignFrames;
  readonly #objects = new Map<string, SharedObject>();
  readonly #memories = new Set<ProcessMemory>();

  constructor(frames: ForeignFrames) {
    this.#frames = frames;
  }

  /** A process that can be looked at from now on. */
  enter(memory: ProcessMemory): void {
    this.#memories.add(memory);
  }

  /** It has ended. */
  exit(memory: ProcessMemory): void {
    this.#memories.delete(memory);
  }

  /** The object that a shared mapping shows; to be pinned at once, or the next `collect` drops it. */
  of(memory: ProcessMemory, mapping: Mapping): SharedObject {
    const name = mapping.object;
    return this.#known(name, () => new SharedObject(name, this.#memories, { memory, mapping }));
  }

  /** The same object by an open descriptor of it, and its name as a mapping says it. */
  ofFile(name: string, file: number): SharedObject {
    return this.#known(name, () => new SharedObject(name, this.#memories, undefined, file));
  }

  /** The same, if something of it is pinned. */
  peek(mapping: Mapping): SharedObject | undefined {
    return this.#objects.get(mapping.object);
  }

  /** Whether pages of some are reached through what processes have mapped. */
  get needMappings(): boolean {
    if (this.#objects.size === 0) return false;
    for (const object of this.#objects.values()) if (object.needsMappings) return true;
    return false;
  }

  /** A process unmaps a range, or moves it. */
  left(memory: ProcessMemory, start: number, end: number): void {
    for (const object of this.#objects.values()) object.left(memory, start, end);
  }

  /** Lets go of what nobody pins any more. */
  collect(): void {
    for (const [name, object] of this.#objects) {
      if (this.#frames.holds(object)) continue;
      this.#objects.delete(name);
      object.close();
    }
  }

  #known(name: string, make: () => SharedObject): SharedObject {
    const known = this.#objects.get(name);
    if (known !== undefined) return known;
    const object = make();
    this.#objects.set(name, object);
    return object;
  }
}
