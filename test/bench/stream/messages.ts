/** What the processes of this benchmark tell each other. */

/** How events come to the viewer. */
export type Way = 'stream' | 'raw' | 'msgpackr' | 'json';

/** To a viewer's process. */
export interface Watch {
  readonly way: Way;
  readonly url: string;
  /** It is done when it has seen so many. */
  readonly events: number;
}

/** From it. */
export interface Watched {
  readonly seconds: number;
  readonly bytes: number;
}

export const RECORD_BYTES = 32;

/** Records in a message of the ways that have no frames: as many as a frame has. */
export const RECORDS_PER_MESSAGE = 2044;

/** Records in an array of the ways that spell each out. */
export const RECORDS_PER_ARRAY = 512;
