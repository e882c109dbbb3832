import test from 'ava';
import fc from 'fast-check';
import { host } from '../../../trace/catalogue/host.ts';
import { event } from '../../../trace/event.ts';
import { jsonLine } from '../../../trace/story/json-line.ts';

const wide = event(
  'vtd',
  'test:wide',
  { count: 'int', qw0: 'hex', at: 'addr', what: 'text' },
  'values of every kind',
  'this test',
);

test('64-bit values, texts of any kind and numbers survive', (t) => {
  fc.assert(
    fc.property(
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.maxSafeNat(),
      fc.maxSafeNat(),
      fc.string({ unit: 'binary' }),
      (qw0, at, count, what) => {
        const line = jsonLine({
          seq: 7,
          ns: 1_000,
          cause: 3,
          def: wide,
          values: { count, qw0, at, what },
        });
        t.false(line.includes('\n'));
        const read = JSON.parse(line) as Record<string, string | number>;
        t.is(BigInt(read['qw0']!), qw0);
        t.is(BigInt(read['at']!), BigInt(at));
        t.is(read['count'], count);
        t.is(read['what'], what);
      },
    ),
  );
});

test('the keys are seq, ns, cause, layer, event, then the fields in their order', (t) => {
  const values = { what: 'x', at: 4096, qw0: 0x8000_0000_0000_0001n, count: 2 };
  t.is(
    jsonLine({ seq: 1, ns: 20, cause: 0, def: wide, values }),
    '{"seq":1,"ns":20,"cause":0,"layer":"vtd","event":"test:wide",' +
      '"count":2,"qw0":"0x8000000000000001","at":"0x1000","what":"x"}',
  );
});

test("a field called name is kept beside the event's own name", (t) => {
  const values = { pid: 1, fd: 3, name: 'IOMMU_HWPT_ALLOC', args: '' };
  const read = JSON.parse(jsonLine({ seq: 1, ns: 0, cause: 0, def: host.ioctl, values })) as Record<
    string,
    unknown
  >;
  t.is(read['event'], 'syscalls:sys_enter_ioctl');
  t.is(read['name'], 'IOMMU_HWPT_ALLOC');
});
