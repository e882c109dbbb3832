import { DsaPci } from '../devices/spec/dsa/registers.ts';
import {
  BAR_COUNT,
  CONFIG_SPACE_BYTES,
  MsixCap,
  PciBar,
  PciCommand,
  PciHeader,
  PriCap,
} from '../devices/spec/pci.ts';
import type { Syscalls, Task } from '../host/syscall.ts';
import { EFD_NONBLOCK } from '../host/uapi/poll.ts';
import {
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_REGION_INFO_FLAG_MMAP,
} from '../host/uapi/vfio.ts';
import type { BarAllocator } from './bar-windows.ts';
import { BarWindows } from './bar-windows.ts';
import { allOnes } from './exit.ts';
import type { Heap } from './heap.ts';
import type { MemoryMap } from './memory-map.ts';
import { Msix } from './msix.ts';
import type { GuestPciFunction } from './pci-bus.ts';
import { EmulatedConfig } from './pci-config.ts';
import { SysError } from './sys-error.ts';
import type { PollSource } from './threads.ts';
import { Event } from './threads.ts';
import type { Place } from './trapped-bar.ts';
import { TrappedBar } from './trapped-bar.ts';
import type { CapabilityOffsets, PasidOffer } from './vfio-config.ts';
import { asksForReset, overlayConfig, resetConfig, settlePri } from './vfio-config.ts';
import type { Region, VfioDevice } from './vfio-device.ts';

export interface VfioPciOptions {
  readonly sys: Syscalls;
  readonly heap: Heap;
  readonly device: VfioDevice;
  readonly rid: number;
  readonly map: MemoryMap;
  readonly bars: BarAllocator;
  readonly pasid: PasidOffer;
  /** A message of the function on its way to the guest's interrupt controller. */
  readonly deliver: (vector: number, address: number, data: number) => void;
  /** Something failed on the guest's behalf. */
  readonly refused: (what: string, error: SysError) => void;
}

const CONFIG_BYTES = CONFIG_SPACE_BYTES;

/** An assigned PCI function: config space, BARs and MSI-X of a VFIO device as the guest sees them. */
export class VfioPci implements GuestPciFunction {
  readonly rid: number;
  readonly #options: VfioPciOptions;
  readonly #device: VfioDevice;
  readonly #config = new EmulatedConfig();
  readonly #windows: BarWindows;
  readonly #events: Event[] = [];
  readonly #mappings: { readonly address: number; readonly bytes: number }[] = [];
  #configRegion: Region = { index: 0, flags: 0, size: 0, offset: 0 };
  #capabilities: CapabilityOffsets = { msix: 0, pcie: 0, ats: 0, pri: 0, pasid: 0 };
  #msix: Msix;
  #decode = false;

  private constructor(options: VfioPciOptions) {
    this.rid = options.rid;
    this.#options = options;
    this.#device = options.device;
    this.#windows = new BarWindows(options.map);
    this.#msix = this.#newMsix(0);
  }

  /** Reads the device's regions and config space, maps BARs and places them. @throws SysError */
  static *create(options: VfioPciOptions): Task<VfioPci> {
    const fn = new VfioPci(options);
    yield* fn.#discover();
    return fn;
  }

  get hasAts(): boolean {
    return this.#capabilities.ats !== 0;
  }

