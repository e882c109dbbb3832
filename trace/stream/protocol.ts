/**
 * Protocol v1 between a server and its viewers: docs/protocol.md in types. What comes from a viewer
 * is untrusted and goes through `parseRequest`.
 */
import { z } from 'zod';
import type { EventRecord, Layer } from '../event.ts';
import type { StateJson } from '../state/state.ts';
import type { JsonItem } from '../wire/json.ts';
import type { Schema } from '../wire/layout.ts';

export const PROTOCOL = 1;

/** What a viewer may ask for in `Sec-WebSocket-Protocol`; the first that the server knows is taken. */
export const SUBPROTOCOL = { MSGPACK: 'vsva.v1.msgpack', JSON: 'vsva.v1.json' } as const;

/** A message of a viewer is at most this long, in bytes. */
export const MAX_REQUEST_BYTES = 64 * 1024;

/** Names, PASIDs, devices or VMs in one filter, at most of each. */
const MAX_FILTER_ENTRIES = 64;

/** Events that one `fetch` may ask for. */
export const MAX_FETCH = 1000;

export const CLOSE = {
  END: 1000,
  SERVER_LEAVES: 1001,
  FAILED: 1011,
  TOO_SLOW: 1013,
  MALFORMED: 4400,
  UNAUTHORIZED: 4401,
  NO_COMMON_PROTOCOL: 4406,
} as const;

/** What a viewer may be granted beside watching. */
export const CONTROLS = ['pause', 'resume', 'step', 'speed', 'seek'] as const;
export type Control = (typeof CONTROLS)[number];

export type ErrorCode =
  | 'bad_message'
  | 'unknown_type'
  | 'bad_filter'
  | 'not_granted'
  | 'out_of_range'
  | 'not_supported';

const id = z.union([z.number().int(), z.string().max(64)]);
const seq = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const ns = z.number().min(0).max(Number.MAX_SAFE_INTEGER);
const list = <T extends z.ZodType>(entry: T) => z.array(entry).max(MAX_FILTER_ENTRIES).optional();

/** Which events a viewer wants: those that match one entry of every list that is given. */
const filter = z.strictObject({
  layers: list(z.string().max(16)),
  names: list(z.string().min(1).max(64)),
  pasids: list(z.number().int().min(-1).max(0xf_ffff)),
  devices: list(z.string().min(1).max(16)),
  vms: list(z.string().min(1).max(64)),
  text: z.string().max(256).optional(),
  fromNs: ns.optional(),
  toNs: ns.optional(),
});

const requests = {
  subscribe: z.object({
    type: z.literal('subscribe'),
    id,
    filter: filter.optional(),
    after: seq.optional(),
    session: z.string().max(64).optional(),
    lossless: z.boolean().optional(),
  }),
  unsubscribe: z.object({ type: z.literal('unsubscribe'), id }),
  pause: z.object({ type: z.literal('pause'), id }),
  resume: z.object({ type: z.literal('resume'), id }),
  step: z.object({
    type: z.literal('step'),
    id,
    unit: z.enum(['event', 'phase']),
    count: z.number().int().min(1).max(MAX_FETCH).optional(),
  }),
  speed: z.object({
    type: z.literal('speed'),
    id,
    eventsPerSecond: z.number().positive().max(1e9).nullable(),
  }),
  seek: z
    .object({ type: z.literal('seek'), id, seq: seq.optional(), ns: ns.optional() })
    .refine(({ seq, ns }) => (seq === undefined) !== (ns === undefined), 'either seq or ns'),
  fetch: z
    .object({
      type: z.literal('fetch'),
      id,
      seqs: z.array(seq).max(MAX_FETCH).optional(),
      from: seq.optional(),
      count: z.number().int().min(1).max(MAX_FETCH).optional(),
    })
    .refine(
      ({ seqs, from }) => (seqs === undefined) !== (from === undefined),
      'either seqs or from',
    ),
  pong: z.object({ type: z.literal('pong') }),
} as const;

const request = z.discriminatedUnion('type', [
  requests.subscribe,
  requests.unsubscribe,
  requests.pause,
  requests.resume,
  requests.step,
  requests.speed,
  requests.seek,
  requests.fetch,
  requests.pong,
]);

