import { CATALOGUE } from '../../trace/catalogue/all.ts';
import type { EventRecord } from '../../trace/event.ts';
import { RecordingWriter } from '../../trace/record/writer.ts';
import { jsonLine } from '../../trace/story/json-line.ts';
import type { Listener, Sink } from '../../trace/tracer.ts';
import { FrameEncoder, inlineSlots } from '../../trace/wire/encoder.ts';
import { schemaOf } from '../../trace/wire/layout.ts';
import { Refusal, whyNot } from './fail.ts';
import { LineFile } from './files.ts';
import { PROGRAM } from './version.ts';

/** What `--trace` is told, and what the head of a recording says of the run. */
export interface TraceFileOptions {
  readonly command: string;
  readonly options: Readonly<Record<string, unknown>>;
  /** Keep translations that a cache answered too. */
  readonly hits?: boolean;
  /**
   * The run takes its time from a real program: what was told is on disk a moment later. Without it
   * a frame is written when it is full, so that one run always gives one file, byte for byte.
   */
  readonly live?: boolean;
}

/** Where `--trace` keeps events: a recording, or JSON lines. */
export interface TraceFile {
  readonly listeners: readonly Listener[];
  readonly sinks: readonly Sink[];
  /** Writes what there is, as far as that leaves the file the same. Refusal when the disk refused. */
  flush(): void;
  /** Refusal when the disk refused. */
  close(): void;
}

/** Milliseconds of real time after which a live recording is brought up to date. */
const LIVE_MS = 200;

/** Lines kept in memory at most. */
const MOST_LINES = 4096;

/**
 * Opens `path`: a recording when it ends in `.vsva`, else JSON lines.
 * @throws Refusal when it cannot be written, or when JSON lines are asked for hits
 */
export function openTraceFile(path: string, options: TraceFileOptions): TraceFile {
  if (path.endsWith('.vsva')) return new RecordingFile(path, options);
  if (options.hits === true) {
    throw new Refusal(2, '--hits needs a recording: --trace PATH.vsva');
  }
  return new JsonFile(path);
}

/** Errors of the disk wait for `flush`: nothing may fail in the midst of the model. */
class RecordingFile implements TraceFile {
  readonly listeners: readonly Listener[] = [];
  readonly sinks: readonly Sink[];
  readonly #path: string;
  readonly #writer: RecordingWriter;
  readonly #encoder: FrameEncoder;
  readonly #live: boolean;
  #error: Error | undefined;
  #last = 0;

  constructor(path: string, { command, options, hits = false, live = false }: TraceFileOptions) {
    this.#path = path;
    const schema = schemaOf(CATALOGUE);
    const program = PROGRAM;
    this.#writer = this.#told(
      () => new RecordingWriter(path, { schema, program, command, options }),
    );
    this.#encoder = new FrameEncoder(
      inlineSlots((frame) => this.#write(frame)),
      { hot: hits },
    );
    this.#live = live;
    const catchUp = (): void => this.#catchUp();
    this.sinks = live ? [this.#encoder, { event: catchUp, end: catchUp }] : [this.#encoder];
  }

  flush(): void {
    if (this.#live) this.#encoder.flush();
    this.#told(() => undefined);
  }

  close(): void {
    this.#encoder.flush();
    this.#told(() => this.#writer.close());
  }

  #write(frame: Uint8Array): void {
    if (this.#error !== undefined) return;
    try {
      this.#writer.write(frame);
    } catch (error) {
      this.#error = asError(error);
    }
  }

  #catchUp(): void {
    const now = performance.now();
    if (now - this.#last < LIVE_MS) return;
    this.#last = now;
    this.#encoder.flush();
  }

  /** @throws Refusal for what the disk refuses now or refused before */
  #told<T>(work: () => T): T {
    try {
      const result = work();
      if (this.#error !== undefined) throw this.#error;
      return result;
    } catch (error) {
      throw new Refusal(1, `cannot write ${this.#path}: ${whyNot(error)}`);
    }
  }
}

class JsonFile implements TraceFile {
  readonly listeners: readonly Listener[];
  readonly sinks: readonly Sink[] = [];
  readonly #file: LineFile;
  #lines = 0;
  #error: Error | undefined;

  constructor(path: string) {
    this.#file = new LineFile(path);
    this.listeners = [(record) => this.#add(record)];
  }

  #add(record: EventRecord): void {
    if (this.#error !== undefined) return;
    this.#file.write(jsonLine(record));
    if (++this.#lines < MOST_LINES) return;
    try {
      this.flush();
    } catch (error) {
      this.#error = asError(error);
    }
  }

  flush(): void {
    this.#lines = 0;
    if (this.#error !== undefined) throw this.#error;
    this.#file.flush();
  }

  close(): void {
    this.#file.close();
    if (this.#error !== undefined) throw this.#error;
  }
}

const asError = (error: unknown): Error =>
  error instanceof Error ? error : new Error(String(error));
