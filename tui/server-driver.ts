import { CATALOGUE } from '../trace/catalogue/all.ts';
import type { EventRecord } from '../trace/event.ts';
import { reduceFrame, stateFromJson } from '../trace/state/state.ts';
import { phaseOf } from '../trace/story/walkthrough.ts';
import { type ClientEvents, type ClientOptions, StreamClient } from '../trace/stream/client.ts';
import type { Control, Hello, Reply, Snapshot, Status } from '../trace/stream/protocol.ts';
import { FrameDecoder, type FrameView } from '../trace/wire/decoder.ts';
import { type Driver, TICK_MS } from './player.ts';
import { type PlayState, SPEEDS, type Want } from './state/app.ts';
import { EMPTY_MOMENT, type Moment, momentOf, withState } from './state/model.ts';
import { firstFrom } from './state/trace.ts';
import type { Store } from './store.ts';

/** Events of the data path that one message adds to the list; the others are only counted. */
const MOST_HOT = 256;

/** Events asked for so that a moment that was jumped to has a past to show. */
const CONTEXT = 1000;

/** Events that a search for an effect goes through. */
const MOST_STEPS = 200;

/** Milliseconds that a step of the server is waited for. */
const MOST_WAIT_MS = 2000;

/** What a driver needs of a connection. */
export type Connection = Pick<StreamClient, 'request' | 'close'>;

/** Follows a world that a server runs, and asks it to do what the user wishes. */
export class ServerDriver implements Driver {
  readonly #store: Store;
  readonly #url: string;
  readonly #connect: (options: ClientOptions) => Connection;
  #client: Connection | undefined;
  #decoder: FrameDecoder | undefined;
  #granted: ReadonlySet<Control> = new Set();
  /** As far as messages tell; the picture follows at the next tick. */
  #moment: Moment = EMPTY_MOMENT;
  #waiting: EventRecord[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #unsubscribe: (() => void) | undefined;
  /** What the server was last asked for, so that a change of it is noticed. */
  #speed = -1;
  #status: string | undefined;
  #busy = false;
  #closed = false;
  readonly error = undefined;

  constructor(
    store: Store,
    url: string,
    connect: (options: ClientOptions) => Connection = (options) => new StreamClient(options),
  ) {
    this.#store = store;
    this.#url = url;
    this.#connect = connect;
  }

  open(): void {
    this.#tell({ note: `connecting to ${this.#url}`, status: 'paused' });
    this.#unsubscribe = this.#store.subscribe(() => this.#heed());
    this.#client = this.#connect({ url: this.#url, events: this.#events, after: 0 });
  }

  close(): void {
    this.#closed = true;
    this.#unsubscribe?.();
    clearTimeout(this.#timer);
    this.#client?.close();
  }

  readonly #events: ClientEvents = {
    hello: (hello, resumed) => this.#greet(hello, resumed),
    snapshot: (snapshot) => this.#jump(snapshot),
    events: (view) => {
      if (view !== undefined) this.#take(view);
    },
    dropped: ({ count }) => this.#tell({ note: `${count} events were too many and are left out` }),
    status: (status) => this.#follow(status),
    lost: (reason, retryMs) => {
      const next = retryMs === null ? '' : `; again in ${(retryMs / 1000).toFixed(1)} s`;
      this.#tell({ status: 'paused', want: undefined, note: `connection lost: ${reason}${next}` });
      this.#status = undefined;
      this.#decoder = undefined;
    },
  };

  #tell(play: Partial<PlayState>): void {
    if (!this.#closed) this.#store.dispatch({ type: 'play', play });
  }

