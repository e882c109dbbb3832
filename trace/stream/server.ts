import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { FrameDecoder } from '../wire/decoder.ts';
import type { Schema } from '../wire/layout.ts';
import { isLoopback, knowsHost, knowsOrigin, rightsOf, urlOf } from './access.ts';
import { type Codec, codecsOf } from './codec.ts';
import type { Engine } from './engine.ts';
import {
  BadRequest,
  CLOSE,
  type Control,
  MAX_REQUEST_BYTES,
  PROTOCOL,
  requestSchema,
  SUBPROTOCOL,
} from './protocol.ts';
import { Session } from './session.ts';

/** Viewers at once. */
const MOST_VIEWERS = 1000;

/** Messages that are none, after which a viewer is let go. */
const MOST_MALFORMED = 8;

/** A websocket says why it closes in so many bytes at most. */
const MOST_REASON_BYTES = 120;

const HEARTBEAT_MS = 15_000;

/** Pings without an answer, after which a viewer is taken for gone. */
const MOST_SILENT = 4;

/** Connections at once: viewers, and who asks for pages. */
const MOST_CONNECTIONS = MOST_VIEWERS + 200;

/** Milliseconds in which the head of a request must have come. */
const HEAD_MS = 10_000;

/** Milliseconds between two looks at viewers with a clock of their own. */
const TICK_MS = 8;

/** Milliseconds that viewers have at once, before the run's events are taken again. */
const TURN_MS = 8;

/** What a page needs, by path: whatever else is asked for does not exist. */
export type Pages = (path: string) => { readonly type: string; readonly body: string } | undefined;

export interface StreamServerOptions {
  readonly engine: Engine;
  readonly decoder: FrameDecoder;
  readonly schema: Schema;
  /** Name and version, as viewers are told it. */
  readonly program: string;
  /** An address of this machine; other than loopback, there must be a token. */
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** Whoever shows it may watch. Undefined: everybody on this machine may. */
  readonly token?: string | undefined;
  /** Whoever shows it may also pause, step and seek. */
  readonly controlToken?: string | undefined;
  /** Nobody may pause, step or seek. */
  readonly viewOnly?: boolean | undefined;
  /** Further origins of pages that may connect: `https://example.org`. */
  readonly origins?: readonly string[] | undefined;
  readonly pages?: Pages | undefined;
  /** Real milliseconds between two looks at whether viewers are there; default 15 seconds. */
  readonly heartbeatMs?: number;
  /** In which the head of a request must have come; default 10 seconds. */
  readonly headMs?: number;
  /** Viewers at once; default 1000. */
  readonly mostViewers?: number;
}

interface Viewer {
  readonly socket: WebSocket;
  readonly session: Session;
  readonly codec: Codec;
  malformed: number;
  silent: number;
  sentAt: number;
}

interface Page {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

const plain = (status: number, why: string): Page => ({
  status,
  type: 'text/plain',
  body: `${why}\n`,
});

const json = (value: unknown): Page => ({
  status: 200,
  type: 'application/json',
  body: `${JSON.stringify(value, undefined, 2)}\n`,
});

/** A page may load what this server sends and nothing else, and nobody may put it in a frame. */
const HEADERS = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'content-security-policy':
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; style-src 'self'" +
    " 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
} as const;

/** Streams one run to any number of viewers, and serves the page that is one of them. */
export class StreamServer {
  readonly #options: StreamServerOptions;
  readonly #session = randomBytes(8).toString('hex');
  readonly #http: Server;
  readonly #sockets: WebSocketServer;
  readonly #viewers = new Set<Viewer>();
  readonly #codecs: ReadonlyMap<string, Codec>;
  #turn: ReturnType<typeof setImmediate> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Until then no request is carried out: the last ones took so long. */
  #restsUntil = 0;
  #heartbeat: ReturnType<typeof setInterval> | undefined;
  #port = 0;
  readonly #heartbeatMs: number;

