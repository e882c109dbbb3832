import type { Task } from '../../host/syscall.ts';
import { vmm as ev } from '../../trace/catalogue/vmm.ts';
import type { Tracer } from '../../trace/tracer.ts';
import type { VmmBug } from '../bugs.ts';
import type { Iommufd } from '../iommufd.ts';
import { SysError } from '../sys-error.ts';
import type { VfioDevice } from '../vfio-device.ts';

/** What the virtual unit stands on: the host's objects behind the guest's one assigned function. */
export interface HostSide {
  /** The VM's name. */
  readonly name: string;
  readonly trace: Tracer;
  readonly iommufd: Iommufd;
  readonly device: VfioDevice;
  /** iommufd object ids: the device, the HWPT of guest RAM, the VM's fault queue. */
  readonly deviceId: number;
  readonly parent: number;
  readonly faultQueue: number;
  /** PASIDs 0 .. maxPasids - 1 may be attached. */
  readonly maxPasids: number;
  /** Mistakes to make on purpose; none by default. */
  readonly bugs?: ReadonlySet<VmmBug> | undefined;
}

/**
 * Runs system calls on the guest's behalf. A refusal is reported and is null here: the guest must
 * not be able to end the VMM (6.2: errors are only logged).
 */
export function* attempt<T>(
  host: Pick<HostSide, 'name' | 'trace'>,
  what: () => string,
  calls: Task<T>,
): Task<T | null> {
  try {
    return yield* calls;
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    report(host, what, error.message);
    return null;
  }
}

/** Emits that something the guest asked for is not done, and why. */
export function report(
  host: Pick<HostSide, 'name' | 'trace'>,
  what: () => string,
  error: string,
): void {
  if (!host.trace.on) return;
  host.trace.emit(ev.refused, { vm: host.name, what: what(), error });
}
