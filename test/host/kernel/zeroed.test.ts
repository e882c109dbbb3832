import test from 'ava';
import { Errno } from '../../../host/kernel/errno.ts';
import { checkZeroed } from '../../../host/kernel/zeroed.ts';

/** Memory of two pages from 4096 on, the second not mapped; byte `other` is not 0. */
function memory(other: number) {
  const asked: [at: number, bytes: number][] = [];
  const copyFrom = (address: bigint, length: number): Uint8Array<ArrayBuffer> => {
    const at = Number(address);
    asked.push([at, length]);
    if (at + length > 8192) throw new Errno('EFAULT', 'not mapped');
    const bytes = new Uint8Array(length);
    if (other >= at && other < at + length) bytes[other - at] = 1;
    return bytes;
  };
  return { asked, copyFrom };
}

const refuse = (): Errno => new Errno('E2BIG', 'too big');

test('the first byte that is not zero decides, whatever lies behind its page', (t) => {
  t.throws(() => checkZeroed(memory(8000), 7000n, 100_000, refuse), { message: /too big/ });
  t.throws(() => checkZeroed(memory(6999), 7000n, 100_000, refuse), { message: /not mapped/ });
  t.notThrows(() => checkZeroed(memory(8000), 7000n, 1000, refuse));
});

test('it looks at no byte beyond the length, and at none for no length', (t) => {
  const { asked, copyFrom } = memory(0);
  checkZeroed({ copyFrom }, 4000n, 200, refuse);
  checkZeroed({ copyFrom }, 4000n, 0, refuse);
  checkZeroed({ copyFrom }, 4000n, -8, refuse);
  t.deepEqual(asked, [
    [4000, 96],
    [4096, 104],
  ]);
});
