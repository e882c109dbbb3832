import { readFileSync } from 'node:fs';

interface Package {
  readonly version: string;
}

/** The version of this program. */
export const VERSION = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as Package
).version;

/** As recordings and servers name it: `vsva 0.1.0`. */
export const PROGRAM = `vsva ${VERSION}`;
