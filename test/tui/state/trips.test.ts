import test from 'ava';
import { EMPTY_MODEL, reduceModel } from '../../../tui/state/model.ts';
import { waitingIn } from '../../../tui/state/queues.ts';
import { isOpen, lastStage, STAGES } from '../../../tui/state/trips.ts';
import { recordRun } from '../events.ts';

const run = recordRun({ vms: 2, procs: 2 });
const asks = run.filter(({ def }) => def.name === 'dsa:page_request');

test('every page request is one round trip through all stages, whoever else asks', (t) => {
  const { trips } = reduceModel(EMPTY_MODEL, run).trips;
  t.is(trips.length, asks.length);
  t.true(asks.length > 10);
  for (const trip of trips) {
    t.deepEqual(
      trip.reached.map(({ stage }) => stage),
      STAGES.map((_, stage) => stage),
    );
    t.is(trip.answer, 'success');
    t.regex(trip.vm, /^vm[01]$/);
    const times = trip.reached.map(({ ns }) => ns);
    t.deepEqual(
      times,
      times.toSorted((a, b) => a - b),
    );
  }
});

test('midway it is told how far each came', (t) => {
  const read = run.findIndex(({ def }) => def.name === 'vmm:fault_read');
  const { trips } = reduceModel(EMPTY_MODEL, run.slice(0, read + 1)).trips;
  const [first] = trips;
  t.true(isOpen(first!));
  t.is(STAGES[lastStage(first!)]?.event, 'vmm:fault_read');
  t.true(trips.slice(1).every((trip) => lastStage(trip) < lastStage(first!)));
});

test('queues: what is submitted waits, and nothing waits in the end', (t) => {
  const submit = run.findIndex(({ def }) => def.name === 'intel_iommu:qi_submit');
  const early = reduceModel(EMPTY_MODEL, run.slice(0, submit + 1)).queues.queues;
  t.is(waitingIn(early.get('invalidation/host')!), 1);
  const { queues } = reduceModel(EMPTY_MODEL, run).queues;
  const names = [...queues.keys()];
  for (const name of [
    'invalidation/vm1',
    'page request/host',
    'page request/vm0',
    'work/00:01.0 wq0',
  ]) {
    t.true(names.includes(name), names.join(' '));
  }
  for (const queue of queues.values()) t.is(waitingIn(queue), 0, `${queue.kind} ${queue.owner}`);
  const work = queues.get('work/00:02.0 wq0');
  t.is(
    work?.count,
    run.filter(
      ({ def, values }) => def.name === 'dsa:desc_accept' && values['device'] === '00:02.0',
    ).length,
  );
  t.true(work?.slots.every(({ state, outcome }) => state === 'done' && outcome === 'success'));
});
