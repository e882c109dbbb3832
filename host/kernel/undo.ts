import type { Task } from '../syscall.ts';

/**
 * Undo that may block: what was acquired is given back in reverse, unless it is committed.
 *
 * ```
 * const undo = new Undo();
 * try { acquire(); undo.defer(() => release()); ...; undo.commit(); } finally { yield* undo.unwind(); }
 * ```
 *
 * Undo that never blocks uses the native DisposableStack.
 */
export class Undo {
  readonly #steps: (() => unknown)[] = [];

  /** Adds a step: one that returns a Task, which is carried out, or a plain function. */
  defer(step: (() => Task) | (() => void)): void {
    this.#steps.push(step);
  }

  /** Carries out all steps, last first. A step that throws does not stop the others. */
  *unwind(): Task {
    let failure: { readonly error: unknown } | null = null;
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        const done = step();
        if (isTask(done)) yield* done;
      } catch (error) {
        failure ??= { error };
      }
    }
    if (failure !== null) throw failure.error;
  }

  /** Hands the steps over to a new owner, as DisposableStack.move does. */
  move(): Undo {
    const moved = new Undo();
    moved.#steps.push(...this.#steps.splice(0));
    return moved;
  }

  /** Forgets the steps: what was acquired stays. */
  commit(): void {
    this.#steps.length = 0;
  }
}

function isTask(value: unknown): value is Task {
  return typeof value === 'object' && value !== null && Symbol.iterator in value;
}
