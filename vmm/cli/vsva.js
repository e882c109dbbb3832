#!/usr/bin/env node
// The one file that an old Node must be able to read: it says what is wrong instead of a syntax error.
const NEEDED = 24;

if (parseInt(process.versions.node, 10) >= NEEDED) {
  import('./main.ts');
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
