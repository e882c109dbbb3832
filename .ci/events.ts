// Writes docs/events.md anew from the catalogue; with --check only says whether it is current.
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { CATALOGUE } from '../trace/catalogue/all.ts';
import { eventsPage } from '../trace/wire/events-page.ts';

const path = resolve(import.meta.dirname, '../docs/events.md');
const page = eventsPage(CATALOGUE);
if (process.argv.includes('--check')) {
  if (readFileSync(path, 'utf8') !== page) {
    console.error('docs/events.md is not current: run node .ci/events.ts');
    process.exitCode = 1;
  }
} else {
  writeFileSync(path, page);
}
