import { CmdError, Gencap, Grpcap, Wqcap } from '../spec/dsa/registers.ts';
import { GrpcfgFlags, type WqConfig, WqState } from '../spec/dsa/tables.ts';
import type { DsaState } from './state.ts';
import type { WorkQueue } from './work-queue.ts';

/** What configuration space says at the time of a command. */
export interface PciControls {
  readonly busMaster: () => boolean;
  readonly pasidEnabled: () => boolean;
  readonly privilegedEnabled: () => boolean;
}

/** CMDSTS error of Enable Device, 0 if the configuration will do. */
export function checkDevice(state: DsaState, pci: PciControls): number {
  if (state.enabled) return CmdError.DEVICE_ALREADY_ENABLED;
  if (!pci.busMaster()) return CmdError.BUS_MASTER_DISABLED;
  const sizes = state.queues.reduce((sum, queue) => sum + queue.written().size, 0);
  if (sizes > state.caps.totalWqSize) return CmdError.WQ_SIZES_OUT_OF_RANGE;
  return checkGroups(state);
}

function checkGroups(state: DsaState): number {
  const { caps, queues, engines } = state;
  const groups = Array.from({ length: caps.groupCount }, (_, group) => group);
  const count = (has: (group: number) => boolean): number => groups.filter(has).length;
  const shared =
    queues.some((queue) => count((group) => state.groupHasQueue(group, queue.index)) > 1) ||
    engines.some((engine) => count((group) => state.groupHasEngine(group, engine.index)) > 1);
  if (shared) return CmdError.GROUP_MEMBERSHIP;
  const incomplete = groups.some(
    (group) =>
      queues.some((queue) => state.groupHasQueue(group, queue.index)) !==
      engines.some((engine) => state.groupHasEngine(group, engine.index)),
  );
  if (incomplete) return CmdError.GROUP_INCOMPLETE;
  const flags = groups.map((group) => GrpcfgFlags.decode(state.groupFlags(group)));
  const { readBuffers, globalReadBufferLimit } = Grpcap.decode(caps.grpcap);
  const reserved = flags.reduce((sum, group) => sum + group.readBuffersReserved, 0);
  if (reserved > readBuffers) return CmdError.GROUP_READ_BUFFERS;
  const wantsLimit = flags.some((group) => group.useGlobalReadBufferLimit !== 0);
  return wantsLimit && globalReadBufferLimit === 0 ? CmdError.GROUP_FLAGS : CmdError.SUCCESS;
}

/** Takes the groups over as GRPCFG has them, when the device is enabled. */
export function applyGroups(state: DsaState): void {
  const groupOf = (has: (group: number) => boolean): number => {
    for (let group = 0; group < state.caps.groupCount; group++) if (has(group)) return group;
    return -1;
  };
  for (const queue of state.queues) {
    queue.group = groupOf((group) => state.groupHasQueue(group, queue.index));
  }
  for (const engine of state.engines) {
    engine.group = groupOf((group) => state.groupHasEngine(group, engine.index));
  }
}

/** CMDSTS error of Enable WQ, 0 if its configuration will do. */
export function checkQueue(state: DsaState, queue: WorkQueue, pci: PciControls): number {
  if (queue.state !== WqState.DISABLED) return CmdError.WQ_ALREADY_ENABLED;
  if (queue.group < 0) return CmdError.CONFIGURATION_ERROR;
  const config = queue.written();
  const wqcap = Wqcap.decode(state.caps.wqcap);
  const gencap = Gencap.decode(state.caps.gencap);
  if (!hasValidSize(state, config)) return CmdError.WQ_SIZE;
  if (config.priority === 0) return CmdError.WQ_PRIORITY;
  const supported = config.dedicated !== 0 ? wqcap.dedicatedMode : wqcap.sharedMode;
  if (supported === 0) return CmdError.WQ_MODE;
  if (config.blockOnFault !== 0 && gencap.blockOnFault === 0) return CmdError.WQ_BLOCK_ON_FAULT;
  if (config.pasidEnable !== 0 && !pci.pasidEnabled()) return CmdError.WQ_PASID_ENABLE;
  const wantsPrivilege = config.dedicated !== 0 && config.privileged !== 0;
  if (wantsPrivilege && config.pasidEnable !== 0 && !pci.privilegedEnabled()) {
    return CmdError.WQ_PASID_ENABLE;
  }
  if (config.maxBatchShift > gencap.maxBatchShift) return CmdError.WQ_MAX_BATCH;
  if (config.maxTransferShift > gencap.maxTransferShift) return CmdError.WQ_MAX_TRANSFER;
  return CmdError.SUCCESS;
}

/** A queue holds something, and so does its limited portal; all enabled ones fit the device. */
function hasValidSize(state: DsaState, config: WqConfig): boolean {
  if (config.size === 0) return false;
  if (config.dedicated === 0 && (config.threshold === 0 || config.threshold > config.size)) {
    return false;
  }
  const taken = state.queues
    .filter((queue) => queue.state !== WqState.DISABLED)
    .reduce((sum, queue) => sum + queue.config.size, 0);
  return taken + config.size <= state.caps.totalWqSize;
}
