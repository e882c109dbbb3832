import { once } from 'node:events';
import { getCompileCacheDir } from 'node:module';
import { dirname } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Refusal } from './fail.ts';
import type { HostThreadData, HostThreadMessage } from './host-engine.ts';
import { type EndingSignal, passSignals, send, toldAs } from './signals.ts';

/**
 * Serves real programs until the one that was started ends, or a host without one is told to; the
 * status. A signal to this process is passed on: to the program, or to the host, which ends in order.
 */
export async function serveHost(data: HostThreadData): Promise<number> {
  let status = 0;
  let refusal: Refusal | undefined;
  let broker: number | undefined;
  const early: EndingSignal[] = [];
  using _signals = passSignals((signal) => {
    if (broker === undefined) early.push(signal);
    else send(broker, toldAs(signal));
  });
  // Below the directory that was named is one for each version of Node.
  const versioned = getCompileCacheDir();
  const cache = versioned === undefined ? undefined : dirname(versioned);
  const thread = new Worker(new URL('./host-thread.ts', import.meta.url), {
    workerData: { ...data, cache } satisfies HostThreadData,
  });
  thread.on('message', (message: HostThreadMessage) => {
    if (message.type === 'started') {
      ({ broker } = message);
      for (const signal of early) send(broker, toldAs(signal));
    } else if (message.type === 'print') {
      process.stdout.write(message.text);
    } else if (message.type === 'ended') {
      ({ status } = message);
    } else {
      refusal = new Refusal(message.exitCode, message.message);
    }
  });
  await once(thread, 'exit');
  if (refusal !== undefined) throw refusal;
  return status;
}
