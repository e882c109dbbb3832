import { FILESHARE_WINDOW_BYTES } from '../devices/spec/fileshare.ts';
import { CAP, ECAP } from '../devices/spec/vtd/registers.ts';
import type { Sanitizer } from '../devices/vtd/sanitizer/sanitizer.ts';
import type { Syscalls, Task } from '../host/syscall.ts';
import { IOMMU_HW_CAP_PCI_PASID_EXEC, IOMMU_HW_CAP_PCI_PASID_PRIV } from '../host/uapi/iommufd.ts';
import { vmm as ev } from '../trace/catalogue/vmm.ts';
import type { Tracer } from '../trace/tracer.ts';
import { BarAllocator } from './bar-windows.ts';
import { writeFirmware } from './boot.ts';
import type { VmmBug } from './bugs.ts';
import type { VmExit } from './exit.ts';
import { Exits } from './exits.ts';
import { FileShare } from './fileshare.ts';
import { GuestMemory } from './guest-memory.ts';
import { Heap, mapAnonymous } from './heap.ts';
import { HostBridge } from './host-bridge.ts';
import { InterruptSink } from './interrupt-sink.ts';
import type { HwInfo } from './iommufd.ts';
import { Iommufd } from './iommufd.ts';
import { GUEST_RID, LAYOUT, MIN_RAM_BYTES, ramRanges } from './layout.ts';
import { MemoryMap } from './memory-map.ts';
import { PciBus } from './pci-bus.ts';
import type { SysError } from './sys-error.ts';
import { Teardown } from './teardown.ts';
import { Event, Threads } from './threads.ts';
import { Vcpu } from './vcpu.ts';
import { VfioDevice } from './vfio-device.ts';
import { VfioPci } from './vfio-pci.ts';
import { guestCapabilities } from './viommu/capabilities.ts';
import { VirtualUnit } from './viommu/unit.ts';

export interface VmmOptions {
  /** 'vm0': in traces, and the trace space of the virtual unit's queues. */
  readonly name: string;
  /** A multiple of 4096, at least 2 MiB. */
  readonly ramBytes: number;
  /** '/dev/vfio/devices/vfio0' */
  readonly device: string;
  readonly commandLine: string;
  /** The file that the file share shows. */
  readonly input: Uint8Array;
  /** How many output files the guest may write. */
  readonly outputs: number;
  readonly trace: Tracer;
  /** The guest: what runs on the vCPU. Its return value is its exit code. */
  readonly guest: (cpu: Vcpu) => Generator<VmExit, number, bigint>;
  /** The host CPU's time stamp counter in virtual nanoseconds; without it the guest's stands still. */
  readonly now?: () => number;
  /** Guest RAM is mapped in 4 KiB pages only. */
  readonly smallPages?: boolean | undefined;
  /** Guest RAM is unmapped before the device is detached, as a VMM in another order may do it. */
  readonly unmapFirst?: boolean | undefined;
  /** Watches the virtual unit, whose function has that requester id on the host. */
  readonly sanitize?: { readonly sanitizer: Sanitizer; readonly hostRid: number } | undefined;
  /** Mistakes to make on purpose (`bugs.ts`). */
  readonly bugs?: ReadonlySet<VmmBug> | undefined;
}

export interface VmmResult {
  /** The guest's exit code; 255 when it crashed. */
  readonly code: number;
  /** Output files; null for one that was never written. */
  readonly outputs: (Uint8Array | null)[];
  readonly vmExits: number;
  /** What escaped from the guest's code, when it crashed. */
  readonly crash?: unknown;
}

const NO_BUGS: ReadonlySet<VmmBug> = new Set();
const HEAP_BYTES = 0x10_0000;
const CODE_CRASHED = 255;

/**
 * One virtual machine from power-on to power-off, as a program of the host: it opens the device in
 * QEMU's order (dsa-vfio.md 5.6), runs the guest and gives everything back.
 *
 * @throws SysError naming the call, when the host refuses the machine; RangeError for options
 * that no machine can have. Nothing the guest does makes it throw.
 */
