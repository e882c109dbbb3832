import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Nothing of what runs the tests: CI, colours, sizes. */
const ENV = {
  PATH: process.env['PATH'],
  HOME: process.env['HOME'],
  LANG: 'C.UTF-8',
  TERM: 'xterm',
};

const ROOT = new URL('../..', import.meta.url).pathname;

/** What a shell shows when it waits for a line. */
export const PROMPT = /^\S*[#$] *$/m;

/** A terminal with a shell in it, of a tmux server of its own (Debian: tmux). */
export class Tmux implements Disposable {
  readonly #dir = mkdtempSync(join(tmpdir(), 'vsva-tmux-'));

  private constructor(columns: number, rows: number, env: Readonly<Record<string, string>>) {
    const settings = Object.entries(env).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
    const shell = 'exec bash --norc --noprofile';
    const size = ['-x', String(columns), '-y', String(rows)];
    this.#tmux('new-session', '-d', '-s', 'test', ...size, ...settings, '-c', ROOT, shell);
  }

  /** Waits for the shell. */
  static async open(
    columns: number,
    rows: number,
    env: Readonly<Record<string, string>> = {},
  ): Promise<Tmux> {
    const terminal = new Tmux(columns, rows, env);
    await terminal.until(PROMPT);
    return terminal;
  }

  /** A command line of vsva, typed and entered. */
  vsva(line: string): void {
    this.line(`${process.execPath} vmm/cli/vsva.js ${line}`);
  }

  line(text: string): void {
    this.#tmux('send-keys', '-t', 'test', '-l', text);
    this.keys('Enter');
  }

  /** Keys by tmux's names. */
  keys(...names: string[]): void {
    this.#tmux('send-keys', '-t', 'test', ...names);
  }

  resize(columns: number, rows: number): void {
    this.#tmux('resize-window', '-t', 'test', '-x', String(columns), '-y', String(rows));
  }

  /** What is seen, line by line; with `escapes`, its colours too. */
  screen(escapes = false): string {
    return this.#tmux('capture-pane', '-p', ...(escapes ? ['-e'] : []), '-t', 'test');
  }

  /** Waits until something is seen. Error with the screen when it does not come. */
  async until(wanted: RegExp, ms = 20_000): Promise<string> {
    const end = Date.now() + ms;
    for (;;) {
      const screen = this.screen();
      if (wanted.test(screen)) return screen;
      if (Date.now() > end) throw new Error(`${wanted} did not come:\n${screen}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Whether the terminal is as a shell leaves it: no other screen, the cursor seen, lines edited. */
  get modes(): { alternate: boolean; cursor: boolean } {
    const [alternate, cursor] = this.#tmux(
      'display-message',
      '-p',
      '-t',
      'test',
      '#{alternate_on} #{cursor_flag}',
    )
      .trim()
      .split(' ');
    return { alternate: alternate === '1', cursor: cursor === '1' };
  }

  [Symbol.dispose](): void {
    try {
      this.#tmux('kill-server');
    } finally {
      rmSync(this.#dir, { recursive: true, force: true });
    }
  }

  #tmux(...words: string[]): string {
    const all = ['-S', join(this.#dir, 's'), '-f', '/dev/null', ...words];
    return execFileSync('tmux', all, {
      env: ENV,
      stdio: ['ignore', 'pipe', 'pipe'],
      encoding: 'utf8',
    });
  }
}
