import { PassThrough } from 'node:stream';
import test from 'ava';
import type { EventRecord } from '../../trace/event.ts';
import { type Source, showDashboard } from '../../tui/dashboard.ts';
import { recordRun } from './events.ts';

const ALTERNATE_ON = '\u001b[?1049h';
const ALTERNATE_OFF = '\u001b[?1049l';

/** A terminal that keeps what is written to it. */
class Terminal {
  readonly stdin = Object.assign(new PassThrough(), {
    isTTY: true,
    setRawMode: (raw: boolean) => {
      this.raw = raw;
    },
    ref: () => undefined,
    unref: () => undefined,
  });
  readonly stdout = Object.assign(new PassThrough(), { isTTY: true, columns: 80, rows: 24 });
  raw = false;
  written = '';

  constructor() {
    this.stdout.on('data', (data: Buffer) => {
      this.written += data.toString();
    });
  }

  show(source: Source, colours: boolean, signal?: AbortSignal): Promise<void> {
    return showDashboard(
      { source },
      {
        stdin: this.stdin as unknown as NodeJS.ReadStream,
        stdout: this.stdout as unknown as NodeJS.WriteStream,
        palette: colours ? 'sixteen' : 'none',
        ...(signal !== undefined && { signal }),
      },
    );
  }

  async until(text: string): Promise<void> {
    for (let i = 0; i < 600 && !this.written.includes(text); i++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  type(keys: string): void {
    this.stdin.write(keys);
  }
}

class Recording implements Source {
  readonly events: EventRecord[] = [...recordRun()];

  get ended(): boolean {
    return this.events.length === 0;
  }

  next(most: number): readonly EventRecord[] {
    return this.events.splice(0, most);
  }
}

test.serial('it runs, hears keys, quits, and gives the screen back', async (t) => {
  const terminal = new Terminal();
  const shown = terminal.show(new Recording(), false);
  await terminal.until('VM exits');
  t.true(terminal.raw);
  terminal.type('6');
  await terminal.until('Why event');
  terminal.type('q');
  await shown;
  t.true(terminal.written.includes('Why event'));
  t.is(terminal.written.split(ALTERNATE_ON).length, 2);
  t.is(terminal.written.split(ALTERNATE_OFF).length, 2);
  t.true(terminal.written.lastIndexOf('\u001b[?25h') > terminal.written.lastIndexOf('\u001b[?25l'));
  t.false(terminal.raw);
  t.notRegex(terminal.written, /same key|Warning/);
});

test.serial('without colours no colour is written', async (t) => {
  const terminal = new Terminal();
  const shown = terminal.show(new Recording(), false);
  await terminal.until('VM exits');
  terminal.type('\u0003');
  await shown;
  t.notRegex(terminal.written, /\u001b\[(3[0-7]|4[0-7]|9[0-7]|10[0-7]|38|48)[;m]/);
});

test.serial('a signal from outside ends it as quit does', async (t) => {
  const terminal = new Terminal();
  const control = new AbortController();
  const shown = terminal.show(new Recording(), true, control.signal);
  await terminal.until('VM exits');
  control.abort();
  await shown;
  t.true(terminal.written.includes(ALTERNATE_OFF));
  t.false(terminal.raw);
});

test.serial(
  'a world that fails stays on the screen until the user quits, then throws',
  async (t) => {
    const terminal = new Terminal();
    const source: Source = {
      ended: false,
      next: () => {
        throw new Error('the world broke');
      },
    };
    const shown = terminal.show(source, false);
    await terminal.until('the world broke');
    terminal.type('q');
    await t.throwsAsync(shown, { message: 'the world broke' });
    t.true(terminal.written.includes(ALTERNATE_OFF));
  },
);
