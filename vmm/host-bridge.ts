import { PciHeader } from '../devices/spec/pci.ts';
import type { Task } from '../host/syscall.ts';
import type { GuestPciFunction } from './pci-bus.ts';
import { EmulatedConfig } from './pci-config.ts';

/** Q35's memory controller hub, as guests know it from QEMU. */
const VENDOR = 0x8086;
const DEVICE = 0x29c0;
const CLASS_HOST_BRIDGE = 0x06_0000;

/** The host bridge at 00:00.0: identity only. */
export class HostBridge implements GuestPciFunction {
  readonly rid: number;
  readonly #config = new EmulatedConfig();

  constructor(rid: number) {
    this.rid = rid;
    this.#config.define(PciHeader.VENDOR_ID, 2, VENDOR);
    this.#config.define(PciHeader.DEVICE_ID, 2, DEVICE);
    this.#config.define(PciHeader.CLASS, 3, CLASS_HOST_BRIDGE);
  }

  *configRead(offset: number, size: number): Task<number> {
    return this.#config.read(offset, size, 0);
  }

  *configWrite(offset: number, size: number, value: number): Task {
    this.#config.write(offset, size, value);
  }
}
