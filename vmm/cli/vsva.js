#!/usr/bin/env node
// The one file that an old Node must be able to read: it says what is wrong instead of a syntax error.
const NEEDED = 24;

if (parseInt(process.versions.node, 10) >= NEEDED) {
  // What was read once need not be stripped and compiled again: a start takes a third of the time.
  // Coverage wants the functions as they are.
  import('node:module').then((node) => {
    const cache = new URL('../../node_modules/.cache/vsva/code', import.meta.url).pathname;
    if (!process.env.NODE_V8_COVERAGE) node.enableCompileCache(decodeURIComponent(cache));
    return import('./main.ts');
  });
} else {
  process.stderr.write(
    'vsva: this is Node ' +
      process.versions.node +
      ', but Node ' +
      NEEDED +
      ' or newer is needed: run `npm ci` once, then `npm start` or `npm run --silent vsva -- ...`,' +
      ' which use the Node that npm ci installed\n',
  );
  process.exitCode = 1;
}