/** What a viewer sends. */
export type Request = z.infer<typeof request>;
export type RequestType = Request['type'];
export type RequestOf<T extends RequestType> = Extract<Request, { type: T }>;
export type RequestId = string | number;

/** A message that is no request, and the id to answer to, where one could be read. */
export class BadRequest extends Error {
  readonly code: ErrorCode;
  readonly id: RequestId | undefined;

  constructor(code: ErrorCode, message: string, id?: RequestId) {
    super(message);
    this.code = code;
    this.id = id;
  }
}

/**
 * A request from what a viewer sent, decoded.
 * @throws BadRequest naming the field and the rule
 */
export function parseRequest(message: unknown): Request {
  const result = request.safeParse(message);
  if (result.success) return result.data;
  const given = z.object({ id: id.optional().catch(undefined), type: z.unknown() });
  const head = given.safeParse(message);
  if (!head.success) throw new BadRequest('bad_message', 'a message is a map with a `type`');
  const { id: answerTo, type } = head.data;
  if (typeof type !== 'string' || !Object.hasOwn(requests, type)) {
    const types = Object.keys(requests).join(', ');
    const what = typeof type === 'string' ? `"${type.slice(0, 32)}"` : 'no text';
    throw new BadRequest('unknown_type', `type is ${what}; it may be: ${types}`, answerTo);
  }
  const issue = result.error.issues[0];
  const where = issue === undefined || issue.path.length === 0 ? type : issue.path.join('.');
  const text = `${type}: ${where}: ${issue?.message ?? 'not valid'}`;
  throw new BadRequest('bad_message', text.slice(0, 500), answerTo);
}

/** JSON Schema of what a viewer may send, for whoever writes one (`GET /schema`). */
export const requestSchema = (): unknown => z.toJSONSchema(request);

export type RunState = 'running' | 'paused' | 'ended' | 'failed';

export interface Hello {
  readonly type: 'hello';
  readonly protocol: number;
  readonly program: string;
  /** Names the run, in hexadecimal: `after` counts only within one. */
  readonly session: string;
  readonly mode: 'live' | 'replay' | 'exec';
  readonly granted: readonly Control[];
  readonly schema: Schema;
  readonly clock: { readonly unit: 'ns'; readonly now: number };
  /** What `after` and `seek` reach; `firstSeq` > `lastSeq`: nothing yet. */
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly heartbeatMs: number;
  readonly maxMessageBytes: number;
  readonly status: Status;
}

export interface Status {
  readonly type: 'status';
  readonly state: RunState;
  readonly seq: number;
  readonly ns: number;
  /** Events in a second of real time; null: as fast as it goes. */
  readonly speed: number | null;
  /** Why it failed or ended. */
  readonly reason?: string;
}

export interface Snapshot {
  readonly type: 'snapshot';
  readonly why: 'join' | 'seek' | 'resync';
  /** The state is that after this event; what follows begins with the next. */
  readonly seq: number;
  readonly ns: number;
  readonly state: StateJson;
}

interface EventsRange {
  readonly type: 'events';
  /** Every event of this range was either sent here or did not match the filter. */
  readonly from: number;
  readonly to: number;
  /** Of them sent. */
  readonly count: number;
}

/** In msgpack: one event frame as trace/wire lays it out; in JSON: the events themselves. */
export type Events =
  | (EventsRange & { readonly data: Uint8Array })
  | (EventsRange & { readonly events: readonly JsonItem[] });

export interface Dropped {
  readonly type: 'dropped';
  readonly from: number;
  readonly to: number;
  readonly count: number;
  /** Since `hello`. */
  readonly total: number;
}

export interface Heartbeat {
  readonly type: 'heartbeat';
  readonly seq: number;
  readonly ns: number;
  readonly dropped: number;
}

export interface Reply {
  readonly type: 'reply';
  readonly id: RequestId;
  readonly request: RequestType;
  readonly [result: string]: unknown;
}

export interface ErrorReply {
  readonly type: 'error';
  readonly id?: RequestId;
  readonly code: ErrorCode;
  readonly message: string;
}

export type ServerMessage =
  | Hello
  | Status
  | Snapshot
  | Events
  | Dropped
  | Heartbeat
  | Reply
  | ErrorReply;

export type { EventRecord, Layer };