  #greet(hello: Hello, resumed: boolean): void {
    this.#decoder = new FrameDecoder(hello.schema, CATALOGUE);
    this.#granted = new Set(hello.granted);
    if (!resumed) {
      this.#waiting = [];
      this.#moment = EMPTY_MOMENT;
      this.#store.dispatch({ type: 'moment', moment: EMPTY_MOMENT, events: [] });
    }
    this.#tell({ note: resumed ? 'connected again' : `connected to ${hello.program}` });
    this.#follow(hello.status);
  }

  #follow({ state, speed, reason = '' }: Status): void {
    this.#flush();
    this.#status = state;
    const index = SPEEDS.indexOf(speed ?? Infinity);
    if (index >= 0) this.#speed = index;
    const { want } = this.#store.get().play;
    this.#tell({
      status: want === undefined || state !== 'running' ? state : 'paused',
      reason: state === 'failed' ? reason : '',
      ...(index >= 0 && { speed: index }),
    });
  }

  /** Of a frame all is counted; listed are all events but those of the data path, and a few of these. */
  #take(view: FrameView): void {
    const layouts = this.#decoder?.layouts;
    if (layouts === undefined) return;
    const after = this.#moment.seq;
    const listed: EventRecord[] = [];
    const cold: EventRecord[] = [];
    for (const { id, from, to, size } of view.stretches) {
      const layout = layouts[id];
      if (layout === undefined) continue;
      const hot = layout.hot === true;
      const first = hot ? Math.max(from, to - MOST_HOT * size) : from;
      for (let at = first; at < to; at += size) {
        const record = view.recordAt(at);
        if (record.seq <= after) continue;
        listed.push(record);
        if (!hot) cold.push(record);
      }
    }
    const state = reduceFrame(this.#moment, view, layouts);
    this.#moment = withState(this.#moment, state, cold);
    for (const record of listed) this.#waiting.push(record);
    this.#soon();
  }

  /** Shows what came, once for all that comes until the next picture. */
  #soon(): void {
    this.#timer ??= setTimeout(() => this.#flush(), TICK_MS);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#closed || this.#waiting.length === 0) return;
    const batch = this.#waiting;
    this.#waiting = [];
    this.#store.dispatch({ type: 'counted', moment: this.#moment, batch });
  }

  #jump({ seq, state, why }: Snapshot): void {
    this.#flush();
    const known = this.#store.get().model.trace.events;
    const near = known.slice(0, firstFrom(known, seq + 1));
    const kept = near.at(-1)?.seq === seq ? near : [];
    this.#moment = momentOf(stateFromJson(state), kept);
    this.#store.dispatch({ type: 'moment', moment: this.#moment, events: kept });
    if (why === 'resync') this.#tell({ note: 'what came in between is not told' });
    if (kept.length === 0 && seq > 0) void this.#fetchContext(seq);
  }

  /** Events before a moment that is far from what is kept. */
  async #fetchContext(seq: number): Promise<void> {
    const from = Math.max(1, seq - CONTEXT + 1);
    const reply = await this.#ask(() =>
      this.#client!.request('fetch', { from, count: seq - from + 1 }),
    );
    const frames = reply?.['frames'];
    if (!Array.isArray(frames) || this.#decoder === undefined) return;
    const events: EventRecord[] = [];
    for (const frame of frames as Uint8Array[]) {
      for (const item of this.#decoder.frame(frame).items()) {
        if (item.kind === 'event' && item.record.seq <= seq) events.push(item.record);
      }
    }
    // The views may have moved on meanwhile.
    if (this.#moment.seq !== seq || this.#closed) return;
    this.#moment = momentOf(this.#moment, events);
    this.#store.dispatch({ type: 'moment', moment: this.#moment, events });
  }

  /** Passes on what the user wishes now. */
  #heed(): void {
    const { play } = this.#store.get();
    if (this.#closed || this.#busy || this.#decoder === undefined) return;
    if (play.want !== undefined) void this.#toward(play.want);
    else if (this.#status === 'running' && play.status === 'paused') void this.#control('pause');
    else if (this.#status === 'paused' && play.status === 'running') void this.#control('resume');
    else if (this.#speed >= 0 && play.speed !== this.#speed) void this.#hurry(play.speed);
  }

  async #control(what: 'pause' | 'resume'): Promise<void> {
    this.#busy = true;
    const before = this.#status;
    this.#status = what === 'pause' ? 'paused' : 'running';
    const done = await this.#granting(what, () => this.#client!.request(what, {}));
    if (done === undefined) {
      this.#status = before;
      this.#tell({ status: before === 'running' ? 'running' : 'paused' });
    }
    this.#rest();
  }

  async #hurry(speed: number): Promise<void> {
    this.#busy = true;
    const before = this.#speed;
    this.#speed = speed;
    const eventsPerSecond = Number.isFinite(SPEEDS[speed]) ? SPEEDS[speed]! : null;
    const done = await this.#granting('speed', () =>
      this.#client!.request('speed', { eventsPerSecond }),
    );
    if (done === undefined) {
      this.#speed = before;
      this.#tell({ speed: before });
    }
    this.#rest();
  }

  async #toward(want: Want): Promise<void> {
    this.#busy = true;
    await this.#carryOut(want);
    this.#flush();
    this.#tell({ want: undefined });
    this.#rest();
  }

  #rest(): void {
    this.#busy = false;
    this.#heed();
  }

  async #carryOut(want: Want): Promise<void> {
    const { events } = this.#store.get().model.trace;
    const { seq } = this.#moment;
    if (want.kind === 'to') {
      if (want.seq !== Infinity) await this.#seek(want.seq);
      else await this.#granting('resume', () => this.#client!.request('resume', {}));
    } else if (want.kind === 'cause') {
      if (want.by === 1) await this.#effectOf(want.of);
      else await this.#causeOf(want.of);
    } else if (want.kind === 'event') {
      if (want.by === -1) await this.#seek(seq - 1);
      else await this.#step('event');
    } else if (want.by === 1) await this.#endOfPhase();
    else {
      const begin = events.findLast((record) => phaseOf(record) !== undefined);
      await this.#seek((begin?.seq ?? events[0]?.seq ?? 1) - 1);
    }
  }

  async #causeOf(seq: number): Promise<void> {
    const { events } = this.#store.get().model.trace;
    const cause = events.find((record) => record.seq === seq)?.cause ?? 0;
    if (cause === 0) this.#tell({ note: 'nothing that is kept led to it' });
    else await this.#seek(cause);
  }

  #seek(seq: number): Promise<unknown> {
    return this.#granting('seek', () => this.#client!.request('seek', { seq: Math.max(0, seq) }));
  }

  #step(unit: 'event' | 'phase', count = 1): Promise<Reply | undefined> {
    return this.#granting('step', () => this.#client!.request('step', { unit, count }));
  }

  /** A server stops with the event that begins a phase; the views, with the one before. */
  async #endOfPhase(): Promise<void> {
    if ((await this.#step('event')) === undefined) return;
    await this.#settled();
    if ((await this.#step('phase')) === undefined) return;
    await this.#settled();
    this.#flush();
    const last = this.#store.get().model.trace.events.at(-1);
    if (last !== undefined && phaseOf(last) !== undefined) await this.#seek(last.seq - 1);
  }

  async #effectOf(seq: number): Promise<void> {
    for (let i = 0; i < MOST_STEPS; i++) {
      if ((await this.#step('event')) === undefined) return;
      if (!(await this.#settled())) return;
      this.#flush();
      if (this.#store.get().model.trace.events.at(-1)?.cause === seq) return;
    }
    this.#tell({ note: `nothing in the next ${MOST_STEPS} events` });
  }

  /** Waits until what was stepped has come. False: nothing did. */
  async #settled(): Promise<boolean> {
    const before = this.#moment.seq;
    let seen = before;
    for (let waited = 0; waited < MOST_WAIT_MS; waited += TICK_MS) {
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
      if (this.#closed) return false;
      if (this.#moment.seq === seen && seen !== before) return true;
      seen = this.#moment.seq;
    }
    return this.#moment.seq !== before;
  }

  async #granting(control: Control, ask: () => Promise<Reply>): Promise<Reply | undefined> {
    if (this.#granted.has(control)) return this.#ask(ask);
    this.#tell({ note: `this server does not let its viewers ${control}` });
    return undefined;
  }

  /** Refusals, and a connection that breaks, are told to the user. */
  async #ask(ask: () => Promise<Reply>): Promise<Reply | undefined> {
    try {
      return await ask();
    } catch (error) {
      this.#tell({ note: error instanceof Error ? error.message : String(error) });
      return undefined;
    }
  }
}
