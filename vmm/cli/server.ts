import { type Command } from 'commander';
import { isLoopback } from '../../trace/stream/access.ts';
import type { Engine } from '../../trace/stream/engine.ts';
import { StreamServer } from '../../trace/stream/server.ts';
import type { FrameDecoder } from '../../trace/wire/decoder.ts';
import type { Schema } from '../../trace/wire/layout.ts';
import { Refusal, whyNot } from './fail.ts';
import { wholeNumber } from './options.ts';
import { viewerPages } from './pages.ts';
import { PROGRAM } from './version.ts';

const DEFAULT_PORT = 8732;

/** What everything that serves viewers has in common. */
export interface ServeOptions {
  readonly port: number;
  readonly host: string;
  readonly token?: string;
  readonly controlToken?: string;
  readonly viewOnly?: boolean;
  readonly origin?: readonly string[];
  readonly speed?: number;
}

/** Adds the options of every command that serves viewers. */
export const serveOptions = (command: Command): Command =>
  command
    .option('--port <N>', 'TCP port; 0: any that is free', wholeNumber(0, 65535), DEFAULT_PORT)
    .option('--host <ADDRESS>', 'where to listen; other than loopback needs --token', '127.0.0.1')
    .option('--token <TEXT>', 'viewers must show it: ?token=TEXT')
    .option('--control-token <TEXT>', 'only viewers that show it may pause, step and seek')
    .option('--view-only', 'no viewer may pause, step or seek')
    .option('--origin <URL...>', 'pages of these origins may connect too')
    .option('--speed <N>', 'events in a second; default: as fast as it goes', wholeNumber(1, 1e9));

/** @throws Refusal when an address other than loopback has no token */
export function newServer(
  engine: Engine,
  decoder: FrameDecoder,
  schema: Schema,
  options: ServeOptions,
): StreamServer {
  const { host, port, token, controlToken, viewOnly, origin } = options;
  if (!isLoopback(host) && token === undefined) {
    throw new Refusal(
      2,
      `--host ${host} can be reached from other machines: give a token too: --token TEXT`,
    );
  }
  return new StreamServer({
    engine,
    decoder,
    schema,
    program: PROGRAM,
    host,
    port,
    token,
    controlToken,
    viewOnly,
    origins: origin,
    pages: viewerPages(),
  });
}

/** @throws Refusal saying what to do when the address cannot be had */
export async function listen(server: StreamServer, { host, port }: ServeOptions): Promise<void> {
  try {
    await server.listen();
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code === 'EADDRINUSE') {
      throw new Refusal(1, `port ${port} is in use: choose another with --port, or --port 0`);
    }
    if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
      throw new Refusal(1, `${host} is no address of this machine`);
    }
    throw new Refusal(1, `cannot listen on ${host} port ${port}: ${whyNot(error)}`);
  }
}

/** Where it is, and each change of what it does, one line each. */
export function announce(server: StreamServer, engine: Engine): void {
  process.stdout.write(`serving ${server.url}  (Ctrl-C ends it)\n`);
  const wake = engine.onChange;
  let told = engine.state;
  engine.onChange = () => {
    wake();
    if (engine.state === told) return;
    told = engine.state;
    const { reason } = engine;
    process.stdout.write(`${told}${reason === undefined ? '' : `: ${reason}`}\n`);
  };
}

/** Resolves when the user or the system ends the program. */
export const interrupted = (): Promise<void> =>
  new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.once(signal, () => resolve());
    }
  });