  /** One source per MSI-X vector: its eventfd, and how to raise it in the guest. */
  interruptSources(after: () => Task): PollSource[] {
    return this.#events.map((event, vector) => ({
      fd: event.fd,
      handle: (): Task => this.#vector(event, vector, after),
    }));
  }

  /** Disables interrupts and gives up mappings and eventfds. */
  *release(): Task {
    yield* this.#msix.reset();
    this.#windows.update(false, () => 0);
    const { sys } = this.#options;
    for (const { address, bytes } of this.#mappings.splice(0)) yield* sys.munmap(address, bytes);
    for (const event of this.#events.splice(0)) yield* event.close();
  }

  *configRead(offset: number, size: number): Task<number> {
    if (this.#config.covers(offset, size)) return this.#config.get(offset, size);
    const device = yield* this.#device.read(this.#configRegion, offset, size);
    return this.#config.read(offset, size, Number(device ?? allOnes(size)));
  }

  *configWrite(offset: number, size: number, value: number): Task {
    const { pcie, msix, pri } = this.#capabilities;
    if (asksForReset(pcie, offset, size, value)) {
      yield* this.#reset();
      return;
    }
    const touches = (at: number, bytes: number): boolean =>
      offset < at + bytes && at < offset + size;
    const isCommand = touches(PciHeader.COMMAND, 2);
    this.#config.write(offset, size, value);
    if (!this.#config.covers(offset, size)) {
      yield* this.#device.write(this.#configRegion, offset, size, BigInt(value));
    }
    if (isCommand) yield* this.#readCommand();
    if (isCommand || touches(PciHeader.BAR0, 4 * BAR_COUNT)) this.#updateBars();
    if (pri !== 0 && offset === pri + PriCap.CONTROL) settlePri(this.#config, pri, value);
    if (msix !== 0 && touches(msix + MsixCap.CONTROL, 2)) {
      yield* this.#msix.setControl(this.#config.get(msix + MsixCap.CONTROL, 2));
    }
  }

  *#discover(): Task {
    yield* this.#device.info();
    const regions: Region[] = [];
    for (let bar = 0; bar < BAR_COUNT; bar++) regions.push(yield* this.#device.region(bar));
    this.#configRegion = yield* this.#device.region(VFIO_PCI_CONFIG_REGION_INDEX);
    const initial = new Uint8Array(CONFIG_BYTES);
    const shown = Math.min(CONFIG_BYTES, this.#configRegion.size);
    initial.set((yield* this.#device.readAll(this.#configRegion, shown)).subarray(0, CONFIG_BYTES));
    this.#capabilities = overlayConfig(this.#config, initial, this.#options.pasid);
    const view = new DataView(initial.buffer);
    const table = this.#msixPlace(view, MsixCap.TABLE);
    const pba = this.#msixPlace(view, MsixCap.PBA);
    if (this.#capabilities.msix !== 0) yield* this.#createVectors();
    const isDsa =
      view.getUint16(PciHeader.VENDOR_ID, true) === DsaPci.VENDOR_ID &&
      view.getUint16(PciHeader.DEVICE_ID, true) === DsaPci.DEVICE_ID;
    for (const region of regions) {
      if (region.size === 0) continue;
      const flags = view.getUint8(PciHeader.BAR0 + 4 * region.index) & PciBar.MEMORY_FLAGS_MASK;
      this.#config.defineBar(
        region.index,
        region.size,
        flags,
        this.#options.bars.take(region.size),
      );
      const holdsTable = table.bar === region.index || pba.bar === region.index;
      if (!holdsTable && (region.flags & VFIO_REGION_INFO_FLAG_MMAP) !== 0) {
        yield* this.#mapBar(region);
      } else {
        const handler = new TrappedBar(this.#device, region, this.#msix, { table, pba, isDsa });
        const place = { kind: 'trap', bytes: region.size, handler } as const;
        this.#windows.define(region.index, (start) => ({ ...place, start }));
      }
    }
    yield* this.#readCommand();
    this.#updateBars();
  }

  *#mapBar(region: Region): Task {
    const hva = yield* this.#device.mmap(region);
    this.#mappings.push({ address: hva, bytes: region.size });
    const place = { kind: 'device', bytes: region.size, hva } as const;
    this.#windows.define(region.index, (start) => ({ ...place, start }));
  }

  #msixPlace(view: DataView, register: number): Place {
    const { msix } = this.#capabilities;
    if (msix === 0) return { bar: -1, offset: 0 };
    const value = view.getUint32(msix + register, true);
    return { bar: value & MsixCap.BIR_MASK, offset: (value & ~MsixCap.BIR_MASK) >>> 0 };
  }

  *#createVectors(): Task {
    const vectors = yield* this.#device.irqCount(VFIO_PCI_MSIX_IRQ_INDEX);
    const { sys, heap } = this.#options;
    for (let i = 0; i < vectors; i++)
      this.#events.push(yield* Event.create(sys, heap, EFD_NONBLOCK));
    this.#msix = this.#newMsix(vectors);
  }

  #newMsix(vectors: number): Msix {
    const arm = (enabled: boolean): Task => this.#arm(enabled);
    return new Msix({ vectors, deliver: this.#options.deliver, arm });
  }

  *#arm(enabled: boolean): Task {
    const fds = enabled ? this.#events.map((event) => event.fd) : [];
    try {
      yield* this.#device.setMsix(fds);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#options.refused(enabled ? 'MSI-X enable' : 'MSI-X disable', error);
    }
  }

  *#vector(event: Event, vector: number, after: () => Task): Task {
    yield* event.wait();
    this.#msix.fire(vector);
    yield* after();
  }

  *#reset(): Task {
    try {
      yield* this.#device.reset();
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      this.#options.refused('function level reset', error);
      return;
    }
    resetConfig(this.#config, this.#capabilities);
    yield* this.#device.write(this.#configRegion, PciHeader.COMMAND, 2, 0n);
    yield* this.#msix.reset();
    yield* this.#readCommand();
    this.#updateBars();
  }

  *#readCommand(): Task {
    const command = yield* this.#device.read(this.#configRegion, PciHeader.COMMAND, 2);
    this.#decode = (Number(command ?? 0n) & PciCommand.MEMORY) !== 0;
  }

  #updateBars(): void {
    this.#windows.update(this.#decode, (bar) => this.#config.barAddress(bar));
  }
}
