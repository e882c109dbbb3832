import { DsaDevice } from '../../devices/dsa/dsa.ts';
import type { Sanitizer } from '../../devices/vtd/sanitizer/sanitizer.ts';
import { bootKernel } from '../../host/kernel/boot.ts';
import type { Kernel, KernelOptions } from '../../host/kernel/kernel.ts';
import { Machine } from '../../host/machine/machine.ts';
import type { Listener, Sink } from '../../trace/tracer.ts';

export interface HostOptions {
  readonly seed: number;
  /** Accelerators, 0..31. */
  readonly devices: number;
  readonly ramBytes: number;
  readonly listeners: readonly Listener[];
  /** Who takes the whole stream, from power-on. */
  readonly sinks?: readonly Sink[];
  /** Watches the unit. */
  readonly sanitizer?: Sanitizer | undefined;
  /** Named options of the kernel. */
  readonly kernel?: KernelOptions;
}

/** A machine with accelerators and a host kernel, booted: what real programs run on. */
export function bootHost(options: HostOptions): Kernel {
  const { seed, devices, ramBytes, listeners, sinks = [], sanitizer } = options;
  const functions = Array.from(
    { length: devices },
    () => (rid: number, world: Omit<ConstructorParameters<typeof DsaDevice>[0], 'rid'>) =>
      new DsaDevice({ rid, ...world }),
  );
  const machine = new Machine({ ramBytes, seed, functions, sanitizer });
  for (const listener of listeners) machine.trace.listen(listener);
  for (const sink of sinks) machine.trace.attach(sink);
  const kernel = { frames: sanitizer ?? null, ...options.kernel };
  const boot = machine.scheduler.spawn('boot', bootKernel(machine, kernel));
  machine.clock.run(() => boot.done);
  machine.scheduler.rethrow();
  const { pages } = boot.result!;
  sanitizer?.watchFrames((pfn) => pages.isFree(pfn));
  return boot.result!;
}
