import { stateToJson } from '../state/state.ts';
import type { FrameDecoder } from '../wire/decoder.ts';
import { type CompiledFilter, compileFilter } from '../wire/filter.ts';
import { END_ID } from '../wire/layout.ts';
import { selectRecords } from '../wire/select.ts';
import type { Codec } from './codec.ts';
import type { Engine } from './engine.ts';
import { LookUp } from './look-up.ts';
import {
  BadRequest,
  type Control,
  type ErrorReply,
  MAX_FETCH,
  parseRequest,
  type Request,
  type RequestOf,
  type RunState,
  type ServerMessage,
  type Snapshot,
  type Status,
} from './protocol.ts';

/** The sending side of a viewer's connection. */
export interface Line {
  /** Bytes that the viewer has not taken yet. */
  readonly waiting: number;
  /** @param frame whose memory the message may lie in: it is needed until it is sent */
  send(data: string | Uint8Array, frame?: Uint8Array): void;
}

/** Bytes that may wait for a viewer; what it has not taken beyond them is not even made. */
const MOST_WAITING = 1 << 20;

/** Bytes of events that a viewer may be behind a live run before it is taken to the present. */
const MOST_BEHIND = 32 * 2 ** 20;

/** Requests that wait to be carried out; a viewer that sends more is not read meanwhile. */
export const MOST_PENDING = 32;

/** Milliseconds between two looks at what a speed allows. */
const PACE_MS = 20;

/** What a session is made of. */
export interface SessionOptions {
  readonly engine: Engine;
  readonly decoder: FrameDecoder;
  readonly session: string;
  readonly codec: Codec;
  readonly line: Line;
  readonly granted: readonly Control[];
  /** Real milliseconds, from any beginning. */
  readonly now: () => number;
}

/**
 * One viewer: what it wants to see, how far it has been told, and its place in time. It holds no
 * events: they are read from the history as the viewer takes them.
 */
