/**
 * A process of a test: runs a program on a simulated host as `vsva exec` does, and writes what was
 * left in the kernel to a file. Arguments: that file, accelerators, 1 for a kernel that can be told
 * to fail, the program and its arguments.
 */
import { writeFileSync } from 'node:fs';
import { Broker } from '../../../host/bridge/broker.ts';
import { buildTools } from '../../../host/bridge/build.ts';
import { BridgeServer } from '../../../host/bridge/server.ts';
import { bootHost } from '../../../vmm/scenario/host.ts';

const [, , report, devices, selftest, ...program] = process.argv;
const kernel = bootHost({
  seed: 1,
  devices: Number(devices),
  ramBytes: 256 * 2 ** 20,
  listeners: [],
  kernel: { selftest: selftest === '1' },
});
using broker = new Broker(buildTools(), { program });
process.exitCode = new BridgeServer(kernel, broker).run();
writeFileSync(report!, JSON.stringify(kernel.leftovers()));
