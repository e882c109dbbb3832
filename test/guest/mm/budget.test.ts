import test from 'ava';

import { bootGuest } from '../../../guest/kernel.ts';
import { guestMemoryNeeded } from '../../../guest/mm/budget.ts';
import { FakeMachine } from '../machine/machine.ts';

function boot(ramBytes: number, fileBytes: number, processes: number): number {
  const input = new Uint8Array(fileBytes).fill(7);
  const machine = new FakeMachine({ ramBytes, input, commandLine: `procs=${processes}` });
  return machine.run(bootGuest(machine.cpu, machine.trace));
}

for (const [fileBytes, processes] of [
  [0, 1],
  [4096, 20],
  [8 << 20, 1],
  [3_000_001, 3],
] as const) {
  test(`the budget for ${processes} x ${fileBytes} bytes is enough, and not by much`, (t) => {
    const needed = guestMemoryNeeded(fileBytes, processes);
    t.is(boot(needed, fileBytes, processes), 0);
    const buffers = 2 * fileBytes * processes;
    t.true(needed < buffers * 1.05 + (5 << 20));
    if (fileBytes > 4096) t.not(boot(needed - (3 << 20), fileBytes, processes), 0);
  });
}