export class Session {
  readonly #options: SessionOptions;
  readonly #lookUp: LookUp;
  #filter: CompiledFilter | undefined;
  #subscribed = false;
  #lossless = false;
  /** The next frame to tell of, and the last event that was settled. */
  #frame = 0;
  #seq = 0;
  /** It is told of nothing after this event; Infinity: it follows. */
  #limit = Infinity;
  /** It waits for a phase to begin, looked for in frames from here on. */
  #phaseFrom: number | undefined;
  /** The run is to go there too, where it has not been told yet. */
  #runsToPhase = false;
  /** Of a replay: events in a second. */
  #speed: number | null;
  #credit = 0;
  #pacedAt: number;
  #dropped = 0;
  #told: string | undefined;
  readonly #pending: Request[] = [];

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#lookUp = new LookUp(options.engine.history, options.decoder);
    this.#speed = options.engine.speed;
    this.#pacedAt = options.now();
  }

  /** Events that it missed since `hello`. */
  get dropped(): number {
    return this.#dropped;
  }

  /** So many requests wait that no more should be read. */
  get full(): boolean {
    return this.#pending.length >= MOST_PENDING;
  }

  /**
   * What it waits for: a turn, a turn in which requests are carried out, or that time goes on;
   * undefined: the run, or the viewer itself.
   */
  get waitsFor(): 'turn' | 'request' | 'time' | undefined {
    if (!this.#hasRoom) return undefined;
    const { history } = this.#options.engine;
    const searches = this.#phaseFrom !== undefined && this.#phaseFrom < history.endFrame;
    if (searches || this.#next() !== undefined) return 'turn';
    if (this.#pending.length > 0) return 'request';
    return this.#paces && this.#seq < history.lastSeq ? 'time' : undefined;
  }

  /**
   * Takes a message of the viewer. It is carried out by `work`.
   * @throws BadRequest, which has been answered
   */
  receive(data: Uint8Array, isBinary: boolean): void {
    try {
      this.#pending.push(parseRequest(this.#options.codec.decode(data, isBinary)));
    } catch (error) {
      if (error instanceof BadRequest) this.#refuse(error);
      throw error;
    }
  }

  /**
   * Does what is due: one request at most, then events as far as the viewer takes them.
   * @param until real time at which others have their turn; it tells one frame at least
   * @param asks its requests may be carried out now
   */
  work(until = Infinity, asks = true): void {
    if (!this.#hasRoom) return;
    const request = asks ? this.#pending.shift() : undefined;
    if (request !== undefined) this.#carryOut(request);
    this.#pace();
    this.#tell(until);
    this.#tellStatus();
  }

  status(): Status {
    const { engine } = this.#options;
    const { history } = engine;
    const state = this.#runState();
    return {
      type: 'status',
      state,
      seq: this.#subscribed ? this.#seq : history.lastSeq,
      ns: this.#subscribed ? this.#lookUp.nsAt(this.#seq) : history.ns,
      speed: this.#ownSpeed,
      ...(engine.reason !== undefined &&
        (state === 'ended' || state === 'failed') && { reason: engine.reason }),
    };
  }

  get #ownSpeed(): number | null {
    const { mode, speed } = this.#options.engine;
    return mode === 'replay' ? this.#speed : speed;
  }

  get #hasRoom(): boolean {
    return this.#options.line.waiting < MOST_WAITING;
  }

  /** Paused where the viewer stands still, else as the run is, once the viewer has seen it all. */
  #runState(): RunState {
    const { state, history, mode } = this.#options.engine;
    if (!this.#subscribed) return state;
    const hasMore = this.#seq < history.lastSeq;
    const isOver = state === 'ended' || state === 'failed';
    const steps = this.#limit > this.#seq || this.#phaseFrom !== undefined;
    if (this.#limit !== Infinity && steps && (hasMore || !isOver)) return 'running';
    if (hasMore && this.#limit <= this.#seq && !this.#paces) return 'paused';
    return hasMore && (mode === 'replay' || isOver) ? 'running' : state;
  }

  get #paces(): boolean {
    return this.#options.engine.mode === 'replay' && this.#speed !== null && this.#playing;
  }

  /** Of a replay with a speed: time goes on. */
  #playing = true;

  #send(message: ServerMessage): void {
    this.#options.line.send(this.#options.codec.encode(message));
  }

  #refuse({ code, message, id }: BadRequest): void {
    const error: ErrorReply = { type: 'error', ...(id !== undefined && { id }), code, message };
    this.#send(error);
  }

  #carryOut(request: Request): void {
    try {
      this.#perform(request);
    } catch (error) {
      const id = request.type === 'pong' ? undefined : request.id;
      if (error instanceof BadRequest) {
        this.#refuse(new BadRequest(error.code, error.message, id));
      } else if (error instanceof RangeError) {
        this.#refuse(new BadRequest('out_of_range', error.message, id));
      } else throw error;
    }
  }

  #perform(request: Request): void {
    switch (request.type) {
      case 'subscribe':
        this.#subscribe(request);
        break;
      case 'unsubscribe':
        this.#subscribed = false;
        this.#reply(request);
        break;
      case 'pause':
        this.#granted('pause');
        this.#stand();
        this.#options.engine.pause();
        this.#reply(request);
        break;
      case 'resume':
        this.#granted('resume');
        this.#go();
        this.#options.engine.resume();
        this.#reply(request);
        break;
      case 'step':
        this.#step(request);
        break;
      case 'speed':
        this.#granted('speed');
        this.#speed = request.eventsPerSecond;
        this.#options.engine.setSpeed(request.eventsPerSecond);
        if (this.#playing) this.#go();
        this.#reply(request);
        break;
      case 'seek':
        this.#seek(request);
        break;
      case 'fetch':
        this.#fetch(request);
        break;
      case 'pong':
        break;
    }
  }

  #reply(request: Exclude<Request, { type: 'pong' }>, result: object = {}): void {
    this.#send({ ...result, type: 'reply', id: request.id, request: request.type });
  }

  #granted(control: Control): void {
    const { engine, granted } = this.#options;
    if (!engine.controls.includes(control)) {
      throw new BadRequest('not_supported', `a run in mode ${engine.mode} has no ${control}`);
    }
    if (granted.includes(control)) return;
    throw new BadRequest('not_granted', `${control} is not granted to this viewer`);
  }

  #subscribe(request: RequestOf<'subscribe'>): void {
    const { engine, decoder, session } = this.#options;
    const { after } = request;
    const filter = compileFilter(decoder.layouts, request.filter ?? {});
    if (filter.unknown.length > 0) {
      const names = filter.unknown.map((name) => `"${name}"`).join(', ');
      throw new BadRequest('bad_filter', `the filter names what no event has: ${names}`);
    }
    const same = request.session === undefined || request.session === session;
    const { firstSeq, lastSeq } = engine.history;
    if (same && after !== undefined && after > lastSeq) {
      throw new BadRequest(
        'out_of_range',
        `event ${after} is still to come; the last is ${lastSeq}`,
      );
    }
    this.#filter = request.filter === undefined ? undefined : filter;
    this.#lossless = request.lossless === true;
    this.#phaseFrom = undefined;
    const held = same && after !== undefined && after >= firstSeq - 1;
    const begin = engine.mode === 'replay' ? firstSeq - 1 : lastSeq;
    const refilters = this.#subscribed && after === undefined;
    const at = held ? after : refilters ? this.#seq : begin;
    this.#subscribed = true;
    this.#place(at);
    if (!refilters) this.#go();
    this.#reply(request, { seq: at });
    if (!held) this.#snapshot(after === undefined ? 'join' : 'resync');
  }

  /** Puts the viewer right after an event. */
  #place(seq: number): void {
    this.#seq = seq;
    this.#frame = this.#options.engine.history.frameOfSeq(seq + 1);
    if (this.#limit !== Infinity) this.#limit = seq;
  }

  #snapshot(why: Snapshot['why']): void {
    const state = stateToJson(this.#options.engine.history.stateAt(this.#seq));
    const ns = this.#lookUp.nsAt(this.#seq);
    this.#send({ type: 'snapshot', why, seq: this.#seq, ns, state });
  }

  #stand(): void {
    this.#limit = this.#seq;
    this.#phaseFrom = undefined;
    this.#playing = false;
  }

  #go(): void {
    this.#playing = true;
    this.#pacedAt = this.#options.now();
    this.#limit = this.#paces ? this.#seq : Infinity;
  }

  #step(request: RequestOf<'step'>): void {
    this.#granted('step');
    const { engine } = this.#options;
    const { unit, count = 1 } = request;
    this.#stand();
    if (unit === 'event') {
      this.#limit = this.#seq + count;
      if (this.#limit > engine.history.lastSeq) engine.runTo({ seq: this.#limit });
    } else {
      this.#phaseFrom = this.#frame;
      this.#runsToPhase = true;
    }
    this.#reply(request);
  }

  #seek(request: RequestOf<'seek'>): void {
    this.#granted('seek');
    const { history } = this.#options.engine;
    const { firstSeq, lastSeq } = history;
    const seq = request.seq ?? Math.max(history.seqAtNs(request.ns ?? 0), firstSeq - 1);
    if (seq < firstSeq - 1 || seq > lastSeq) {
      throw new BadRequest('out_of_range', `event ${seq}: ${firstSeq - 1} to ${lastSeq} are held`);
    }
    this.#subscribed = true;
    this.#stand();
    this.#place(seq);
    this.#reply(request, { seq, ns: this.#lookUp.nsAt(seq) });
    this.#snapshot('seek');
  }

  #fetch(request: RequestOf<'fetch'>): void {
    const { from = 1, count = MAX_FETCH } = request;
    const seqs = request.seqs ?? Array.from({ length: count }, (_, i) => from + i);
    const frames = this.#lookUp.events(new Set(seqs));
    this.#reply(request, this.#options.codec.embed(frames));
  }

  /** Lets a replay's time go on as its speed says. */
  #pace(): void {
    const now = this.#options.now();
    const elapsed = now - this.#pacedAt;
    if (elapsed < PACE_MS) return;
    this.#pacedAt = now;
    if (!this.#paces) return;
    const speed = this.#speed ?? 0;
    this.#credit = Math.min(this.#credit + (elapsed * speed) / 1000, Math.max(1, speed));
    const whole = Math.floor(this.#credit);
    this.#credit -= whole;
    this.#limit = Math.min(this.#limit + whole, this.#options.engine.history.lastSeq);
  }

  #tell(until: number): void {
    if (!this.#subscribed) return;
    const { engine, codec, line, now } = this.#options;
    const { history } = engine;
    if (this.#phaseFrom !== undefined) this.#findPhase(until);
    this.#catchUp();
    for (let range = this.#next(); range !== undefined && this.#hasRoom; range = this.#next()) {
      const { from, to, whole } = range;
      const isAll = this.#filter === undefined && whole;
      const lent = isAll ? history.lend?.(this.#frame) : undefined;
      const part = lent ?? (isAll ? history.frame(this.#frame) : this.#part(from, to));
      if (part !== undefined || to >= from) line.send(codec.events(from, to, part), part);
      if (lent !== undefined) history.pool?.release(lent);
      this.#seq = Math.max(this.#seq, to);
      if (to === history.info(this.#frame).lastSeq) this.#frame++;
      if (now() >= until) return;
    }
  }

  /** The events of the next frame that may be told now, and whether these are all of it. */
  #next(): { from: number; to: number; whole: boolean } | undefined {
    const { history } = this.#options.engine;
    if (!this.#subscribed || this.#frame >= history.endFrame) return undefined;
    // What is not held any more is dropped when the viewer has its turn.
    const { firstSeq, lastSeq } = history.info(Math.max(this.#frame, history.firstFrame));
    const from = this.#seq + 1;
    const to = Math.min(lastSeq, this.#limit);
    if (to < from && lastSeq > this.#limit) return undefined;
    return { from, to, whole: from === firstSeq && to === lastSeq };
  }

  /**
   * Of the next frame, what the viewer wants of these events. The end of a span goes with the event
   * before it, or with the frame that it begins.
   */
  #part(from: number, to: number): Uint8Array | undefined {
    const view = this.#lookUp.view(this.#frame);
    const filter = this.#filter;
    const first = view.firstSeq === from ? from - 1 : from;
    return selectRecords(view, (id, seq, at) => {
      if (id === END_ID) return seq >= first && seq <= to;
      if (seq < from || seq > to) return false;
      return filter === undefined || (filter.mayPass(id) && filter.matches(view.recordAt(at)));
    });
  }

  /** A viewer too far behind a live run is taken to the present, and told what it missed. */
  #catchUp(): void {
    const { engine } = this.#options;
    const { history } = engine;
    const gone = this.#frame < history.firstFrame;
    if (!gone && this.#frame >= history.endFrame) return;
    if (!gone && (this.#lossless || engine.mode === 'replay' || this.#limit !== Infinity)) return;
    if (!gone && history.bytes - history.info(this.#frame).offset <= MOST_BEHIND) return;
    const from = this.#seq + 1;
    const to = gone && this.#lossless ? history.firstSeq - 1 : history.lastSeq;
    this.#dropped += to - this.#seq;
    if (this.#limit !== Infinity) this.#limit = to;
    this.#seq = to;
    this.#frame = history.frameOfSeq(to + 1);
    this.#send({ type: 'dropped', from, to, count: to - from + 1, total: this.#dropped });
    this.#snapshot('resync');
  }

  /**
   * Goes on to where the next phase begins, as far as the run has got. Where that is still to come, a
   * live run goes there.
   */
  #findPhase(until: number): void {
    const { engine, now } = this.#options;
    const { history } = engine;
    for (;;) {
      const frame = Math.max(this.#phaseFrom ?? 0, history.firstFrame);
      if (frame >= history.endFrame) break;
      const found = this.#lookUp.phaseIn(frame, this.#seq);
      this.#limit = found ?? Math.max(this.#limit, history.info(frame).lastSeq);
      this.#phaseFrom = found === undefined ? frame + 1 : undefined;
      if (found !== undefined || now() >= until) return;
    }
    const over = engine.state === 'ended' || engine.state === 'failed';
    if (over) this.#phaseFrom = undefined;
    else if (this.#runsToPhase) engine.runTo('phase');
    this.#runsToPhase = false;
  }

  /** The viewer is told when what it sees of the run has changed. */
  #tellStatus(): void {
    const told = `${this.#runState()} ${this.#ownSpeed}`;
    if (told === this.#told || this.#pending.length > 0) return;
    this.#told = told;
    this.#send(this.status());
  }
}
