/** Single key presses from the terminal. */
export class Keys {
  static available(): boolean {
    return process.stdin.isTTY;
  }

  /** Waits for a key. `q`, Esc, Ctrl-C and Ctrl-D mean quit. */
  async next(): Promise<'go' | 'quit'> {
    process.stderr.write('-- any key: next phase, q: quit --');
    // Raw only while waiting: in between, Ctrl-C is the signal it always is.
    process.stdin.setRawMode(true);
    const key = await new Promise<string>((resolve) => {
      process.stdin.resume();
      process.stdin.once('data', (data) => {
        process.stdin.pause();
        resolve(data.toString());
      });
    });
    process.stdin.setRawMode(false);
    process.stderr.write('\r\u001b[K');
    return ['q', '\u001b', '\u0003', '\u0004'].includes(key) ? 'quit' : 'go';
  }
}
