import type { ForeignFrames } from './foreign.ts';
import type { Mapping } from './maps.ts';
import type { ProcessMemory } from './process-memory.ts';
import { SharedObject } from './shared-object.ts';

/** The shared objects of which something is pinned. */
export class SharedObjects {
  readonly #frames: ForeignFrames;
  readonly #objects = new Map<string, SharedObject>();

  constructor(frames: ForeignFrames) {
    this.#frames = frames;
  }

  /** The object that a shared mapping shows; to be pinned at once, or the next `collect` drops it. */
  of(memory: ProcessMemory, mapping: Mapping): SharedObject {
    const known = this.#objects.get(mapping.object);
    if (known !== undefined) return known;
    const object = new SharedObject(memory, mapping);
    this.#objects.set(mapping.object, object);
    return object;
  }

  /** Lets go of what nobody pins any more. */
  collect(): void {
    for (const [name, object] of this.#objects) {
      if (this.#frames.holds(object)) continue;
      this.#objects.delete(name);
      object.close();
    }
  }
}
