import { Kernel } from '../../../host/kernel/kernel.ts';
import type { Process } from '../../../host/kernel/process.ts';
import { runFirmware } from '../../../host/machine/firmware.ts';
import { Random } from '../../../host/machine/random.ts';
import type { Thread } from '../../../host/machine/scheduler.ts';
import type { Task } from '../../../host/syscall.ts';
import { FakeFunction, fakeMachine } from '../machine/fakes.ts';

export { FakeFunction } from '../machine/fakes.ts';

/** The base of a kernel on a machine with one fake function and a fake unit. */
export function fakeKernel(ramBytes = 64 << 20) {
  const machine = fakeMachine(ramBytes);
  const fn = new FakeFunction(8);
  machine.root.attach(fn);
  const functions = machine.root.functions();
  const boot = runFirmware({ ram: machine.ram, functions, registerBytes: 0x1000, haw: 46 });
  const kernel = new Kernel({ ...machine, ...boot, haw: 46, random: new Random(1) });
  return { ...machine, kernel, fn };
}

/** Runs `body` as the main thread of a new process until nothing happens any more. */
export function runProcess<T>(
  kernel: Kernel,
  body: (process: Process) => Task<T>,
): { readonly process: Process; readonly thread: Thread<T> } {
  const process = kernel.createProcess('test');
  const thread = process.start(() => body(process));
  kernel.machine.clock.run();
  kernel.machine.scheduler.rethrow();
  return { process, thread };
}
