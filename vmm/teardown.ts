import type { Task } from '../host/syscall.ts';
import { SysError } from './sys-error.ts';

interface Step {
  readonly what: string;
  readonly undo: () => Task;
}

/** What the VMM has acquired, to be given back in reverse order (ARCHITECTURE.md, blocking). */
export class Teardown {
  readonly #steps: Step[] = [];

  /** Registers the counterpart of what just succeeded. The result cancels it: others see to it. */
  defer(what: string, undo: () => Task): () => void {
    const step = { what, undo };
    this.#steps.push(step);
    return () => {
      const at = this.#steps.indexOf(step);
      if (at >= 0) this.#steps.splice(at, 1);
    };
  }

  /** Undoes everything; a step the kernel refuses is reported and the others go on. */
  *run(refused: (what: string, error: SysError) => void): Task {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        yield* step.undo();
      } catch (error) {
        if (!(error instanceof SysError)) throw error;
        refused(step.what, error);
      }
    }
  }
}
