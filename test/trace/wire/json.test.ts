import test from 'ava';
import { CATALOGUE } from '../../../trace/catalogue/all.ts';
import { jsonLine } from '../../../trace/story/json-line.ts';
import { itemJson, recordFromJson, recordJson } from '../../../trace/wire/json.ts';
import { layoutsOf } from '../../../trace/wire/layout.ts';
import { wholeRun } from '../runs.ts';

const layouts = new Map(layoutsOf(CATALOGUE).map((layout) => [layout.name, layout]));
const { records } = wholeRun();

test('every event survives JSON, with its 64-bit words', (t) => {
  for (const record of records) {
    const json = JSON.parse(JSON.stringify(recordJson(record))) as ReturnType<typeof recordJson>;
    const back = recordFromJson(layouts, json);
    t.is(jsonLine(back!), jsonLine(record));
    t.is(back?.span, record.span);
  }
});

test('words are hexadecimal text, numbers numbers, and a field may be called name', (t) => {
  const ioctl = records.find(({ def }) => def.name === 'syscalls:sys_enter_ioctl')!;
  const json = recordJson(ioctl);
  t.is(json.name, 'syscalls:sys_enter_ioctl');
  t.is(json.fields['name'], ioctl.values['name'] as string);
  t.is(typeof json.fields['pid'], 'number');
  const entry = recordJson(records.find(({ def }) => def.name === 'guest:pasid_entry')!);
  t.regex(String(entry.fields['qw0']), /^0x[0-9a-f]+$/);
});

test('an end names its beginning; an unknown event is nothing', (t) => {
  t.deepEqual(itemJson({ kind: 'end', begin: 4, ns: 9, seq: 7 }), { end: 4, ns: 9, seq: 7 });
  t.is(
    recordFromJson(layouts, { seq: 1, ns: 0, cause: 0, name: 'x:y', layer: 'vtd', fields: {} }),
    undefined,
  );
});

test('words that are no words are 0', (t) => {
  const fields = { vm: 'vm0', rid: '00:01.0', address: 'javascript', entry: '', qw0: '0x' };
  const record = recordFromJson(layouts, {
    seq: 1,
    ns: 0,
    cause: 0,
    name: 'guest:context_entry',
    layer: 'guest',
    fields: { ...fields, qw1: `0x${'f'.repeat(200)}`, stranger: 1 },
  });
  t.deepEqual(record?.values, { ...fields, address: 0, qw0: 0, qw1: 0 });
});
