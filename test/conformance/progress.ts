/** Where a run is: one line that is written over, for somebody at a terminal; silent otherwise. */
export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #shown: boolean;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
    this.#shown = stream.isTTY;
  }

  show(text: string): void {
    if (this.#shown) this.#stream.write(`\r\u001b[K${text.slice(0, this.#stream.columns - 1)}`);
  }

  /** Steps that take long are told to everybody. */
  say(text: string): void {
    this.clear();
    this.#stream.write(`${text}\n`);
  }

  clear(): void {
    if (this.#shown) this.#stream.write('\r\u001b[K');
  }
}
