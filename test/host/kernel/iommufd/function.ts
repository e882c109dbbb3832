import { AtsCapability, PasidCapability, PriCapability } from '../../../../devices/pci/ats.ts';
import { ConfigSpace } from '../../../../devices/pci/config-space.ts';
import type { Fabric, PciFunction } from '../../../../devices/pci/fabric.ts';
import { MsixTable } from '../../../../devices/pci/msix.ts';
import { addPcieCapability } from '../../../../devices/pci/pcie.ts';

export const BAR0_BYTES = 0x10000;
export const TABLE = 0x2000;
export const VECTORS = 4;

/** A function with every capability, plain memory behind BAR0, and a short BAR4. */
export class TestFunction implements PciFunction {
  readonly rid: number;
  readonly config: ConfigSpace;
  readonly msix: MsixTable;
  /** BAR0 but for the MSI-X table, which is at TABLE. */
  readonly memory = new Uint8Array(BAR0_BYTES);
  /** Accesses to BAR0 outside the table, `r8@0x10`. */
  readonly log: string[] = [];
  resets = 0;

  constructor(rid: number, fabric: Fabric, options: { flr?: boolean } = {}) {
    this.rid = rid;
    this.config = new ConfigSpace({
      vendor: 0x8086,
      device: 0x0b25,
      revision: 1,
      classCode: 0x088000,
      bars: [
        { bar: 0, bytes: BAR0_BYTES, is64: true, prefetchable: false },
        { bar: 2, bytes: 0x4000, is64: true, prefetchable: true },
        { bar: 4, bytes: 0x100, is64: true, prefetchable: false },
      ],
    });
    const { config } = this;
    if (options.flr !== false) addPcieCapability(config, 0x40, () => this.reset());
    this.msix = new MsixTable({
      config,
      capOffset: 0x80,
      vectors: VECTORS,
      bar: 0,
      tableOffset: TABLE,
      pbaOffset: 0x3000,
      send: (_vector, address, data) => fabric.msi(rid, address, data),
    });
    // A conventional capability that VFIO does not know.
    config.addCapability(0x09, 0x90);
    config.define({ offset: 0x92, size: 2, reset: 0xabcd });
    new AtsCapability(config, 0x100, () => undefined);
    new PasidCapability(config, 0x110, 20, () => undefined);
    new PriCapability(config, 0x120, 64, {
      outstanding: () => 0,
      changed: () => undefined,
      reset: () => undefined,
    });
  }

  configRead(offset: number, size: 1 | 2 | 4): number {
    return this.config.read(offset, size);
  }

  configWrite(offset: number, size: 1 | 2 | 4, value: number): void {
    this.config.write(offset, size, value);
  }

  barSize(bar: number): number {
    return this.config.barSize(bar);
  }

  barRead(bar: number, offset: number, size: number): bigint {
    if (bar === 0 && this.msix.owns(offset)) return BigInt(this.msix.readDword(offset));
    this.log.push(`r${size}@0x${offset.toString(16)}`);
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.memory[offset + i]!);
    return value;
  }

  barWrite(bar: number, offset: number, size: number, value: bigint): void {
    if (bar === 0 && this.msix.owns(offset)) {
      this.msix.writeDword(offset, Number(value));
      return;
    }
    this.log.push(`w${size}@0x${offset.toString(16)}`);
    for (let i = 0; i < size; i++)
      this.memory[offset + i] = Number((value >> BigInt(8 * i)) & 0xffn);
  }

  barWrite64(): void {
    throw new Error('no portal');
  }

  barEnqueue(): boolean {
    return false;
  }

  invalidate(): void {
    throw new Error('no unit sends invalidations here');
  }

  pageGroupResponse(): void {
    throw new Error('no unit sends responses here');
  }

  reset(): void {
    this.resets++;
    this.memory.fill(0);
    this.config.reset();
    this.msix.reset();
  }
}
