import { fileURLToPath } from 'node:url';

/** Unpacked sources and built programs; never part of the repository. */
export const CACHE = fileURLToPath(
  new URL('../../node_modules/.cache/vsva-conformance/', import.meta.url),
);
