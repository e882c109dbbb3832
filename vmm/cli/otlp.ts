import { Recording, RecordingError } from '../../trace/record/reader.ts';
import { Refusal } from './fail.ts';
import { scratchFile } from './files.ts';

/** @throws Refusal when it is no address of a collector */
export function checkCollector(url: string): void {
  if (/^https?:$/.test(URL.parse(url)?.protocol ?? '')) return;
  throw new Refusal(2, `--otlp needs an http or https address, not ${url}`);
}

/**
 * Sends the spans of a recording to an OpenTelemetry collector, and returns how many. The run ends
 * now: collectors drop what is old.
 * @throws Refusal when the collector does not take them, or the recording is damaged
 */
export async function sendSpans(recording: Recording, url: string): Promise<number> {
  // What is seldom asked for is loaded when it is.
  const { exportOtlp, OtlpError } = await import('../../trace/record/otlp.ts');
  const epochMs = Date.now() - recording.ns / 1e6;
  try {
    return await exportOtlp(recording, { url, epochMs });
  } catch (error) {
    if (error instanceof RecordingError) throw new Refusal(1, error.message);
    if (!(error instanceof OtlpError)) throw error;
    throw new Refusal(1, `the collector at ${url} did not take the spans: ${error.message}`);
  }
}

/** A recording that is made only to be sent. */
export class Collected implements Disposable {
  readonly #url: string;
  readonly #file = scratchFile('run.vsva');

  constructor(url: string) {
    this.#url = url;
  }

  /** Where the recording is to be written. */
  get path(): string {
    return this.#file.path;
  }

  /** Sends what was recorded. @throws Refusal when the collector does not take it */
  async send(): Promise<void> {
    const recording = Recording.open(this.path);
    try {
      await sendSpans(recording, this.#url);
    } finally {
      recording.close();
    }
  }

  [Symbol.dispose](): void {
    this.#file.drop();
  }
}
