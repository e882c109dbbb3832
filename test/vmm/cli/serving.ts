// Commands that serve viewers until they are interrupted, in processes of their own.
import { type ChildProcess, spawn } from 'node:child_process';
import { ENTRY, type Ended, ending, environment, type T } from './processes.ts';

/** A command that has said where it serves. */
export interface Serving {
  /** Of its websocket. */
  readonly url: string;
  readonly port: number;
  readonly child: ChildProcess;
  /** Resolves when it has printed the text. */
  readonly says: (text: string) => Promise<void>;
  /** Interrupts it as Ctrl-C does, or otherwise. */
  readonly stop: (signal?: NodeJS.Signals) => Promise<Ended>;
}

/** `vsva ARGS...`, up to the line that says where it serves. `input`: it is given something to read. */
export async function serving(
  t: T,
  args: readonly string[],
  { input = false }: { readonly input?: boolean } = {},
): Promise<Serving> {
  const child = spawn(process.execPath, [ENTRY, ...args], { env: environment() });
  if (!input) child.stdin.end();
  t.teardown(() => child.kill('SIGKILL'));
  const ended = ending(child);
  let printed = '';
  let wake = (): void => undefined;
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (text: string) => {
      printed += text;
      wake();
    });
  }
  void ended.then(() => wake());
  const matches = async (pattern: RegExp): Promise<RegExpExecArray> => {
    for (;;) {
      const found = pattern.exec(printed);
      if (found !== null) return found;
      if (child.exitCode !== null) throw new Error(`it ended without ${pattern}: ${printed}`);
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  const [, at = '', port = ''] = await matches(/serving http:\/\/(\S+?:(\d+)\/)/);
  return {
    url: `ws://${at}`,
    port: Number(port),
    child,
    says: async (text) => {
      await matches(new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')));
    },
    stop: (signal = 'SIGINT') => {
      child.kill(signal);
      return ended;
    },
  };
}
