import test from 'ava';

import { bootGuest } from '../../guest/kernel.ts';
import { dsaMachine } from './machine/dsa-machine.ts';

function pattern(bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => (i * 13 + (i >>> 10) + 5) & 0xff);
}

for (const [size, processes] of [
  [0, 1],
  [1, 1],
  [4097, 2],
  [3 << 20, 1],
  [500_000, 3],
] as const) {
  test(`the driver and the program on the modelled accelerator: ${processes} x ${size}`, (t) => {
    const input = pattern(size);
    const machine = dsaMachine({ input, commandLine: `procs=${processes}` });
    const code = machine.run(bootGuest(machine.cpu, machine.trace));
    const results = machine.named('guest:program_result');
    t.deepEqual(
      results.filter((e) => e.values['what'] === 'error').map((e) => e.values['value']),
      [],
    );
    t.is(code, 0);
    for (let i = 0; i < processes; i++) t.deepEqual(machine.outputs.get(i), input);
    const interrupts = machine.named('guest:irq_handler_entry').map((e) => e.values['handler']);
    t.true(interrupts.includes('idxd-misc'));
    t.true(interrupts.includes('idxd-wq0'));
    t.is(interrupts.includes('dmar-prq'), size > 0);
  });
}