export function* runVmm(sys: Syscalls, options: VmmOptions): Task<VmmResult> {
  if (options.ramBytes < MIN_RAM_BYTES || options.ramBytes % 4096 !== 0) {
    throw new RangeError(`guest RAM of ${options.ramBytes} bytes: at least 2 MiB, whole pages`);
  }
  const { name, trace } = options;
  const teardown = new Teardown();
  const refused = (what: string, error: SysError): void => {
    if (trace.on) trace.emit(ev.refused, { vm: name, what, error: error.message });
  };
  const heap = yield* Heap.map(sys, HEAP_BYTES);
  teardown.defer('munmap heap', () => heap.unmap(sys));
  let code = CODE_CRASHED;
  let cause = trace.cause;
  try {
    const started = { vm: name, pid: sys.pid, ramBytes: options.ramBytes, device: options.device };
    using _span = trace.span(ev.start, started);
    ({ cause } = trace);
    const machine = yield* assemble(sys, options, heap, teardown, refused);
    const exits = new Exits({ name, memory: sys.memory, trace, ...machine });
    const ran = yield* runGuest(exits, options.guest(machine.vcpu));
    ({ code } = ran);
    // What the guest did last: it powered off.
    ({ cause } = trace);
    const outputs = machine.fileShare.results();
    return { ...ran, outputs, vmExits: exits.count };
  } finally {
    trace.cause = cause;
    using _span = trace.span(ev.stop, { vm: name, code });
    yield* teardown.run(refused);
  }
}

/** A guest whose code fails ends like one that triple-faults; the VMM goes on to take it apart. */
function* runGuest(
  exits: Exits,
  guest: Generator<VmExit, number, bigint>,
): Task<{ code: number; crash?: unknown }> {
  try {
    return { code: yield* exits.run(guest) };
  } catch (crash) {
    return { code: CODE_CRASHED, crash };
  }
}

interface Machine {
  readonly map: MemoryMap;
  readonly vcpu: Vcpu;
  readonly interrupts: InterruptSink;
  readonly fileShare: FileShare;
}

/** The host's objects for the machine. */
interface Backend {
  readonly iommufd: Iommufd;
  readonly device: VfioDevice;
  readonly deviceId: number;
  readonly hw: HwInfo;
  readonly parent: number;
  readonly faultQueue: { readonly id: number; readonly fd: number };
  /** Call it when the virtual unit has taken charge of the RID's attachment. */
  readonly ridTaken: () => void;
  /** Unmaps guest RAM when the VMM is taken apart, before all that is registered so far. */
  readonly unmapSooner: () => void;
}

function* assemble(
  sys: Syscalls,
  options: VmmOptions,
  heap: Heap,
  teardown: Teardown,
  refused: (what: string, error: SysError) => void,
): Task<Machine> {
  const { name, trace, now = (): number => 0 } = options;
  const map = new MemoryMap();
  const backend = yield* openBackend(sys, options, heap, map, teardown);
  const { iommufd, device, deviceId, hw, parent, faultQueue } = backend;
  const capabilities = guestCapabilities(hw);
  const memory = new GuestMemory(map, sys.memory);
  const cap = CAP.decode([capabilities.cap]);
  const features = { la57: cap.FS5LP === 1, gbpages: cap.FS1GP === 1, enqcmd: true };
  const { sanitize, bugs = NO_BUGS } = options;
  const freed = sanitize && ((gpa: number): void => sanitize.sanitizer.guestFreed(name, gpa));
  const vcpu = new Vcpu({ name, map, memory: sys.memory, features, now, trace, freed });
  const kick = yield* Event.create(sys, heap);
  teardown.defer('close kick', () => kick.close());
  const interrupts = new InterruptSink(name, vcpu.interrupts, kick, trace);

  const maxPasids = capabilities.pasidBits === 0 ? 1 : 2 ** capabilities.pasidBits;
  const host = { name, trace, iommufd, device, deviceId, parent, maxPasids, bugs };
  const unit = new VirtualUnit({
    sys,
    heap,
    host: { ...host, faultQueue: faultQueue.id },
    capabilities,
    memory,
    interrupts,
    now,
    rid: GUEST_RID.DEVICE,
    faultFd: faultQueue.fd,
    sanitize,
  });
  teardown.defer('detach', () => unit.release());
  backend.ridTaken();
  map.add({ kind: 'trap', start: LAYOUT.VTD, bytes: unit.bytes, handler: unit });

  const bars = new BarAllocator();
  const has = (bit: number): boolean => (hw.capabilities & BigInt(bit)) !== 0n;
  const assigned = yield* VfioPci.create({
    sys,
    heap,
    device,
    rid: GUEST_RID.DEVICE,
    map,
    bars,
    pasid: {
      bits: capabilities.pasidBits,
      exec: has(IOMMU_HW_CAP_PCI_PASID_EXEC),
      priv: has(IOMMU_HW_CAP_PCI_PASID_PRIV),
    },
    deliver: (vector, address, data) =>
      unit.deviceInterrupt(() => `MSI-X ${vector}`, address, data),
    refused,
  });
  teardown.defer('release device', () => assigned.release());
  const fileShare = yield* addFileShare(sys, options, map, bars, teardown);
  addBus(map, [new HostBridge(GUEST_RID.HOST_BRIDGE), assigned, fileShare]);

  writeFirmware(memory, {
    functions: [GUEST_RID.DEVICE, GUEST_RID.FILE_SHARE],
    atsFunctions: assigned.hasAts ? [GUEST_RID.DEVICE] : [],
    registerBytes: unit.bytes,
    interruptRemapping: ECAP.decode([capabilities.ecap]).IR === 1,
    ramBytes: options.ramBytes,
    commandLine: options.commandLine,
  });
  if (options.unmapFirst === true) backend.unmapSooner();
  const threads = yield* Threads.create(sys, heap);
  teardown.defer('stop threads', () => threads.stop());
  yield* threads.watch(`${name}/prq`, [unit.faultSource()]);
  const wakeUp = (): Task => interrupts.wakeUp();
  yield* threads.watch(`${name}/irq`, assigned.interruptSources(wakeUp));
  return { map, vcpu, interrupts, fileShare };
}

