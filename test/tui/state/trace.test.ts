import test from 'ava';
import { engine } from '../../../trace/catalogue/engine.ts';
import { guest } from '../../../trace/catalogue/guest.ts';
import type { EventRecord } from '../../../trace/event.ts';
import {
  causeChain,
  EMPTY_TRACE,
  MOST_EVENTS,
  recordOf,
  reduceTrace,
  withFilter,
} from '../../../tui/state/trace.ts';
import { Maker, recordRun } from '../events.ts';

const run = recordRun();
const whole = reduceTrace(EMPTY_TRACE, run);

test('the filter takes events that hold every word, in any case', (t) => {
  const { matches } = withFilter(whole, 'VTD fault_NOT no');
  t.deepEqual(matches, []);
  const faults = withFilter(whole, 'vtd FS_not_present').matches;
  t.true(faults.length > 0);
  t.true(faults.every(({ def }) => def.name === 'vtd:fault'));
});

test('a filter applies to what comes later as to what was there', (t) => {
  const early = withFilter(reduceTrace(EMPTY_TRACE, run.slice(0, 900)), 'ioctl');
  const later = reduceTrace(early, run.slice(900));
  t.deepEqual(later.matches, withFilter(whole, 'ioctl').matches);
  t.deepEqual(withFilter(later, '').matches, run);
});

test('the replace descends from the guest moving its page table', (t) => {
  const replace = run.find(({ def }) => def.name === 'iommu:replace_device_pasid');
  t.truthy(replace);
  if (replace === undefined) return;
  const { causes, cut } = causeChain(whole, replace, 5);
  const names = causes.map(({ def }) => def.name);
  t.false(cut);
  t.is(causes[0]?.cause, 0);
  t.is(names.at(-1), 'iommu:replace_device_pasid');
  const told = ['guest:mm_move_root', 'guest:pasid_entry', 'syscalls:sys_enter_ioctl'];
  t.deepEqual(
    told.filter((name) => names.includes(name)),
    told,
  );
});

test('effects are what names the event as its cause', (t) => {
  const exec = run.find(({ def }) => def.name === 'guest:sched_process_exec');
  t.truthy(exec);
  if (exec === undefined) return;
  const { effects } = causeChain(whole, exec, 3);
  t.is(effects.length, 3);
  t.true(effects.every(({ cause }) => cause === exec.seq));
});

test('a cause that is no longer kept is said to be missing', (t) => {
  const late = reduceTrace(EMPTY_TRACE, run.slice(1000));
  const orphan = late.events.find(({ cause }) => cause !== 0 && cause <= 1000);
  t.truthy(orphan);
  if (orphan !== undefined) t.true(causeChain(late, orphan, 1).cut);
});

test('a damaged recording does not lead in circles', (t) => {
  const maker = new Maker();
  const values = { vms: 1, processes: 1 };
  const events = [maker.make(engine.settled, values, 2), maker.make(engine.settled, values, 2)];
  const { causes, cut } = causeChain(reduceTrace(EMPTY_TRACE, events), events[1]!, 3);
  t.is(causes.length, 1);
  t.true(cut);
});

test('more events than are kept: the newest stay, also with a filter', (t) => {
  const maker = new Maker();
  const many: EventRecord[] = Array.from({ length: MOST_EVENTS + 500 }, (_, i) =>
    maker.make(guest.shutdown, { vm: 'vm0', code: i }),
  );
  let state = withFilter(EMPTY_TRACE, 'power_off');
  for (let at = 0; at < many.length; at += 5000) {
    state = reduceTrace(state, many.slice(at, at + 5000));
  }
  t.is(state.events.length, MOST_EVENTS);
  t.deepEqual(state.matches, state.events);
  t.is(recordOf(state.events, many.length)?.seq, many.length);
  t.is(recordOf(state.events, 1), undefined);
});
