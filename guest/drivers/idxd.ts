/** The accelerator driver: probe, configuration, and the work queue as a character device (idxd). */
import {
  CmdError,
  DeviceState,
  DsaCommand,
  DsaPci,
  DsaReg,
  Engcap,
  Gencap,
  Gencfg,
  Genctrl,
  Gensts,
  OFFSETS_UNIT,
  Offsets0,
  Wqcap,
  wqMaskOperand,
} from '../../devices/spec/dsa/registers.ts';
import {
  encodeWqcfg,
  Grpcfg,
  GrpcfgFlags,
  MSIX_PERMISSION_BYTES,
  MsixPermission,
  PORTAL_BYTES,
  portalBarBytes,
  portalOffset,
  WQCFG_WORDS,
} from '../../devices/spec/dsa/tables.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import type { Core } from '../core.ts';
import { GuestError } from '../errno.ts';
import type { IntelIommu } from '../iommu/iommu.ts';
import type { SvaHandle } from '../iommu/iommu-sva.ts';
import type { IommuDevice } from '../iommu/unit.ts';
import type { AddressSpace } from '../mm/mm.ts';
import type { PciFunction } from '../pci.ts';
import { type Task, WaitQueue, waitOn } from '../task.ts';
import { IdxdDevice } from './idxd-device.ts';

/** The one work queue, shared, and its share of the device's entries. */
const WQ = 0;
const WQ_PRIORITY = 10;
const MAX_WQ_SIZE = 64;
/** Traffic classes of DSA 1.0 as Linux sets them. */
const TRAFFIC_CLASS = 1;
/** MSI-X vectors: device events, and completions of the work queue. */
const COMPLETION_VECTOR = 1;

/** What a program may know of the work queue (sysfs attributes). */
export interface WqAttributes {
  readonly maxTransferBytes: number;
  readonly size: number;
  readonly blockOnFault: boolean;
  /** Handle a descriptor may name to have an interrupt at completion. */
  readonly interruptHandle: number;
}

/** An open work queue: the process's bind. */
export interface WqFile {
  readonly mm: AddressSpace;
  readonly sva: SvaHandle;
}

interface Tables {
  readonly grpcfg: number;
  readonly wqcfg: number;
  readonly permissions: number;
}

export class Idxd {
  readonly attributes: WqAttributes;
  readonly #completions: WaitQueue;
  readonly #device: IdxdDevice;
  readonly #iommu: IntelIommu;
  readonly #iommuDevice: IommuDevice;
  readonly #portal: number;

  private constructor(
    device: IdxdDevice,
    iommu: IntelIommu,
    iommuDevice: IommuDevice,
    wq: { portal: number; attributes: WqAttributes; completions: WaitQueue },
  ) {
    this.#device = device;
    this.#iommu = iommu;
    this.#iommuDevice = iommuDevice;
    this.#portal = wq.portal;
    this.attributes = wq.attributes;
    this.#completions = wq.completions;
  }

  /**
   * Probes the accelerator in the order of idxd_pci_probe and enables it with one shared work queue.
   * Throws GuestError ENODEV, EOPNOTSUPP, EIO, ENOSPC.
   */
  static *probe(core: Core, pci: PciFunction, iommu: IntelIommu): Task<Idxd> {
    yield* pci.enable(true);
    const iommuDevice = yield* iommu.probeDevice(pci);
    const device = new IdxdDevice(core, pci.bar(0, DsaPci.BAR0_BYTES).address);
    const version = yield* device.read32(DsaReg.VERSION);
    yield* device.command(DsaCommand.RESET_DEVICE, 0, false);
    yield* iommu.enablePageRequests(iommuDevice);
    const gencfg = Gencfg.encode({ userInterruptEnable: 1 });
    yield* device.write32(DsaReg.GENCFG, (yield* device.read32(DsaReg.GENCFG)) | gencfg);
    const capabilities = yield* readCapabilities(device);
    const completions = new WaitQueue();
    yield* setUpInterrupts(core, pci, device, completions);
    const attributes = yield* configure(device, capabilities);
    const { state } = Gensts.decode(yield* device.read32(DsaReg.GENSTS));
    if (state !== DeviceState.DISABLED) {
      throw new GuestError('EIO', `${pci.name}: state ${state} after reset`);
    }
    yield* device.command(DsaCommand.ENABLE_DEVICE, 0, true, [CmdError.DEVICE_ALREADY_ENABLED]);
    yield* device.command(DsaCommand.ENABLE_WQ, WQ, true);
    const { wqCount } = capabilities;
    const bar2 = pci.bar(2, portalBarBytes(wqCount)).address;
    const portal = bar2 + portalOffset(WQ, { limited: true });
    const { trace, vm } = core;
    trace.emit(guest.deviceUp, { vm, rid: pci.name, wqs: wqCount, sharedWq: WQ, version });
    return new Idxd(device, iommu, iommuDevice, { portal, attributes, completions });
  }