/** Opens, binds, maps guest RAM and attaches the function to it. */
function* openBackend(
  sys: Syscalls,
  options: VmmOptions,
  heap: Heap,
  map: MemoryMap,
  teardown: Teardown,
): Task<Backend> {
  const iommufd = yield* Iommufd.open(sys, heap);
  teardown.defer('close /dev/iommu', () => iommufd.close());
  const device = yield* VfioDevice.open(sys, heap, options.device);
  teardown.defer('close device', () => device.close());
  const deviceId = yield* device.bind(iommufd.fd);
  const ioas = yield* iommufd.allocIoas();
  teardown.defer('destroy IOAS', () => iommufd.destroy(ioas));
  const { ramBytes } = options;
  if (options.smallPages === true) yield* iommufd.smallPages(ioas);
  let hva = yield* mapAnonymous(sys, ramBytes);
  const base = hva;
  const ram: { unmap: () => Task; cancel: () => void }[] = [];
  teardown.defer('munmap guest RAM', function* unmapRam(): Task {
    yield* sys.munmap(base, ramBytes);
  });
  for (const { start, bytes } of ramRanges(ramBytes)) {
    map.add({ kind: 'ram', start, bytes, hva });
    yield* iommufd.map(ioas, start, hva, bytes);
    const unmap = (): Task => iommufd.unmap(ioas, start, bytes);
    ram.push({ unmap, cancel: teardown.defer('unmap guest RAM', unmap) });
    hva += bytes;
  }
  const hw = yield* iommufd.hwInfo(deviceId);
  const parent = yield* iommufd.allocParent(deviceId, ioas);
  teardown.defer('destroy parent HWPT', () => iommufd.destroy(parent));
  const faultQueue = yield* iommufd.allocFaultQueue();
  teardown.defer('destroy fault queue', () => iommufd.destroy(faultQueue.id));
  teardown.defer('close fault queue', function* closeQueue(): Task {
    yield* sys.close(faultQueue.fd);
  });
  yield* device.attach(0, parent);
  const ridTaken = teardown.defer('detach RID', () => device.detach(0));
  const unmapSooner = (): void => {
    for (const { unmap, cancel } of ram) {
      cancel();
      teardown.defer('unmap guest RAM', unmap);
    }
  };
  return { iommufd, device, deviceId, hw, parent, faultQueue, ridTaken, unmapSooner };
}

function* addFileShare(
  sys: Syscalls,
  options: VmmOptions,
  map: MemoryMap,
  bars: BarAllocator,
  teardown: Teardown,
): Task<FileShare> {
  const { input, outputs } = options;
  const window = yield* mapAnonymous(sys, FILESHARE_WINDOW_BYTES);
  teardown.defer('munmap file window', function* unmapWindow(): Task {
    yield* sys.munmap(window, FILESHARE_WINDOW_BYTES);
  });
  const rid = GUEST_RID.FILE_SHARE;
  return new FileShare({ rid, map, memory: sys.memory, window, input, outputs, bars });
}

function addBus(map: MemoryMap, functions: readonly Parameters<PciBus['add']>[0][]): void {
  const bus = new PciBus();
  for (const fn of functions) bus.add(fn);
  map.add({ kind: 'trap', start: LAYOUT.ECAM, bytes: bus.bytes, handler: bus });
}
