import type { EventRecord } from '../event.ts';
import { type State, type StateJson, stateFromJson } from '../state/state.ts';
import { type EndJson, type EventJson, type JsonItem, recordFromJson } from '../wire/json.ts';
import { type Layout, layoutsOfSchema, type Schema } from '../wire/layout.ts';

const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 5000;

export interface Hello {
  readonly protocol: number;
  readonly program: string;
  readonly session: string;
  readonly mode: string;
  readonly granted: readonly string[];
  readonly schema: Schema;
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly status: Status;
}

export interface Status {
  readonly state: 'running' | 'paused' | 'ended' | 'failed';
  readonly seq: number;
  readonly ns: number;
  readonly speed: number | null;
  readonly reason?: string;
}

/** What the connection tells the page. */
export interface Listener {
  hello(hello: Hello, layouts: readonly Layout[]): void;
  snapshot(state: State, seq: number, why: string): void;
  events(records: readonly EventRecord[], ends: readonly EndJson[], to: number): void;
  /** The run has come so far, wherever the page stands. */
  newest(seq: number): void;
  dropped(count: number): void;
  status(status: Status): void;
  lost(retryMs: number): void;
  refused(message: string): void;
}

interface Waiting {
  resolve(reply: Record<string, unknown>): void;
  reject(error: Error): void;
}

type Message = Record<string, unknown> & { readonly type: string };

/** The page's end of the stream (docs/protocol.md); comes back by itself, where it broke off. */
export class Connection {
  readonly #listener: Listener;
  readonly #url: string;
  #socket: WebSocket | undefined;
  #byName: ReadonlyMap<string, Layout> = new Map();
  #session = '';
  #seq = 0;
  #id = 0;
  #retryMs = FIRST_RETRY_MS;
  readonly #waiting = new Map<number, Waiting>();

  constructor(url: string, listener: Listener) {
    this.#url = url;
    this.#listener = listener;
  }

  open(): void {
    const socket = new WebSocket(this.#url, 'vsva.v1.json');
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#take(JSON.parse(String(data)) as Message);
    socket.onclose = ({ reason }) => {
      for (const waiting of this.#waiting.values())
        waiting.reject(new Error('the connection broke'));
      this.#waiting.clear();
      if (reason !== '') this.#listener.refused(reason);
      this.#listener.lost(this.#retryMs);
      setTimeout(() => this.open(), this.#retryMs);
      this.#retryMs = Math.min(2 * this.#retryMs, LAST_RETRY_MS);
    };
  }

  /** Rejects when the server refuses or the connection breaks. */
  request(type: string, body: object = {}): Promise<Record<string, unknown>> {
    const id = ++this.#id;
    return new Promise((resolve, reject) => {
      if (this.#socket?.readyState !== WebSocket.OPEN) {
        reject(new Error('there is no connection'));
        return;
      }
      this.#waiting.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ ...body, type, id }));
    });
  }

  /** Events by number, as far as the server holds them. */
  async fetch(seqs: readonly number[]): Promise<EventRecord[]> {
    const { events } = await this.request('fetch', { seqs });
    return this.#records(events as JsonItem[]);
  }

  /** Events in a row, as far as the server holds them. */
  async range(from: number, count: number): Promise<EventRecord[]> {
    const { events } = await this.request('fetch', { from, count });
    return this.#records(events as JsonItem[]);
  }

  #events(items: readonly JsonItem[]): void {
    const ends = items.filter((item) => 'end' in item);
    this.#listener.events(this.#records(items), ends, this.#seq);
  }

  #records(items: readonly JsonItem[]): EventRecord[] {
    return items.flatMap((item) =>
      'name' in item ? (recordFromJson(this.#byName, item satisfies EventJson) ?? []) : [],
    );
  }

  #take(message: Message): void {
    switch (message.type) {
      case 'hello':
        this.#greet(message as unknown as Hello);
        break;
      case 'snapshot': {
        const { state, seq, why } = message as unknown as {
          state: StateJson;
          seq: number;
          why: string;
        };
        this.#seq = seq;
        this.#listener.snapshot(stateFromJson(state), seq, why);
        break;
      }
      case 'events':
        this.#seq = Number(message['to']);
        this.#events(message['events'] as JsonItem[]);
        break;
      case 'heartbeat':
        this.#listener.newest(Number(message['seq']));
        break;
      case 'dropped':
        this.#seq = Number(message['to']);
        this.#listener.dropped(Number(message['total']));
        break;
      case 'status':
        this.#listener.status(message as unknown as Status);
        break;
      case 'reply':
        this.#settle(message, (waiting) => waiting.resolve(message));
        break;
      case 'error':
        this.#settle(message, (waiting) => waiting.reject(new Error(String(message['message']))));
        break;
    }
  }

  #settle(message: Message, how: (waiting: Waiting) => void): void {
    const id = Number(message['id']);
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (waiting !== undefined) how(waiting);
  }

  #greet(hello: Hello): void {
    this.#retryMs = FIRST_RETRY_MS;
    const layouts = layoutsOfSchema(hello.schema);
    this.#byName = new Map(layouts.map((layout) => [layout.name, layout]));
    if (hello.session !== this.#session) this.#seq = 0;
    this.#session = hello.session;
    this.#listener.hello(hello, layouts);
    // From the beginning, or from where the last connection broke off.
    this.request('subscribe', { after: this.#seq, session: this.#session }).catch(
      (error: unknown) => this.#listener.refused(String(error)),
    );
  }
}
