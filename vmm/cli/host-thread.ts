/**
 * The thread that serves real programs. It sleeps in system calls, where Node hears of no signal:
 * those are the main thread's.
 */
import { enableCompileCache } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';
import type { HostThreadData } from './host-engine.ts';

const data = workerData as HostThreadData;
// Each thread has to be told of the cache, before it compiles anything.
if (data.cache !== undefined) enableCompileCache(data.cache);
const { serve } = await import('./host-engine.ts');
serve(data, (message) => parentPort?.postMessage(message));