  /** open(2) of the work queue: binds the address space. Throws what the bind throws. */
  *open(mm: AddressSpace): Task<WqFile> {
    return { mm, sva: yield* this.#iommu.sva.bind(this.#iommuDevice, mm) };
  }

  /** mmap(2): the limited portal, one page. Returns its user address. */
  mapPortal(file: WqFile): number {
    return file.mm.mmap(PORTAL_BYTES, { device: this.#portal, what: 'work queue portal' });
  }

  /**
   * Last close: what the process submitted is drained before its translation goes. The bind ends
   * even when the device fails the drain, which is then thrown: GuestError EIO.
   */
  *close(file: WqFile): Task {
    const { pasid } = file.sva.domain;
    try {
      yield* this.#device.command(DsaCommand.DRAIN_PASID, pasid, true);
    } finally {
      yield* this.#iommu.sva.unbind(file.sva);
    }
  }

  /** At power-off: the work queue and the device are disabled. */
  *shutdown(): Task {
    const operand = wqMaskOperand(WQ);
    yield* this.#device.command(DsaCommand.DISABLE_WQ, operand, true, [CmdError.WQ_NOT_ENABLED]);
    const off = [CmdError.DISABLE_DEVICE_NOT_ENABLED];
    yield* this.#device.command(DsaCommand.DISABLE_DEVICE, 0, true, off);
  }

  /**
   * Sleeps until the next completion interrupt of the work queue, whosever it is. Throws GuestError
   * EIO when the device has an error of this process that no completion record could carry.
   */
  *waitForCompletion(file: WqFile): Task {
    yield* waitOn(this.#completions);
    const error = this.#device.takeSoftwareError(file.sva.domain.pasid);
    if (error !== undefined) throw new GuestError('EIO', `the accelerator reports ${error}`);
  }
}

interface Capabilities {
  readonly gencap: ReturnType<typeof Gencap.decode>;
  readonly engines: number;
  readonly wqCount: number;
  readonly wqSize: number;
  readonly wqStride: number;
  readonly opcap: bigint;
  readonly tables: Tables;
}

function* readCapabilities(device: IdxdDevice): Task<Capabilities> {
  const gencap = Gencap.decode(yield* device.read64(DsaReg.GENCAP));
  yield* device.read64(DsaReg.GRPCAP);
  const { engineCount } = Engcap.decode(yield* device.read64(DsaReg.ENGCAP));
  const wqcap = Wqcap.decode(yield* device.read64(DsaReg.WQCAP));
  let opcap = 0n;
  for (let i = 0; i < 4; i++) {
    opcap |= (yield* device.read64(DsaReg.OPCAP + 8 * i)) << BigInt(64 * i);
  }
  const offsets = Offsets0.decode(yield* device.read64(DsaReg.OFFSETS));
  if (gencap.configEnable === 0 || wqcap.sharedMode === 0 || wqcap.wqCount === 0) {
    throw new GuestError('EOPNOTSUPP', 'the accelerator offers no shared work queue to configure');
  }
  return {
    gencap,
    engines: engineCount,
    wqCount: wqcap.wqCount,
    wqSize: Math.min(wqcap.totalWqSize, MAX_WQ_SIZE),
    wqStride: 32 << wqcap.wqcfgSize,
    opcap: wqcap.opConfig === 1 ? opcap : 0n,
    tables: {
      grpcfg: offsets.grpcfg * OFFSETS_UNIT,
      wqcfg: offsets.wqcfg * OFFSETS_UNIT,
      permissions: offsets.msixPermissions * OFFSETS_UNIT,
    },
  };
}

/** MSI-X vector 0 for device events, vector 1 for completions that any process may ask for. */
function* setUpInterrupts(
  core: Core,
  pci: PciFunction,
  device: IdxdDevice,
  completions: WaitQueue,
): Task {
  const misc = core.interrupts.allocate('idxd-misc', device.onMiscInterrupt);
  const completion = core.interrupts.allocate('idxd-wq0', () => {
    completions.wake();
  });
  yield* pci.enableMsix([misc, completion]);
  device.startMiscThread(completions);
  const both = Genctrl.encode({ softwareErrorInterrupt: 1, haltInterrupt: 1 });
  yield* device.write32(DsaReg.GENCTRL, (yield* device.read32(DsaReg.GENCTRL)) | both);
}

/** Writes the work queue's and its group's configuration. The device is disabled. */
function* configure(device: IdxdDevice, has: Capabilities): Task<WqAttributes> {
  const { gencap, tables, wqSize } = has;
  const blockOnFault = gencap.blockOnFault === 1;
  const words = encodeWqcfg({
    size: wqSize,
    threshold: Math.max(1, wqSize - 1),
    blockOnFault: blockOnFault ? 1 : 0,
    priority: WQ_PRIORITY,
    pasidEnable: 1,
    maxTransferShift: gencap.maxTransferShift,
    maxBatchShift: gencap.maxBatchShift,
    opConfig: has.opcap,
  });
  const used = Math.min(WQCFG_WORDS, has.wqStride / 4);
  for (let i = 0; i < used; i++) {
    const at = tables.wqcfg + WQ * has.wqStride + 4 * i;
    // What reset left there stays, as the driver's shadow copy has it.
    yield* device.write32(at, ((yield* device.read32(at)) | words[i]!) >>> 0);
  }
  const group = tables.grpcfg;
  for (let i = 0; i < 4; i++) {
    yield* device.write64(group + Grpcfg.WQ_BITMAP + 8 * i, i === 0 ? 1n << BigInt(WQ) : 0n);
  }
  yield* device.write64(group + Grpcfg.ENGINE_BITMAP, (1n << BigInt(has.engines)) - 1n);
  const flags = { trafficClassA: TRAFFIC_CLASS, trafficClassB: TRAFFIC_CLASS };
  yield* device.write64(group + Grpcfg.FLAGS, GrpcfgFlags.encode(flags));
  const permission = tables.permissions + COMPLETION_VECTOR * MSIX_PERMISSION_BYTES;
  yield* device.write32(permission, MsixPermission.encode({ ignore: 1 }));
  return {
    maxTransferBytes: 2 ** gencap.maxTransferShift,
    size: wqSize,
    blockOnFault,
    interruptHandle: COMPLETION_VECTOR,
  };
}
