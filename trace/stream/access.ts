import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Engine } from './engine.ts';
import { CONTROLS, type Control } from './protocol.ts';

/** Who may do what. */
export interface AccessOptions {
  readonly engine: Engine;
  readonly host: string;
  readonly token?: string | undefined;
  readonly controlToken?: string | undefined;
  readonly viewOnly?: boolean | undefined;
  readonly origins?: readonly string[] | undefined;
}

/** What somebody who asks may do; undefined: not even watch. */
export type Rights = readonly Control[] | undefined;

const LOOPBACK = new Set(['127.0.0.1', '::1', 'localhost']);

export const isLoopback = (host: string): boolean =>
  LOOPBACK.has(host) || /^127(?:\.\d{1,3}){3}$/.test(host);

/** What is asked for; undefined when that is no URL. */
export const urlOf = ({ url = '/' }: IncomingMessage): URL | undefined =>
  URL.parse(`http://localhost${url.startsWith('/') ? url : '/'}`) ?? undefined;

/** Against names that somebody else points at this address. */
export function knowsHost({ headers }: IncomingMessage, { host: own }: AccessOptions): boolean {
  if (!isLoopback(own)) return true;
  const host = (headers.host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  return isLoopback(host);
}

/** Whether the page that connects may: one of this server's, or one that was named. */
export function knowsOrigin({ headers }: IncomingMessage, { origins }: AccessOptions): boolean {
  const { origin, host } = headers;
  if (origin === undefined) return true;
  return origin === `http://${host}` || (origins ?? []).includes(origin);
}

export function rightsOf(request: IncomingMessage, options: AccessOptions): Rights {
  const { token, controlToken, viewOnly, engine } = options;
  const shown = tokenOf(request);
  const all = viewOnly === true ? [] : CONTROLS.filter((one) => engine.controls.includes(one));
  if (controlToken !== undefined && same(shown, controlToken)) return all;
  if (token !== undefined && !same(shown, token)) return undefined;
  return controlToken === undefined ? all : [];
}

/** The token that a request shows: in its URL, as pages must, or as a header. */
function tokenOf(request: IncomingMessage): string {
  const bearer = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
  return bearer ?? urlOf(request)?.searchParams.get('token') ?? '';
}

/** In a time that does not tell where they differ. */
function same(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}
