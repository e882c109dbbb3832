// A run that a test makes event by event, and a server with real sockets around it.
import type { ExecutionContext } from 'ava';
import { WebSocket } from 'ws';
import { CATALOGUE } from '../../../trace/catalogue/all.ts';
import { engine as engineEvents } from '../../../trace/catalogue/engine.ts';
import { guest } from '../../../trace/catalogue/guest.ts';
import type { Filter } from '../../../trace/stream/client.ts';
import { LiveHistory } from '../../../trace/stream/live-history.ts';
import type { ServerMessage } from '../../../trace/stream/protocol.ts';
import { StreamServer, type StreamServerOptions } from '../../../trace/stream/server.ts';
import { type Command, LiveEngine } from '../../../trace/stream/thread.ts';
import { Tracer } from '../../../trace/tracer.ts';
import { FrameDecoder } from '../../../trace/wire/decoder.ts';
import { FrameEncoder, inlineSlots } from '../../../trace/wire/encoder.ts';
import { schemaOf } from '../../../trace/wire/layout.ts';

export const SCHEMA = schemaOf(CATALOGUE);
export const DECODER = new FrameDecoder(SCHEMA, CATALOGUE);

export interface RigOptions {
  readonly limit?: number;
  readonly segmentBytes?: number;
}

/** A live run whose every event the test tells. */
export class Run {
  ns = 0;
  readonly trace = new Tracer(() => this.ns);
  readonly history: LiveHistory;
  readonly engine: LiveEngine;
  readonly commands: Command[] = [];
  readonly #encoder: FrameEncoder;

  constructor({ limit = 2 ** 28, ...options }: RigOptions = {}) {
    this.history = new LiveHistory({ decoder: DECODER, limit, ...options });
    this.engine = new LiveEngine('live', this.history, {
      tell: (command) => {
        this.commands.push(command);
      },
    });
    this.#encoder = new FrameEncoder(
      inlineSlots((frame) => {
        this.history.append(frame.slice());
      }),
    );
    this.trace.attach(this.#encoder);
  }

  /** So many events of a guest, PASIDs 1 to 4 in turn, 10 ns apart; every fifth ends a span. */
  tell(count: number, text = 'copy'): void {
    for (let i = 0; i < count; i++) {
      this.ns += 10;
      const pasid = 1 + ((this.trace.seq + 1) % 4);
      const values = { vm: 'vm0', base: 0xfed90000, ats: 1 } as const;
      if (i % 5 === 0) {
        using _span = this.trace.span(guest.dmarFound, values);
      } else if (i % 5 === 1) {
        this.trace.emit(guest.boot, { vm: `vm${pasid}`, ramBytes: pasid, commandLine: text });
      } else this.trace.emit(engineEvents.powerOn, { seed: pasid, ramBytes: 2, functions: i });
    }
    this.flush();
  }

  flush(): void {
    this.#encoder.flush();
    this.engine.onChange();
  }
}

export async function serve(
  t: ExecutionContext,
  run: Run,
  options: Partial<StreamServerOptions> = {},
): Promise<{ server: StreamServer; url: string; port: number }> {
  const server = new StreamServer({
    engine: run.engine,
    decoder: DECODER,
    schema: SCHEMA,
    program: 'vsva test',
    host: '127.0.0.1',
    port: 0,
    ...options,
  });
  const port = await server.listen();
  t.teardown(async () => {
    await server.close();
    run.engine.close();
  });
  return { server, url: `ws://127.0.0.1:${port}/`, port };
}

type Message = ServerMessage & Record<string, unknown>;

/** A viewer that speaks JSON by hand, so that nothing of the client hides what the server says. */
export class RawViewer {
  readonly socket: WebSocket;
  readonly messages: Message[] = [];
  readonly closed: Promise<{ code: number; reason: string }>;
  #id = 0;
  #wake: () => void = () => undefined;
  #failed: Error | undefined;

  constructor(t: ExecutionContext, url: string, headers: Record<string, string> = {}) {
    this.socket = new WebSocket(url, ['vsva.v1.json'], { headers });
    this.socket.on('message', (data) => {
      this.messages.push(JSON.parse((data as Buffer).toString()) as Message);
      this.#wake();
    });
    this.socket.on('error', (error) => {
      this.#failed = error;
      this.#wake();
    });
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => {
        resolve({ code, reason: reason.toString() });
        this.#wake();
      });
    });
    t.teardown(() => this.socket.terminate());
  }

  /** The first message, seen or to come, that satisfies the test. */
  async until(test: (message: Message) => boolean): Promise<Message> {
    for (;;) {
      const found = this.messages.find(test);
      if (found !== undefined) return found;
      if (this.#failed !== undefined) throw this.#failed;
      if (this.socket.readyState === WebSocket.CLOSED) throw new Error('closed before it came');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  type<T extends ServerMessage['type']>(type: T): Promise<Extract<ServerMessage, { type: T }>> {
    return this.until((message) => message.type === type) as never;
  }

  /** Sends a request; resolves to its reply or error. */
  async ask(request: object): Promise<Message> {
    await this.type('hello');
    const id = ++this.#id;
    this.socket.send(JSON.stringify({ ...request, id }));
    return this.until(
      (message) => (message.type === 'reply' || message.type === 'error') && message['id'] === id,
    );
  }

  subscribe(filter?: Filter, after = 0): Promise<Message> {
    return this.ask({ type: 'subscribe', after, ...(filter && { filter }) });
  }

  /** Resolves when event `seq` is settled. */
  settled(seq: number): Promise<Message> {
    return this.until((message) => message.type === 'events' && message.to >= seq);
  }

  /** Events told so far, ends of spans not among them. */
  get events(): { seq: number; name: string; fields: Record<string, unknown> }[] {
    return this.messages
      .flatMap((message) => (message.type === 'events' ? (message['events'] as []) : []))
      .filter((item: object) => 'name' in item);
  }

  get ends(): { end: number; seq: number }[] {
    return this.messages
      .flatMap((message) => (message.type === 'events' ? (message['events'] as []) : []))
      .filter((item: object) => 'end' in item);
  }
}

/** 1, 2, ... n. */
export const upTo = (n: number, from = 1): number[] =>
  Array.from({ length: n - from + 1 }, (_, i) => from + i);
