/** The dashboard as people have it: the real command in a real terminal. */
import { type ChildProcess, spawn } from 'node:child_process';
import test, { type ExecutionContext } from 'ava';
import { PROMPT, Tmux } from './tmux.ts';

/** The shell has its terminal back: its own screen, the cursor, echo and lines. */
async function givenBack(t: ExecutionContext, terminal: Tmux): Promise<void> {
  await terminal.until(PROMPT);
  t.deepEqual(terminal.modes, { alternate: false, cursor: true });
  terminal.keys('C-l');
  terminal.line('stty -a | grep -oE -- "-?(icanon|echo|isig|icrnl) " | xargs echo modes:');
  const screen = await terminal.until(/^modes: .*\S/m);
  const told = /^modes: (.*)$/m.exec(screen)?.[1]?.trim().split(' ') ?? [];
  t.deepEqual(told.toSorted(), ['echo', 'icanon', 'icrnl', 'isig']);
}

const COLOURS = /\u001b\[[\d;]*(3[1-8]|9[1-7])[;m]/;

test.serial('keys, sizes, views and quit', async (t) => {
  using terminal = await Tmux.open(80, 24);
  terminal.vsva('tui');
  await terminal.until(/VM exits/);
  t.true(terminal.modes.alternate);
  terminal.keys('>');
  terminal.keys('Space');
  terminal.keys('n');
  terminal.keys('2');
  await terminal.until(/through time/);
  terminal.keys('7');
  await terminal.until(/\[7 Walkthrough\]/);
  terminal.resize(200, 60);
  t.regex(await terminal.until(/\[7 Walkthrough\][^]*q quit/), /What happened/);
  terminal.resize(50, 24);
  await terminal.until(/60x20 are needed/);
  terminal.resize(80, 24);
  terminal.keys('6');
  await terminal.until(/Why event \d+ happened/);
  t.regex(terminal.screen(true), COLOURS);
  const { length } = terminal.screen().trimEnd().split('\n');
  t.is(length, 24);
  terminal.keys('q');
  t.regex(await terminal.until(/left at \d+ ns|verified/), /./);
  await givenBack(t, terminal);
});

test.serial('Ctrl-C, and a signal, give the terminal back', async (t) => {
  using terminal = await Tmux.open(80, 24, { NO_COLOR: '1' });
  terminal.vsva('tui');
  await terminal.until(/VM exits/);
  t.notRegex(terminal.screen(true), COLOURS);
  terminal.keys('C-c');
  await givenBack(t, terminal);
  terminal.line('clear');
  terminal.line(`${process.execPath} vmm/cli/vsva.js tui & pid=$!; (sleep 6; kill $pid) & fg %1`);
  await terminal.until(/VM exits/);
  await terminal.until(/left at|Verified/);
  await givenBack(t, terminal);
});

for (const how of ['throw', 'reject', 'exit']) {
  test.serial(`a program that fails (${how}) gives the terminal back`, async (t) => {
    using terminal = await Tmux.open(80, 24);
    terminal.line(`${process.execPath} test/tui/crash.ts ${how}; echo "ended with $?"`);
    await terminal.until(/\[1 Overview\]/);
    const screen = await terminal.until(/ended with [13]/);
    if (how !== 'exit') t.regex(screen, /the program failed/);
    await givenBack(t, terminal);
  });
}

test.serial('a server: watched, stepped, killed, back again', async (t) => {
  let server: ChildProcess | undefined;
  const port = 20_000 + (process.pid % 20_000);
  const serve = async (): Promise<void> => {
    server = spawn(process.execPath, ['vmm/cli/vsva.js', 'serve', '--port', String(port)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise((resolve) => server?.stdout?.once('data', resolve));
  };
  try {
    await serve();
    using terminal = await Tmux.open(120, 30);
    terminal.vsva(`tui ws://127.0.0.1:${port}/`);
    await terminal.until(/ended.*event \d{3}/);
    terminal.keys('p');
    await terminal.until(/paused/);
    server?.kill('SIGKILL');
    await terminal.until(/connection lost/);
    await serve();
    await terminal.until(/connected to vsva/);
    terminal.keys('q');
    await givenBack(t, terminal);
  } finally {
    server?.kill('SIGKILL');
  }
});

test.serial('for a screen reader: sentences, on the same screen', async (t) => {
  using terminal = await Tmux.open(100, 30);
  terminal.vsva('tui --screen-reader');
  await terminal.until(/Overview\. The run is paused/);
  t.false(terminal.modes.alternate);
  terminal.keys('n');
  const screen = await terminal.until(/Phase 1: The host boots/);
  t.notRegex(screen, /[─│┌└●◆▁▂▃▄▅▆▇█]/);
  terminal.keys('q');
  await givenBack(t, terminal);
});
