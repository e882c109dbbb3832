import { readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import test from 'ava';
import { device } from '../../trace/catalogue/device.ts';
import { engine } from '../../trace/catalogue/engine.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import { host } from '../../trace/catalogue/host.ts';
import { vmm } from '../../trace/catalogue/vmm.ts';
import { vtd } from '../../trace/catalogue/vtd.ts';
import { type EventDef, LAYERS, type Layer } from '../../trace/event.ts';

const CATALOGUE = { guest, vmm, host, vtd, device, engine } as const;

const entries = Object.entries(CATALOGUE).flatMap(([layer, events]) =>
  Object.entries<EventDef>(events).map(([key, def]) => ({ layer, key, def })),
);

test('every file of the catalogue is one layer, and every layer has a file', (t) => {
  const files = readdirSync(resolve(import.meta.dirname, '../../trace/catalogue'));
  t.deepEqual(files.sort(), LAYERS.map((layer) => `${layer}.ts`).sort());
  t.deepEqual(Object.keys(CATALOGUE), [...LAYERS]);
});

test('an event belongs to the layer of its file', (t) => {
  for (const { layer, key, def } of entries) t.is(def.layer, layer as Layer, `${layer}.${key}`);
});

test('names are unique over all layers, as are the definitions', (t) => {
  const names = entries.map(({ def }) => def.name);
  const twice = names.filter((name, i) => names.indexOf(name) !== i);
  t.deepEqual(twice, []);
  t.is(new Set(entries.map(({ def }) => def)).size, entries.length);
});

for (const { layer, key, def } of entries) {
  test(`${layer}.${key}: ${def.name}`, (t) => {
    t.regex(def.name, /^[a-z][a-z0-9_]*:[a-z][a-z0-9_]*$/);
    t.regex(def.meaning, /^\S.{7,}[^\s.]$/, 'one line without a full stop that says what happened');
    t.regex(def.source, /^\S.*\S$/, 'where the rule comes from');
    t.true(Object.keys(def.fields).length > 0);
    for (const [field, kind] of Object.entries(def.fields)) {
      t.regex(field, /^[a-z][a-zA-Z0-9]*$/);
      t.true(['int', 'hex', 'addr', 'text'].includes(kind), `${field}: ${kind}`);
      // Keys of a JSON line of their own.
      t.false(['seq', 'ns', 'cause', 'layer', 'event'].includes(field), field);
    }
  });
}

test('events of a layer that several machines have say which one', (t) => {
  const unnamed = entries
    .filter(({ layer }) => ['guest', 'vmm', 'vtd', 'device'].includes(layer))
    .filter(({ layer, def }) => {
      const owner = layer === 'vtd' ? 'unit' : layer === 'device' ? 'device' : 'vm';
      return Object.keys(def.fields)[0] !== owner;
    });
  t.deepEqual(unnamed, []);
});
