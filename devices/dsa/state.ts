import type { DsaCapabilities } from '../spec/dsa/capabilities.ts';
import { DeviceState, Gencfg, Genctrl, Intcause, ResetType } from '../spec/dsa/registers.ts';
import { Grpcfg, MSIX_PERMISSION_BYTES, MsixPermission, WqState } from '../spec/dsa/tables.ts';
import type { Engine } from './engine.ts';
import type { Work } from './work.ts';
import { WorkQueue } from './work-queue.ts';

/** Words of a group's GRPCFG entry. */
const GROUP_WORDS = Grpcfg.BYTES / 4;

/** Everything software configured and the device keeps: registers, tables, queues, engines. */
export class DsaState {
  readonly caps: DsaCapabilities;
  /** GENSTS.state and its reset type. */
  state: number = DeviceState.DISABLED;
  resetType: number = ResetType.SOFTWARE;
  gencfg = 0;
  genctrl = 0;
  intcause = 0;
  readonly grpcfg: Uint32Array;
  readonly permissions: Uint32Array;
  readonly queues: readonly WorkQueue[];
  readonly engines: Engine[] = [];

  constructor(caps: DsaCapabilities) {
    this.caps = caps;
    this.grpcfg = new Uint32Array(caps.groupCount * GROUP_WORDS);
    this.permissions = new Uint32Array((caps.msixVectors * MSIX_PERMISSION_BYTES) / 4);
    this.queues = Array.from({ length: caps.wqCount }, (_, index) => new WorkQueue(index));
  }

  get enabled(): boolean {
    return this.state === DeviceState.ENABLED;
  }

  get userInterrupts(): boolean {
    return Gencfg.decode(this.gencfg).userInterruptEnable !== 0;
  }

  /** Whether vector 0 fires for a software error, or for a halt. */
  get softwareErrorInterrupt(): boolean {
    return Genctrl.decode(this.genctrl).softwareErrorInterrupt !== 0;
  }

  get haltInterrupt(): boolean {
    return Genctrl.decode(this.genctrl).haltInterrupt !== 0;
  }

  /** Whether GRPCFG says queue `wq` is in `group`. */
  groupHasQueue(group: number, wq: number): boolean {
    const word = this.grpcfg[group * GROUP_WORDS + Grpcfg.WQ_BITMAP / 4 + (wq >>> 5)] ?? 0;
    return ((word >>> (wq & 31)) & 1) === 1;
  }

  groupHasEngine(group: number, engine: number): boolean {
    const word = this.grpcfg[group * GROUP_WORDS + Grpcfg.ENGINE_BITMAP / 4 + (engine >>> 5)] ?? 0;
    return ((word >>> (engine & 31)) & 1) === 1;
  }

  groupFlags(group: number): bigint {
    const at = group * GROUP_WORDS + Grpcfg.FLAGS / 4;
    return BigInt(this.grpcfg[at] ?? 0) | (BigInt(this.grpcfg[at + 1] ?? 0) << 32n);
  }

  /**
   * Whether a descriptor of `pasid` (or none) may raise MSI-X vector `handle`: the permission entry
   * names the same PASID, or says to ignore it.
   */
  interruptAllowed(handle: number, pasid: number): boolean {
    if (handle >= this.caps.msixVectors) return false;
    const word = this.permissions[(handle * MSIX_PERMISSION_BYTES) / 4] ?? 0;
    const entry = MsixPermission.decode(word);
    if (entry.ignore !== 0) return true;
    return entry.pasidEnable !== 0 ? entry.pasid === pasid : pasid < 0;
  }

  /** Whether some descriptor that matches waits in a queue or is with an engine. */
  busy(matches: (work: Work) => boolean): boolean {
    if (this.engines.some((engine) => engine.work !== null && matches(engine.work))) return true;
    return this.queues.some((queue) => queue.has(matches));
  }

  /** Discards what matches. What has a slice in flight stays until that has landed. */
  abort(matches: (work: Work) => boolean): void {
    for (const queue of this.queues) queue.discard(matches);
    for (const engine of this.engines) {
      if (engine.work !== null && matches(engine.work)) engine.abort();
    }
  }

  /** Every queue off and the device disabled, with the configuration as it is. */
  disable(): void {
    this.state = DeviceState.DISABLED;
    for (const queue of this.queues) queue.state = WqState.DISABLED;
    for (const engine of this.engines) engine.group = -1;
  }

  /** Configuration to its reset values. */
  clearConfig(): void {
    this.gencfg = 0;
    this.genctrl = 0;
    this.grpcfg.fill(0);
    this.permissions.fill(0);
    for (const queue of this.queues) queue.clearConfig();
  }

  /** Power-on values; what was queued is gone. */
  reset(): void {
    for (const queue of this.queues) queue.discard(() => true);
    for (const engine of this.engines) engine.reset();
    this.disable();
    this.clearConfig();
    this.intcause = 0;
    this.resetType = ResetType.SOFTWARE;
  }

  /** INTCAUSE is write 1 to clear. */
  clearCauses(bits: number): void {
    this.intcause = (this.intcause & ~(bits & Intcause.ALL)) >>> 0;
  }
}
