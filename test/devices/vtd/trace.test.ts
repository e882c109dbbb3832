import test from 'ava';

import type { EventRecord } from '../../../trace/event.ts';
import { Bench, SID } from './bench.ts';
import { A, D, P, PS, R, RW, US, W } from './tables.ts';

const VA = 0x7f12_3456_7000n;
const LEAF = P | RW | US | A | D;
const STATUS = 0x8000n;

function traced(): { bench: Bench; events: EventRecord[]; leaf: bigint } {
  const bench = new Bench();
  const events: EventRecord[] = [];
  const { tables } = bench;
  const directory = tables.context(bench.root, SID);
  const ss = tables.page();
  tables.map(ss, 4, 0n, PS | R | W, R | W, 3);
  const fs = tables.page();
  const leaf = tables.map(fs, 4, VA, 0x30_0000n | LEAF, LEAF);
  tables.pasid(directory, 5, { pgtt: 3, fs, ss, did: 7 });
  bench.w64(0xd0, tables.page());
  bench.trace.listen((record) => events.push(record));
  bench.enable();
  bench.enableQueue();
  return { bench, events, leaf };
}

const named = (events: EventRecord[], name: string): EventRecord[] =>
  events.filter(({ def }) => def.name === `vtd:${name}`);

test('a walk with its levels beneath it; a hit is silent', (t) => {
  const { bench, events, leaf } = traced();
  events.length = 0;
  t.is(bench.dma(VA, { pasid: 5 }), 0x30_0000);
  const [walk] = named(events, 'walk');
  t.like(walk?.values, {
    unit: 'host',
    sid: '01:01.0',
    pasid: 5,
    address: Number(VA),
    request: 'read',
    result: 0x30_0000,
    shift: 12,
    perm: 'rw',
  });
  const levels = named(events, 'walk_level');
  t.is(levels.length, Number(walk?.values['loads']));
  t.true(levels.every(({ cause }) => cause === walk?.seq));
  const tables = levels.map(({ values }) => values['table']);
  t.deepEqual(tables.slice(0, 4), ['root', 'context', 'PASID directory', 'PASID']);
  const last = levels.findLast(({ values }) => values['table'] === 'first-stage');
  t.like(last?.values, { level: 1, address: Number(leaf), entry: 0x30_0067n });
  t.is(last?.values['decoded'], '0x300067 -> 0x300000 P|RW|US|A|D');
  events.length = 0;
  bench.dma(VA, { pasid: 5 });
  t.deepEqual(events, []);
});

test('traced and untraced walks come to the same', (t) => {
  const { bench } = traced();
  const plain = traced().bench;
  plain.trace.on = false;
  for (const va of [VA, VA + 0x1000n, 1n << 47n]) {
    t.is(bench.dma(va, { pasid: 5 }), plain.dma(va, { pasid: 5 }));
  }
});

test('a fault says what the device got and whether it was recorded', (t) => {
  const { bench, events } = traced();
  bench.dma(VA, { pasid: 6, write: true });
  bench.ats(VA + 0x1000n, { pasid: 5 });
  t.like(named(events, 'fault')[0]?.values, {
    code: 0x59,
    answer: 'UR',
    recorded: 1,
    request: 'write',
  });
  t.like(named(events, 'fault')[1]?.values, { code: 0x71, answer: 'no translation', recorded: 0 });
});

test('queue: the tail write causes the descriptor, that the wait, that the message', (t) => {
  const { bench, events } = traced();
  bench.w32(0xa0, 0);
  bench.dma(VA, { pasid: 5 });
  events.length = 0;
  bench.submit([
    [0x0005_0007_0026n, 0n],
    [0x2_0000_0035n, STATUS],
  ]);
  const [tail] = named(events, 'reg_write');
  const [drop, wait] = named(events, 'inv_desc');
  t.like(tail?.values, { register: 'IQT' });
  t.is(drop?.cause, tail?.seq);
  t.like(drop?.values, { descriptor: 'p_iotlb_inv pasid did=7 pasid=5', dropped: 4 });
  t.is(wait?.cause, tail?.seq);
  const [done] = named(events, 'inv_wait_done');
  t.is(done?.cause, wait?.seq);
  t.like(done?.values, { address: Number(STATUS), data: 2 });
  const [message] = named(events, 'msi');
  t.is(message?.cause, wait?.seq);
  t.is(message?.values['source'], 'invalidation completion');
});

test('a mark on a descriptor slot is adopted; one is left on a page-request slot', (t) => {
  const { bench, events } = traced();
  const at = bench.put(0x11n);
  bench.trace.cause = 4242;
  bench.trace.mark('host', Number(at));
  bench.trace.cause = 0;
  bench.ring();
  bench.clock.run(1000);
  t.is(named(events, 'inv_desc')[0]?.cause, 4242);
  bench.unit.pageRequest(SID, 5, false, 1, true, false, true, 3);
  const [request] = named(events, 'page_request');
  t.like(request?.values, { pasid: 5, prgi: 3, perm: 'r-', last: 1, outcome: 'queued' });
  bench.trace.adopt('host', Number(bench.r64(0xd0)));
  t.is(Number(request?.seq), bench.trace.cause);
});

test('device-TLB invalidations, responses, queue errors and counters', (t) => {
  const { bench, events } = traced();
  bench.submit([
    [0x5_0108_0008n, 0x1000n],
    [0x5_0108_0019n, 0x1cn],
    [0xan, 0n],
  ]);
  t.like(named(events, 'dev_tlb_inv')[0]?.values, {
    pasid: 5,
    address: 0x1000,
    shift: 12,
    itag: 0,
  });
  t.like(named(events, 'page_group_response')[0]?.values, { pasid: 5, prgi: 3, code: 0 });
  t.like(named(events, 'inv_queue_error')[0]?.values, { error: 'IQE: descriptor type', head: 64 });
  bench.unit.emitStats();
  t.like(named(events, 'stats')[0]?.values, { descriptors: 2, walks: 0 });
});
