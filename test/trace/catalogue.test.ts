import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import test from 'ava';
import { CATALOGUE } from '../../trace/catalogue/all.ts';
import { device } from '../../trace/catalogue/device.ts';
import { engine } from '../../trace/catalogue/engine.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import { host } from '../../trace/catalogue/host.ts';
import { sanitizer } from '../../trace/catalogue/sanitizer.ts';
import { vmm } from '../../trace/catalogue/vmm.ts';
import { vtd } from '../../trace/catalogue/vtd.ts';
import { type EventDef, KINDS, LAYERS, type Layer } from '../../trace/event.ts';
import { eventsPage } from '../../trace/wire/events-page.ts';
import { layoutsOf } from '../../trace/wire/layout.ts';

const FILES = { guest, vmm, host, vtd, device, engine, sanitizer } as const;

/** Files of what is told by the harness beside `engine.ts`. */
const ENGINE_FILES = ['sanitizer'];

const entries = Object.entries(FILES).flatMap(([file, events]) =>
  Object.entries<EventDef>(events).map(([key, def]) => ({ file, key, def })),
);

test('every layer has a file, and every file is in the whole catalogue', (t) => {
  const files = readdirSync(resolve(import.meta.dirname, '../../trace/catalogue'));
  const expected = [...LAYERS, ...ENGINE_FILES, 'all'].map((name) => `${name}.ts`);
  t.deepEqual(files.sort(), expected.sort());
  t.deepEqual(
    CATALOGUE,
    entries.map(({ def }) => def),
  );
});

test('an event belongs to the layer of its file', (t) => {
  for (const { file, key, def } of entries) {
    const layer = ENGINE_FILES.includes(file) ? 'engine' : (file as Layer);
    t.is(def.layer, layer, `${file}.${key}`);
  }
});

test('names are unique over all layers, as are the definitions', (t) => {
  const names = entries.map(({ def }) => def.name);
  const twice = names.filter((name, i) => names.indexOf(name) !== i);
  t.deepEqual(twice, []);
  t.is(new Set(entries.map(({ def }) => def)).size, entries.length);
});

for (const { file, key, def } of entries) {
  test(`${file}.${key}: ${def.name}`, (t) => {
    t.regex(def.name, /^[a-z][a-z0-9_]*:[a-z][a-z0-9_]*$/);
    t.regex(def.meaning, /^\S.{7,}[^\s.]$/, 'one line without a full stop that says what happened');
    t.regex(def.source, /^\S.*\S$/, 'where the rule comes from');
    t.true(Object.keys(def.fields).length > 0);
    for (const [field, kind] of Object.entries(def.fields)) {
      t.regex(field, /^[a-z][a-zA-Z0-9]*$/);
      t.true(Object.hasOwn(KINDS, kind), `${field}: ${kind}`);
      // Keys of a JSON line of their own.
      t.false(['seq', 'ns', 'cause', 'layer', 'event'].includes(field), field);
      // One thing has one kind wherever it is told.
      if (field === 'pasid') t.is(kind, 'pasid');
      if (field === 'perm') t.is(kind, 'perm');
      if (field === 'sid') t.is(kind, 'sid');
      if (/bytes$/i.test(field)) t.is(kind, 'bytes');
    }
  });
}

test('events of a layer that several machines have say which one', (t) => {
  const unnamed = entries
    .filter(({ file }) => ['guest', 'vmm', 'vtd', 'device'].includes(file))
    .filter(({ file, def }) => {
      const owner = file === 'vtd' ? 'unit' : file === 'device' ? 'device' : 'vm';
      return Object.keys(def.fields)[0] !== owner;
    });
  t.deepEqual(unnamed, []);
});

test('events of the data path are 32 bytes in a record: name, function, PASID and address', (t) => {
  const hot = layoutsOf(CATALOGUE).filter(({ def }) => def.hot === true);
  t.true(hot.length > 0);
  for (const { name, size, fields } of hot) {
    t.is(size, 32, name);
    t.deepEqual(
      fields.map(({ kind, offset }) => [kind, offset]),
      [
        ['text', 16],
        ['sid', 18],
        ['pasid', 20],
        ['perm', 23],
        ['iova', 24],
      ],
    );
  }
});

test('docs/events.md is what the catalogue says', (t) => {
  const path = resolve(import.meta.dirname, '../../docs/events.md');
  t.is(readFileSync(path, 'utf8'), eventsPage(CATALOGUE), 'run node .ci/events.ts');
});
