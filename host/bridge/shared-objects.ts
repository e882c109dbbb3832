import { readFileSync } from 'node:fs';
import type { ForeignFrames } from './foreign.ts';
import { type Mapping, parseLine } from './maps.ts';
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

  /** The same object by an open descriptor of it, and its name as a mapping says it. */
  ofFile(memory: ProcessMemory, name: string, file: number): SharedObject {
    const known = this.#objects.get(name);
    if (known !== undefined) return known;
    const object = new SharedObject(memory, mappingOf(memory.pid, name), file);
    this.#objects.set(name, object);
    return object;
  }

  /** The same, if something of it is pinned. */
  peek(mapping: Mapping): SharedObject | undefined {
    return this.#objects.get(mapping.object);
  }

  /** Whether pages of some are reached through what `memory` has mapped. */
  hangsOn(memory: ProcessMemory): boolean {
    if (this.#objects.size === 0) return false;
    for (const object of this.#objects.values()) if (object.dependsOn(memory)) return true;
    return false;
  }

  /** Those whose pages are reached through what `memory` has mapped. */
  *through(memory: ProcessMemory): Generator<SharedObject> {
    for (const object of this.#objects.values()) if (object.dependsOn(memory)) yield object;
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

/** Where the process has the object: files of huge pages can be written through mappings only. */
function mappingOf(pid: number, name: string): Mapping | undefined {
  try {
    const lines = readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n');
    return lines
      .map(parseLine)
      .find((mapping) => mapping?.shared === true && mapping.object === name);
  } catch {
    return undefined;
  }
}
