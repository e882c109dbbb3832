/** What a terminal shows of what Ink writes: the app in an emulator, resized while it runs. */
import { PassThrough } from 'node:stream';
import xterm from '@xterm/headless';
import test, { type ExecutionContext } from 'ava';
import { type Source, showDashboard } from '../../tui/dashboard.ts';
import { recordRun } from './events.ts';

const run = recordRun();

class Emulator {
  readonly #terminal: InstanceType<typeof xterm.Terminal>;
  readonly stdin = Object.assign(new PassThrough(), {
    isTTY: true,
    setRawMode: () => undefined,
    ref: () => undefined,
    unref: () => undefined,
  });
  readonly stdout: PassThrough & { isTTY: boolean; columns: number; rows: number };
  /** Pieces written, and bytes. */
  writes = 0;
  bytes = 0;

  constructor(columns: number, rows: number) {
    const options = { cols: columns, rows, allowProposedApi: true, convertEol: true };
    this.#terminal = new xterm.Terminal(options);
    this.stdout = Object.assign(new PassThrough(), { isTTY: true, columns, rows });
    this.stdout.on('data', (data: Buffer) => {
      this.writes++;
      this.bytes += data.length;
      this.#terminal.write(data);
    });
  }

  resize(columns: number, rows: number): void {
    this.#terminal.resize(columns, rows);
    Object.assign(this.stdout, { columns, rows });
    this.stdout.emit('resize');
  }

  get lines(): string[] {
    const { active } = this.#terminal.buffer;
    return Array.from({ length: this.stdout.rows }, (_, row) =>
      (active.getLine(active.baseY + row)?.translateToString(true) ?? '').trimEnd(),
    );
  }

  async until(t: ExecutionContext, wanted: RegExp): Promise<void> {
    for (let i = 0; i < 400 && !wanted.test(this.lines.join('\n')); i++) {
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    t.regex(this.lines.join('\n'), wanted);
  }
}

const sourceOf = (): Source => {
  const events = [...run];
  return {
    get ended() {
      return events.length === 0;
    },
    next: (most) => events.splice(0, most),
  };
};

test.serial('every view at several sizes, resized while it is shown', async (t) => {
  const emulator = new Emulator(80, 24);
  const { stdin, stdout } = emulator;
  const shown = showDashboard(
    { source: sourceOf() },
    {
      stdin: stdin as unknown as NodeJS.ReadStream,
      stdout: stdout as unknown as NodeJS.WriteStream,
      palette: 'sixteen',
    },
  );
  await emulator.until(t, /VM exits/);
  for (let i = 0; i < 8; i++) stdin.write('+');
  await emulator.until(t, /ended/);
  const sizes = [
    [80, 24],
    [60, 20],
    [120, 40],
    [200, 60],
    [80, 24],
  ] as const;
  for (const [columns, rows] of sizes) {
    emulator.resize(columns, rows);
    for (const view of ['1', '2', '3', '4', '5', '6', '7']) {
      stdin.write(view);
      await emulator.until(t, new RegExp(`^.*\\[${view} `, 'm'));
      await emulator.until(t, /q quit$/);
      t.regex(emulator.lines[0] ?? '', /^■ ended/);
    }
  }
  stdin.write('q');
  await shown;
});

test.serial('nothing is written while nothing changes', async (t) => {
  const emulator = new Emulator(100, 30);
  const { stdin, stdout } = emulator;
  const shown = showDashboard(
    { source: sourceOf() },
    {
      stdin: stdin as unknown as NodeJS.ReadStream,
      stdout: stdout as unknown as NodeJS.WriteStream,
      palette: 'none',
    },
  );
  await emulator.until(t, /VM exits/);
  stdin.write(' ');
  await emulator.until(t, /paused/);
  await new Promise((resolve) => setTimeout(resolve, 200));
  const before = emulator.bytes;
  await new Promise((resolve) => setTimeout(resolve, 700));
  t.is(emulator.bytes, before);
  stdin.write('q');
  await shown;
});