  constructor(options: StreamServerOptions) {
    if (!isLoopback(options.host) && options.token === undefined) {
      throw new RangeError(`address ${options.host} can be reached from outside: it needs a token`);
    }
    this.#options = options;
    this.#heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS;
    this.#codecs = codecsOf(options.decoder, options.engine.history.pool);
    const headMs = options.headMs ?? HEAD_MS;
    const limits = { headersTimeout: headMs, requestTimeout: headMs, keepAliveTimeout: headMs };
    this.#http = createServer(
      { ...limits, connectionsCheckingInterval: headMs / 2 },
      (request, response) => this.#answer(request, response),
    );
    this.#http.maxConnections = MOST_CONNECTIONS;
    this.#sockets = new WebSocketServer({
      noServer: true,
      maxPayload: MAX_REQUEST_BYTES,
      perMessageDeflate: false,
      // Without one a viewer would not see why: whatever it asked for, and then it is told.
      handleProtocols: (offered) => pickProtocol(offered) ?? [...offered][0] ?? false,
    });
    this.#http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
  }

  /**
   * Listens. Resolves to the port.
   * @throws the error of the system: EADDRINUSE, EACCES, EADDRNOTAVAIL
   */
  async listen(): Promise<number> {
    const { host, port, engine } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#http.once('error', reject);
      this.#http.listen(port, host, () => {
        this.#http.off('error', reject);
        resolve();
      });
    });
    this.#port = (this.#http.address() as AddressInfo).port;
    engine.onChange = () => this.#wake();
    this.#heartbeat = setInterval(() => this.#beat(), this.#heartbeatMs);
    return this.#port;
  }

  get viewers(): number {
    return this.#viewers.size;
  }

  /** Where the page is. */
  get url(): string {
    const { host } = this.#options;
    return `http://${host.includes(':') ? `[${host}]` : host}:${this.#port}/`;
  }

  /** Ends every connection in order, then lets go of the port. */
  async close(): Promise<void> {
    clearInterval(this.#heartbeat);
    clearImmediate(this.#turn);
    clearTimeout(this.#timer);
    this.#options.engine.onChange = () => undefined;
    for (const { socket } of this.#viewers) socket.close(CLOSE.SERVER_LEAVES, 'the server leaves');
    this.#sockets.close();
    this.#http.closeAllConnections();
    await new Promise<void>((resolve) => {
      this.#http.close(() => resolve());
      setTimeout(() => {
        for (const { socket } of this.#viewers) socket.terminate();
      }, 500).unref();
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { status, type, body } = this.#page(request);
    response.writeHead(status, { 'content-type': `${type}; charset=utf-8`, ...HEADERS });
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  #page(request: IncomingMessage): Page {
    const { engine, schema, program, pages } = this.#options;
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return plain(405, 'only GET and HEAD');
    if (!knowsHost(request, this.#options))
      return plain(403, 'this is not the host that was asked for');
    const path = urlOf(request)?.pathname ?? '';
    const page = pages?.(path);
    if (page !== undefined) return { status: 200, ...page };
    if (path !== '/status' && path !== '/schema') return plain(404, 'not here');
    if (rightsOf(request, this.#options) === undefined) return plain(401, 'a token is needed');
    if (path === '/schema') return json({ protocol: PROTOCOL, requests: requestSchema(), schema });
    const { history } = engine;
    return json({
      program,
      session: this.#session,
      mode: engine.mode,
      state: engine.state,
      firstSeq: history.firstSeq,
      lastSeq: history.lastSeq,
      ns: history.ns,
      viewers: this.#viewers.size,
    });
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const refuse = (status: string, why: string): void => {
      socket.end(
        `HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: text/plain\r\n` +
          `content-length: ${Buffer.byteLength(why)}\r\n\r\n${why}`,
      );
    };
    socket.on('error', () => socket.destroy());
    if (!knowsHost(request, this.#options) || !knowsOrigin(request, this.#options)) {
      refuse('403 Forbidden', 'pages of this origin may not connect\n');
      return;
    }
    const rights = rightsOf(request, this.#options);
    const { mostViewers = MOST_VIEWERS } = this.#options;
    if (this.#viewers.size >= mostViewers) {
      refuse('503 Service Unavailable', `there are ${mostViewers} viewers already\n`);
      return;
    }
    this.#sockets.handleUpgrade(request, socket, head, (viewer) => {
      viewer.on('error', () => viewer.terminate());
      if (rights === undefined) {
        viewer.close(CLOSE.UNAUTHORIZED, 'a token is needed: ?token=... or Authorization: Bearer');
      } else if (!this.#codecs.has(viewer.protocol)) {
        const known = Object.values(SUBPROTOCOL).join(', ');
        viewer.close(CLOSE.NO_COMMON_PROTOCOL, `this server speaks ${known}`);
      } else this.#welcome(viewer, rights);
    });
  }

  #welcome(socket: WebSocket, granted: readonly Control[]): void {
    const { engine, decoder, schema, program } = this.#options;
    const codec = this.#codecs.get(socket.protocol)!;
    const { pool } = engine.history;
    const line = {
      get waiting(): number {
        return socket.bufferedAmount;
      },
      send: (data: string | Uint8Array, frame?: Uint8Array): void => {
        viewer.sentAt = performance.now();
        if (socket.readyState !== socket.OPEN) return;
        if (frame !== undefined) pool?.hold(frame);
        socket.send(data, () => {
          if (frame !== undefined) pool?.release(frame);
          this.#wake();
        });
      },
    };
    const session = new Session({
      engine,
      decoder,
      session: this.#session,
      codec,
      line,
      granted,
      now: () => performance.now(),
    });
    const viewer: Viewer = { socket, session, codec, malformed: 0, silent: 0, sentAt: 0 };
    this.#viewers.add(viewer);
    socket.on('close', () => this.#viewers.delete(viewer));
    socket.on('pong', () => {
      viewer.silent = 0;
    });
    socket.on('message', (data, isBinary) => this.#received(viewer, data as Buffer, isBinary));
    const { history } = engine;
    line.send(
      codec.encode({
        type: 'hello',
        protocol: PROTOCOL,
        program,
        session: this.#session,
        mode: engine.mode,
        granted,
        schema,
        clock: { unit: 'ns', now: history.ns },
        firstSeq: history.firstSeq,
        lastSeq: history.lastSeq,
        heartbeatMs: this.#heartbeatMs,
        maxMessageBytes: MAX_REQUEST_BYTES,
        status: session.status(),
      }),
    );
  }

  #received(viewer: Viewer, data: Buffer, isBinary: boolean): void {
    const { socket, session } = viewer;
    if (socket.readyState !== socket.OPEN) return;
    try {
      session.receive(data, isBinary);
    } catch (error) {
      if (!(error instanceof BadRequest)) throw error;
      viewer.malformed++;
      if (viewer.malformed >= MOST_MALFORMED) {
        socket.close(CLOSE.MALFORMED, `${MOST_MALFORMED} messages were none of this protocol`);
      }
    }
    if (session.full) socket.pause();
    this.#wake();
  }

  /** Soon, once, for all: what a viewer asked, and what it has room for. */
  #wake(): void {
    this.#turn ??= setImmediate(() => {
      this.#turn = undefined;
      this.#work();
    });
  }

  #wakeIn(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#work();
    }, ms);
  }

  /**
   * Viewers in turn, for a bounded time, so that the run's events are taken in between. What viewers
   * ask for may be much work: after much of it none is done for as long.
   */
  #work(): void {
    const begun = performance.now();
    const until = begun + TURN_MS;
    const asks = begun >= this.#restsUntil;
    let now = begun;
    for (const viewer of [...this.#viewers]) {
      if (now >= until) break;
      // Whoever had its turn is the last of the next round.
      this.#viewers.delete(viewer);
      this.#viewers.add(viewer);
      this.#serve(viewer, until, asks);
      if (!viewer.session.full && viewer.socket.isPaused) viewer.socket.resume();
      now = performance.now();
    }
    if (asks && now >= until) this.#restsUntil = 2 * now - begun;
    const waits = new Set([...this.#viewers].map(({ session }) => session.waitsFor));
    const rests = this.#restsUntil - now;
    if (waits.has('turn') || (waits.has('request') && rests <= 0)) this.#wake();
    else if (waits.has('request')) this.#wakeIn(rests);
    else if (waits.has('time')) this.#wakeIn(TICK_MS);
  }

  /** What goes wrong for one viewer (a damaged recording) ends its connection and no other. */
  #serve({ session, socket }: Viewer, until: number, asks: boolean): void {
    try {
      session.work(until, asks);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      socket.close(CLOSE.FAILED, Buffer.from(reason).subarray(0, MOST_REASON_BYTES).toString());
    }
  }

  #beat(): void {
    const { history } = this.#options.engine;
    const now = performance.now();
    for (const { socket, session, codec, sentAt } of this.#viewers) {
      if (socket.bufferedAmount > 0 || now - sentAt < this.#heartbeatMs) continue;
      const { lastSeq: seq, ns } = history;
      socket.send(codec.encode({ type: 'heartbeat', seq, ns, dropped: session.dropped }));
    }
    for (const viewer of this.#viewers) {
      if (++viewer.silent > MOST_SILENT) {
        viewer.socket.close(CLOSE.TOO_SLOW, 'nothing was taken for too long');
        viewer.socket.terminate();
      } else viewer.socket.ping();
    }
  }
}

function pickProtocol(offered: ReadonlySet<string>): string | undefined {
  const known: readonly string[] = Object.values(SUBPROTOCOL);
  return [...offered].find((one) => known.includes(one));
}
