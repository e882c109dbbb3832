/** VMMs on a rig, each with a guest of the test's choice. */
import { rid } from '../../../devices/spec/pci.ts';
import { bootGuest } from '../../../guest/kernel.ts';
import { guestMemoryNeeded } from '../../../guest/mm/budget.ts';
import type { Process } from '../../../host/kernel/process.ts';
import { runVmm, type VmmOptions, type VmmResult } from '../../../vmm/vmm.ts';
import { bootRig, type Rig, type RigOptions } from './rig.ts';

export type Guest = VmmOptions['guest'];

export interface Vm {
  readonly process: Process;
  /** Set when the VMM has returned. */
  result: VmmResult | undefined;
}

export interface Vms {
  readonly rig: Rig;
  readonly vms: readonly Vm[];
}

export interface VmsOptions {
  /** One VM each; undefined: the real guest kernel, which copies the input. */
  readonly guests: readonly (Guest | undefined)[];
  readonly input: Uint8Array;
  readonly procs?: number;
  readonly seed?: number;
  readonly guestBytes?: number;
  readonly rig?: RigOptions;
}

/** The machine with its kernel up and the VMMs about to run. */
export function startVms(options: VmsOptions): Vms {
  const { guests, input, procs = 1, seed = 3 } = options;
  const ramBytes = options.guestBytes ?? guestMemoryNeeded(input.length, procs);
  const hostBytes = 2 ** 26 + guests.length * (ramBytes + 2 ** 23);
  const rig = bootRig({ devices: guests.length, ramBytes: hostBytes, seed, ...options.rig });
  const { clock, trace } = rig.machine;
  const vms = guests.map((guest, n): Vm => {
    const process = rig.kernel.createProcess(`vmm${n}`);
    const vm: Vm = { process, result: undefined };
    const name = `vm${n}`;
    process.start(function* run() {
      vm.result = yield* runVmm(process, {
        name,
        ramBytes,
        device: `/dev/vfio/devices/vfio${n}`,
        commandLine: `name=${name} procs=${procs} seed=${seed} program=copy`,
        input,
        outputs: procs,
        trace,
        guest: guest ?? ((cpu) => bootGuest(cpu, trace)),
        now: () => clock.now,
        sanitize: rig.sanitizer && { sanitizer: rig.sanitizer, hostRid: rid(0, n + 1, 0) },
      });
    });
    return vm;
  });
  return { rig, vms };
}

/** Bytes without a pattern that a wrong page could imitate. */
export function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (Math.imul(i + 1, 0x9e37_79b1) >>> 13) & 0xff);
}
