// The page in a real browser, served from a run in this process whose every event the test knows.

import type { AddressInfo } from 'node:net';
import { connect, createServer, type Server, type Socket } from 'node:net';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { CATALOGUE } from '../../../trace/catalogue/all.ts';
import type { EventRecord } from '../../../trace/event.ts';
import { LiveHistory } from '../../../trace/stream/live-history.ts';
import { StreamServer, type StreamServerOptions } from '../../../trace/stream/server.ts';
import { type Command, LiveEngine } from '../../../trace/stream/thread.ts';
import { FrameEncoder, inlineSlots } from '../../../trace/wire/encoder.ts';
import { viewerPages } from '../../../vmm/cli/pages.ts';
import { World } from '../../../vmm/scenario/world.ts';
import { DECODER, type Run, SCHEMA } from '../stream/rig.ts';

/** Debian's package `chromium`. */
const CHROMIUM = '/usr/bin/chromium';

const ARGUMENTS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export const MINUTES = 60_000;

type Context = Record<string, never>;

export type T = ExecutionContext<Context>;

export const test = anyTest as TestFn<Context>;

let browser: Browser | undefined;

test.before(async (t) => {
  t.timeout(2 * MINUTES);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
});

test.after.always(async () => {
  await browser?.close();
});

/** A page on the address. Whatever it complains of fails the test. */
export async function open(
  t: T,
  url: string,
  options: BrowserContextOptions = { viewport: { width: 1280, height: 720 } },
): Promise<Page> {
  const context = await browser!.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(MINUTES);
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    // That a connection was refused is told by the browser itself.
    const isNetwork = /WebSocket connection|net::ERR/.test(message.text());
    if (message.type() === 'error' && !isNetwork) complaints.push(message.text());
  });
  t.teardown(async () => {
    await context.close();
    if (complaints.length > 0) throw new Error(`the page complains: ${complaints.join('; ')}`);
  });
  await page.goto(url);
  return page;
}

export interface Served {
  readonly engine: LiveEngine;
  readonly history: LiveHistory;
  readonly server: StreamServer;
  readonly url: string;
  readonly port: number;
  readonly commands: Command[];
}

/** Serves the page of a live run that this process makes. */
export async function servePage(
  engine: LiveEngine,
  commands: Command[],
  options: Partial<StreamServerOptions> = {},
): Promise<Served> {
  const server = new StreamServer({
    engine,
    decoder: DECODER,
    schema: SCHEMA,
    program: 'vsva test',
    host: '127.0.0.1',
    port: 0,
    pages: viewerPages(),
    ...options,
  });
  const port = await server.listen();
  return { engine, history: engine.history, server, url: server.url, port, commands };
}

export async function serveRun(
  t: T,
  run: Run,
  options?: Partial<StreamServerOptions>,
): Promise<Served> {
  const served = await servePage(run.engine, run.commands, options);
  t.teardown(async () => {
    await served.server.close();
    run.engine.close();
  });
  return served;
}

/** A whole run of the model with two processes, ended. */
export function wholeRun(): { engine: LiveEngine; records: EventRecord[]; commands: Command[] } {
  const history = new LiveHistory({ decoder: DECODER, limit: 2 ** 28 });
  const records: EventRecord[] = [];
  const encoder = new FrameEncoder(
    inlineSlots((frame) => history.append(frame.slice())),
    {
      defs: CATALOGUE,
    },
  );
  const world = new World({
    seed: 1,
    vms: 1,
    procs: 2,
    guestBytes: 64 * 2 ** 20,
    input: new Uint8Array(3 * 4096),
    listeners: [(record) => records.push(record)],
    sinks: [encoder],
  });
  while (world.step());
  encoder.flush();
  const commands: Command[] = [];
  const engine = new LiveEngine('live', history, { tell: (command) => commands.push(command) });
  engine.report({ state: 'ended', reason: 'Verified.' });
  return { engine, records, commands };
}

/** The wire between a page and its server, which can be cut. */
export async function wire(
  t: T,
  port: number,
): Promise<{ port: number; cut: () => void; mend: () => Promise<void> }> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroy());
    }
  });
  const listen = (at: number): Promise<void> =>
    new Promise((resolve) => {
      server.listen(at, '127.0.0.1', resolve);
    });
  await listen(0);
  const own = (server.address() as AddressInfo).port;
  const cut = (): void => {
    server.close();
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  t.teardown(cut);
  return { port: own, cut, mend: () => listen(own) };
}

/** What cells of a table say, by rows. */
export const cells = (page: Page, table: string): Promise<string[][]> =>
  page
    .locator(`${table} tbody tr`)
    .evaluateAll((rows) =>
      rows.map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent)),
    );

/** Waits until what has happened so far is drawn. */
export const drawn = (page: Page): Promise<void> =>
  page.evaluate(
    () =>
      new Promise((resolve) => {
        requestAnimationFrame(() => requestAnimationFrame(() => resolve()));
      }),
  );

/** Waits until the page stands at the event. */
export const standsAt = async (page: Page, seq: number): Promise<void> => {
  await page.waitForFunction(
    (text) => document.querySelector('#position')?.textContent.startsWith(text),
    `event ${seq} `,
  );
};

/** Waits until so many events are listed. */
export const lists = async (page: Page, count: number): Promise<void> => {
  await page.waitForFunction(
    (wanted) => document.querySelector<HTMLElement>('#list')?.dataset['count'] === wanted,
    String(count),
  );
};
