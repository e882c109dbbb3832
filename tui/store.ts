import { type Action, type AppState, FIRST_STATE, reduce } from './state/app.ts';

/** Holds the state and tells who looks at it that it changed. */
export class Store {
  #state: AppState = FIRST_STATE;
  readonly #listeners = new Set<() => void>();

  readonly get = (): AppState => this.#state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  readonly dispatch = (action: Action): void => {
    const next = reduce(this.#state, action);
    if (next === this.#state) return;
    this.#state = next;
    for (const listener of this.#listeners) listener();
  };
}
