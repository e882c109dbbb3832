import test from 'ava';
import { Undo } from '../../../host/kernel/undo.ts';
import type { Task } from '../../../host/syscall.ts';

function drain(task: Task): number[] {
  const waits: number[] = [];
  for (let step = task.next(); step.done !== true; step = task.next()) {
    waits.push(step.value as number);
  }
  return waits;
}

test('steps are carried out last first, and may block', (t) => {
  const undo = new Undo();
  const seen: string[] = [];
  undo.defer(() => {
    seen.push('a');
  });
  undo.defer(function* () {
    yield 5;
    seen.push('b');
  });
  undo.defer(() => void seen.push('c'));
  t.deepEqual(drain(undo.unwind()), [5]);
  t.deepEqual(seen, ['c', 'b', 'a']);
  t.deepEqual(drain(undo.unwind()), []);
  t.is(seen.length, 3);
});

test('after commit nothing is undone', (t) => {
  const undo = new Undo();
  undo.defer(() => t.fail());
  undo.commit();
  drain(undo.unwind());
  t.pass();
});

test('a step that throws stops no other, and its error comes out at the end', (t) => {
  const undo = new Undo();
  const seen: string[] = [];
  undo.defer(() => void seen.push('a'));
  undo.defer(() => {
    throw new Error('first');
  });
  undo.defer(() => {
    throw new Error('second');
  });
  t.throws(() => drain(undo.unwind()), { message: 'second' });
  t.deepEqual(seen, ['a']);
});
