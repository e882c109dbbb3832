/** One request through the kernel, without a program. */
import test from 'ava';
import type { Broker } from '../../../host/bridge/broker.ts';
import { type BridgedCall, type Outcome, perform } from '../../../host/bridge/calls.ts';
import { BridgedFiles } from '../../../host/bridge/files.ts';
import { OpenFiles } from '../../../host/bridge/table.ts';
import { OP, type Request } from '../../../host/bridge/wire.ts';
import type { FileOps } from '../../../host/kernel/file.ts';
import { bootHost } from '../../../vmm/scenario/host.ts';

const FILE = 7;

function request(op: number, args: readonly number[], data = new Uint8Array(0)): Request {
  const [a = 0, b = 0, c = 0, d = 0] = args;
  return {
    op,
    pid: process.pid,
    channel: 1,
    sequence: 1,
    file: FILE,
    fd: 5,
    spareFile: 0,
    spareFd: -1,
    flags: 0,
    imageLow: 0,
    imageHigh: 0,
    args: [a, b, c, d],
    data,
  };
}

test('a defect of the model is EIO for one call, is told, and the next call is served', (t) => {
  const kernel = bootHost({ seed: 1, devices: 0, ramBytes: 64 * 2 ** 20, listeners: [] });
  const broken: FileOps = {
    name: 'broken',
    *ioctl(_caller, _file, number) {
      yield 10;
      if (number === 1) throw new TypeError('nobody thought of this');
      return number;
    },
  };
  kernel.registerDevice('/dev/broken', () => broken);
  const broker = { readable: () => undefined, resolve: () => -9 } as unknown as Broker;
  const table = new OpenFiles(kernel, broker);
  table.connected(FILE);
  const told: unknown[] = [];
  let outcome: Outcome | undefined;
  const run = (asked: Request): number | undefined => {
    const files = new BridgedFiles(asked, broker, table, undefined as never);
    const call = {
      pid: process.pid,
      tid: process.pid,
      files,
      mm: { serve: () => undefined, served: () => undefined },
      places: { open: () => undefined, stat: () => undefined },
      argument: null,
      answer: (given: Outcome) => {
        outcome = given;
      },
    } as unknown as BridgedCall;
    const { clock, scheduler } = kernel.machine;
    const thread = scheduler.drive(
      'test',
      perform(kernel, table, call, asked, (e) => told.push(e)),
    );
    clock.run(() => thread.done);
    return outcome?.result;
  };
  t.is(run(request(OP.OPEN, [2], new TextEncoder().encode('/dev/broken'))), 0);
  t.is(run(request(OP.IOCTL, [42])), 42);
  t.is(run(request(OP.IOCTL, [1])), -5);
  t.deepEqual(
    told.map((error) => (error as Error).message),
    ['nobody thought of this'],
  );
  t.is(run(request(OP.IOCTL, [43])), 43);
  t.is(run(request(99, [])), -38);
  t.is(outcome?.flags, 0);
});
