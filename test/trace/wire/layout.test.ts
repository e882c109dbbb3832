import test from 'ava';
import { CATALOGUE } from '../../../trace/catalogue/all.ts';
import { vtd } from '../../../trace/catalogue/vtd.ts';
import { event } from '../../../trace/event.ts';
import {
  layoutOf,
  layoutsOf,
  layoutsOfSchema,
  SchemaError,
  schemaOf,
} from '../../../trace/wire/layout.ts';

const json = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

test('fields lie in declared order, each where its size divides, within the record', (t) => {
  for (const { name, size, fields } of layoutsOf(CATALOGUE)) {
    let end = 16;
    for (const field of fields) {
      t.true(field.offset >= end, `${name}.${field.name}`);
      const align = field.size === 3 ? 4 : Math.min(4, field.size);
      t.is(field.offset % align, 0, `${name}.${field.name}`);
      end = field.offset + field.size;
    }
    t.true(size >= end && size < end + 4 && size % 4 === 0, name);
  }
});

test('a PASID and the permissions behind it share a word', (t) => {
  const { fields, size } = layoutOf(vtd.iotlbHit, 0);
  t.is(size, 32);
  t.deepEqual(
    fields.map(({ offset }) => offset),
    [16, 18, 20, 23, 24],
  );
});

test('a schema that went through JSON gives the same layouts, with the known declarations', (t) => {
  const layouts = layoutsOfSchema(json(schemaOf(CATALOGUE)), CATALOGUE);
  t.deepEqual(layouts, layoutsOf(CATALOGUE));
  t.true(layouts.every(({ def }, id) => def === CATALOGUE[id]));
});

test('an event declared otherwise than known keeps the declaration of the schema', (t) => {
  const old = event('vtd', 'vtd:walk', { unit: 'text', what: 'int' }, 'an older walk', 'this test');
  const [layout] = layoutsOfSchema(json(schemaOf([old])), CATALOGUE);
  t.deepEqual(layout?.def, old);
});

test('what is no schema of this format is refused with the reason', (t) => {
  const good = json(schemaOf([vtd.walk])) as { format: number; events: { size: number }[] };
  const refused = (schema: unknown, message: RegExp): void => {
    t.throws(() => layoutsOfSchema(schema), { instanceOf: SchemaError, message });
  };
  refused(null, /schema is no object/);
  refused([], /schema is no object/);
  refused({ ...good, format: 2 }, /format 2, this reads 1/);
  refused({ ...good, events: 3 }, /no list of events/);
  refused({ ...good, events: [{ name: 'x' }] }, /event 0 has no name or no fields/);
  const [walk] = good.events as unknown as [Record<string, unknown>];
  refused({ ...good, events: [{ ...walk, layer: 'cellar' }] }, /layer cellar is not known/);
  refused({ ...good, events: [{ ...walk, size: 40 }] }, /vtd:walk: laid out otherwise/);
  const fields = [{ name: 'n', kind: 'float', offset: 16, size: 8 }];
  refused({ ...good, events: [{ ...walk, fields }] }, /kind float is not known/);
});
