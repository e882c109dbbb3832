import { Bench, SID } from './bench.ts';
import { rule } from './rule.ts';

const ADDRESS = 0xfee0_1004;
const MASKED = 0x8000_0000;
const PENDING = 0x4000_0000;

/** The control register of each source, and how to make its condition true once more. */
function sources(): {
  name: string;
  control: number;
  bench: Bench;
  raise: () => void;
  clear: () => void;
}[] {
  const fault = new Bench({ cap: { NFR: 3 } });
  fault.enable();
  const wait = new Bench();
  wait.setRoot();
  wait.enableQueue();
  const request = new Bench();
  const directory = request.tables.context(request.root, SID);
  request.tables.pasid(directory, 5, { pgtt: 4 });
  request.enable();
  request.w64(0xd0, request.tables.page());
  return [
    {
      name: 'fault',
      control: 0x38,
      bench: fault,
      raise: () => void fault.dma(0x1000n),
      clear: () => {
        for (let i = 0; i < 4; i++) fault.w32(0x60c + 16 * i, 0x8000_0000);
        fault.w32(0x34, 0x71);
      },
    },
    {
      name: 'invalidation completion',
      control: 0xa0,
      bench: wait,
      raise: () => wait.submit([[0x15n, 0n]]),
      clear: () => wait.w32(0x9c, 1),
    },
    {
      name: 'page request',
      control: 0xe0,
      bench: request,
      raise: () => request.unit.pageRequest(SID, 5, false, 1, true, false, true, 0),
      clear: () => request.w32(0xdc, 3),
    },
  ];
}

for (const { name, control, bench, raise, clear } of sources()) {
  rule(
    ['EVT-1', 'EVT-2', 'EVT-3', 'EVT-4', 'EVT-5'],
    `${name}: mask, pending, one message per rise`,
    (t) => {
      bench.w32(control + 4, 0x1_0045);
      bench.w32(control + 8, ADDRESS + 3);
      bench.w32(control + 12, 1);
      const message = { address: ADDRESS + 2 ** 32, data: 0x45 };
      t.is(bench.r32(control), MASKED, 'masked at reset');
      bench.w32(control, MASKED | PENDING);
      t.is(bench.r32(control), MASKED, 'pending is read-only');

      raise();
      t.is(bench.r32(control), (MASKED | PENDING) >>> 0);
      t.deepEqual(bench.msis, []);
      bench.w32(control, 0);
      t.deepEqual(bench.msis, [message], 'unmasking sends what is pending');
      t.is(bench.r32(control), 0);
      raise();
      t.is(bench.msis.length, 1, 'the status bit is still set: no second message');
      clear();
      raise();
      t.is(bench.msis.length, 2);

      clear();
      bench.w32(control, MASKED);
      raise();
      t.is(bench.r32(control), (MASKED | PENDING) >>> 0);
      clear();
      t.is(bench.r32(control), MASKED, 'clearing the status clears pending');
      bench.w32(control, 0);
      t.is(bench.msis.length, 2);
    },
  );
}
