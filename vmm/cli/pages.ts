import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Pages } from '../../trace/stream/server.ts';

const TRACE = realpathSync(fileURLToPath(new URL('../../trace/', import.meta.url)));

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.ts': 'text/javascript',
};

/** What a browser may be sent of `trace/`: the page and the pure modules it imports. */
const SENT =
  /^\/trace\/(?:[\w-]+|(?:viewer|wire|state|story|catalogue)\/[\w/-]+)\.(?:html|css|svg|ts)$/;

/**
 * The page, straight from its sources: modules lose their types on the way, so that there is no build
 * step and nothing that could be out of date.
 */
export function viewerPages(): Pages {
  const sent = new Map<string, { readonly type: string; readonly body: string }>();
  return (asked) => {
    const path = asked === '/' ? '/trace/viewer/index.html' : asked;
    if (!SENT.test(path)) return undefined;
    const known = sent.get(path);
    if (known !== undefined) return known;
    const file = `${TRACE}/${path.slice('/trace/'.length)}`;
    if (!existsSync(file)) return undefined;
    const extension = extname(path);
    const text = readFileSync(file, 'utf8');
    const body = extension === '.ts' ? stripped(text) : text;
    const page = { type: TYPES[extension]!, body };
    sent.set(path, page);
    return page;
  };
}

/** Node warns that this may still change; the user can do nothing about it. */
function stripped(text: string): string {
  const emitWarning = process.emitWarning.bind(process);
  process.emitWarning = () => undefined;
  try {
    return stripTypeScriptTypes(text);
  } finally {
    process.emitWarning = emitWarning;
  }
}
