import { Packr, Unpackr } from 'msgpackr';
import { WebSocket } from 'ws';
import { CATALOGUE } from '../catalogue/all.ts';
import { FrameDecoder, type FrameView } from '../wire/decoder.ts';
import {
  CLOSE,
  type Dropped,
  type ErrorCode,
  type Hello,
  PROTOCOL,
  type Reply,
  type Request,
  type RequestOf,
  type RequestType,
  type ServerMessage,
  type Snapshot,
  type Status,
  SUBPROTOCOL,
} from './protocol.ts';

/** Milliseconds before the first attempt to come back, and at most before a later one. */
const RETRY_MS = 250;
const MOST_RETRY_MS = 8000;

/** Milliseconds without a word, after which the connection is taken for dead. */
const MOST_SILENCE_MS = 45_000;

const packr = new Packr({ useRecords: false });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' });

/** The server refused a request. */
export class RequestError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** What a viewer is told. All but `events` may be left out. */
export interface ClientEvents {
  /** A connection is there; `resumed`: it goes on where the last one broke off. */
  readonly hello?: (hello: Hello, resumed: boolean) => void;
  readonly snapshot?: (snapshot: Snapshot) => void;
  /** Events from..to are settled: those that match are in the frame, if any do. */
  readonly events: (view: FrameView | undefined, from: number, to: number) => void;
  readonly dropped?: (dropped: Dropped) => void;
  readonly status?: (status: Status) => void;
  /** The connection is gone; the next attempt follows in so many milliseconds, or none (null). */
  readonly lost?: (reason: string, retryMs: number | null) => void;
}

export type Filter = NonNullable<RequestOf<'subscribe'>['filter']>;

export interface ClientOptions {
  /** `ws://127.0.0.1:8732/`, with `?token=...` where one is needed. */
  readonly url: string;
  readonly events: ClientEvents;
  readonly filter?: Filter;
  /** Never skip what there was no time for. */
  readonly lossless?: boolean;
  /** Begin with this event's successor: 0, the beginning. Default: now. */
  readonly after?: number;
  /** Come back when the connection breaks. Default: yes. */
  readonly retries?: boolean;
}

type Body<T extends RequestType> = Omit<RequestOf<T>, 'type' | 'id'>;

interface Waiting {
  resolve(reply: Reply): void;
  reject(error: Error): void;
}

/** A viewer's end of the stream: comes back by itself, and then neither misses nor repeats an event. */
export class StreamClient {
  readonly #options: ClientOptions;
  #socket: WebSocket | undefined;
  #decoder: FrameDecoder | undefined;
  #session: string | undefined;
  #seq: number | undefined;
  #nextId = 1;
  readonly #waiting = new Map<number, Waiting>();
  #retryMs = RETRY_MS;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#seq = options.after;
    this.#connect();
  }

  /** The last event that was settled. */
  get seq(): number {
    return this.#seq ?? 0;
  }

  /**
   * Asks for something.
   * @throws RequestError when the server refuses; Error when the connection breaks first
   */
  request<T extends Exclude<RequestType, 'pong' | 'subscribe'>>(
    type: T,
    body: Body<T>,
  ): Promise<Reply> {
    return this.#ask({ ...body, type, id: this.#nextId++ } as unknown as Request & { id: number });
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#socket?.close(CLOSE.END);
    this.#socket = undefined;
  }

  #ask(request: Request & { id: number }): Promise<Reply> {
    const socket = this.#socket;
    return new Promise((resolve, reject) => {
      if (socket?.readyState !== WebSocket.OPEN) {
        reject(new Error('there is no connection'));
        return;
      }
      this.#waiting.set(request.id, { resolve, reject });
      socket.send(packr.pack(request));
    });
  }

  #connect(): void {
    const socket = new WebSocket(this.#options.url, [SUBPROTOCOL.MSGPACK], {
      perMessageDeflate: false,
      handshakeTimeout: 10_000,
    });
    this.#socket = socket;
    let why = '';
    socket.on('error', (error) => {
      why = error.message;
    });
    socket.on('message', (data: Buffer) => {
      this.#alive();
      try {
        this.#take(unpackr.unpack(data) as ServerMessage);
      } catch (error) {
        why = error instanceof Error ? error.message : String(error);
        socket.close(CLOSE.MALFORMED);
      }
    });
    socket.on('ping', () => this.#alive());
    socket.on('close', (code, reason) => {
      this.#left(code, reason.length > 0 ? reason.toString() : why);
    });
    this.#alive();
  }

  #alive(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#socket?.terminate(), MOST_SILENCE_MS);
  }

  #left(code: number, why: string): void {
    clearTimeout(this.#silence);
    for (const waiting of this.#waiting.values()) {
      waiting.reject(new Error('the connection broke'));
    }
    this.#waiting.clear();
    if (this.#closed) return;
    const final = code === CLOSE.UNAUTHORIZED || code === CLOSE.NO_COMMON_PROTOCOL;
    const reason = why === '' ? `the server closed the connection (${code})` : why;
    if (final || this.#options.retries === false) {
      this.#options.events.lost?.(reason, null);
      return;
    }
    this.#options.events.lost?.(reason, this.#retryMs);
    this.#timer = setTimeout(() => this.#connect(), this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, MOST_RETRY_MS);
  }

  #take(message: ServerMessage): void {
    const { events } = this.#options;
    switch (message.type) {
      case 'hello':
        this.#greet(message);
        break;
      case 'snapshot':
        this.#seq = message.seq;
        events.snapshot?.(message);
        break;
      case 'events': {
        this.#seq = Math.max(message.to, this.#seq ?? 0);
        const data = 'data' in message ? message.data : new Uint8Array(0);
        const view = data.length === 0 ? undefined : this.#decoder?.frame(data);
        events.events(view, message.from, message.to);
        break;
      }
      case 'dropped':
        this.#seq = message.to;
        events.dropped?.(message);
        break;
      case 'status':
        events.status?.(message);
        break;
      case 'heartbeat':
        break;
      case 'reply':
        this.#settle(message.id, (waiting) => waiting.resolve(message));
        break;
      case 'error':
        this.#settle(message.id, (waiting) =>
          waiting.reject(new RequestError(message.code, message.message)),
        );
        break;
    }
  }

  #settle(id: string | number | undefined, how: (waiting: Waiting) => void): void {
    const waiting = this.#waiting.get(Number(id));
    this.#waiting.delete(Number(id));
    if (waiting !== undefined) how(waiting);
  }

  #greet(hello: Hello): void {
    if (hello.protocol !== PROTOCOL) {
      throw new Error(`the server speaks protocol ${hello.protocol}, this viewer ${PROTOCOL}`);
    }
    this.#retryMs = RETRY_MS;
    const resumed = this.#session === hello.session;
    if (this.#session !== undefined && !resumed) this.#seq = 0;
    this.#session = hello.session;
    this.#decoder = new FrameDecoder(hello.schema, CATALOGUE);
    const { filter, lossless, events } = this.#options;
    events.hello?.(hello, resumed);
    const request: RequestOf<'subscribe'> & { id: number } = {
      type: 'subscribe',
      id: this.#nextId++,
      session: hello.session,
      ...(filter && { filter }),
      ...(lossless === true && { lossless }),
      ...(this.#seq !== undefined && { after: this.#seq }),
    };
    this.#ask(request).catch((error: unknown) => {
      if (!(error instanceof RequestError)) return;
      events.lost?.(error.message, null);
      this.close();
    });
  }
}
