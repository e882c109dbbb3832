/** The fake machine with the modelled accelerator, its bus answered from the guest's own tables. */
import { DsaDevice } from '../../../devices/dsa/dsa.ts';
import {
  type AtsReply,
  type CompletionStatus,
  CPL,
  type Fabric,
} from '../../../devices/pci/fabric.ts';
import { PciHeader } from '../../../devices/spec/pci.ts';
import { VirtualClock } from '../../../host/machine/clock.ts';
import type { FakeCpu } from './cpu.ts';
import { ACCELERATOR_BAR0, ACCELERATOR_BAR2, FakeMachine, type MachineOptions } from './machine.ts';
import type { FakeUnit } from './unit.ts';

const RID = 8;

/** Translations straight from root table, context, PASID entry and first stage: nothing is cached. */
class WalkingFabric implements Fabric {
  readonly #cpu: FakeCpu;
  readonly #unit: FakeUnit;
  device: DsaDevice | null = null;

  constructor(cpu: FakeCpu, unit: FakeUnit) {
    this.#cpu = cpu;
    this.#unit = unit;
  }

  #page(vpn: number, pasid: number, write: boolean): number | null {
    const cpu = this.#cpu;
    const address = (entry: bigint): number => Number(entry & 0x000f_ffff_ffff_f000n);
    const root = cpu.read64(address(this.#unit.read(0x20, 8)));
    const context = cpu.read64(address(root) + 32 * RID);
    const directory = cpu.read64(address(context) + 8 * (pasid >>> 6));
    const at = address(directory) + 64 * (pasid & 63);
    const path = [root, context, directory, cpu.read64(at)];
    if (path.some((entry) => (entry & 1n) === 0n)) return null;
    const qw2 = cpu.read64(at + 16);
    return cpu.walk(address(qw2), 4, BigInt(vpn) * 4096n, write);
  }

  translate(
    _rid: number,
    pasid: number,
    _priv: boolean,
    vpn: number,
    noWrite: boolean,
    reply: AtsReply,
  ): void {
    const writable = noWrite ? null : this.#page(vpn, pasid, true);
    const gpa = writable ?? this.#page(vpn, pasid, false);
    reply.status = CPL.SUCCESS;
    reply.pfn = gpa === null ? 0 : Math.floor(gpa / 4096);
    reply.shift = 12;
    reply.read = gpa !== null;
    reply.write = writable !== null;
    reply.untranslatedOnly = false;
    reply.noSnoop = false;
    reply.priv = false;
  }

  read(
    _rid: number,
    _pasid: number,
    _priv: boolean,
    _type: number,
    page: number,
    offset: number,
    into: Uint8Array,
    at: number,
    length: number,
  ): CompletionStatus {
    this.#cpu.readBytes(page * 4096 + offset, into.subarray(at, at + length));
    return CPL.SUCCESS;
  }

  write(
    _rid: number,
    _pasid: number,
    _priv: boolean,
    _type: number,
    page: number,
    offset: number,
    from: Uint8Array,
    at: number,
    length: number,
  ): CompletionStatus {
    this.#cpu.writeBytes(page * 4096 + offset, from.subarray(at, at + length));
    return CPL.SUCCESS;
  }

  copy(
    _rid: number,
    srcPfn: number,
    srcOffset: number,
    dstPfn: number,
    dstOffset: number,
    length: number,
  ): CompletionStatus {
    this.#cpu.copy(dstPfn * 4096 + dstOffset, srcPfn * 4096 + srcOffset, length);
    return CPL.SUCCESS;
  }

  pageRequest(
    rid: number,
    pasid: number,
    priv: boolean,
    vpn: number,
    read: boolean,
    write: boolean,
    last: boolean,
    prgi: number,
  ): void {
    const address = vpn * 4096;
    this.#unit.pageRequest({ rid, pasid, priv, address, read, write, last, prgi });
  }

  invalidateComplete(): void {
    // The fake unit does not wait for devices.
  }

  msi(_rid: number, _address: number, data: number): void {
    this.#cpu.raise(data & 0xff);
  }
}

/** A fake machine whose accelerator is DsaDevice. */
export function dsaMachine(options: MachineOptions): FakeMachine {
  const machine = new FakeMachine(options);
  const { cpu, unit, trace } = machine;
  const clock = new VirtualClock();
  clock.trace = trace;
  const fabric = new WalkingFabric(cpu, unit);
  const device = new DsaDevice({ rid: RID, fabric, clock, trace });
  const bars = [
    [PciHeader.BAR0, ACCELERATOR_BAR0],
    [PciHeader.BAR2, ACCELERATOR_BAR2],
  ] as const;
  for (const [register, address] of bars) {
    device.configWrite(register, 4, address % 2 ** 32);
    device.configWrite(register + 4, 4, Math.floor(address / 2 ** 32));
  }
  unit.onResponse = (d): void => device.pageGroupResponse(d.pasid, d.prgi, d.code);
  unit.onInvalidate = (d): void => {
    if (d.type !== 'p_dev_tlb') return;
    const shift = d.sizeLog2 === 'all' ? 64 : d.sizeLog2;
    device.invalidate(0, d.pasid, d.global, Math.floor(d.address / 4096), shift);
  };
  cpu.portal = (gpa, bytes) => (device.barEnqueue(2, gpa - ACCELERATOR_BAR2, bytes) ? 0 : 1);
  machine.replacement = {
    configRead: (register, size) => device.configRead(register, size as 1 | 2 | 4),
    configWrite: (register, size, value) => {
      device.configWrite(register, size as 1 | 2 | 4, value);
    },
    barRead: (bar, offset, size) => device.barRead(bar, offset, size),
    barWrite: (bar, offset, size, value) => {
      device.barWrite(bar, offset, size, value);
    },
    advance(ns) {
      let over = false;
      if (ns !== null) clock.after(ns, () => (over = true));
      const pending = (): boolean => cpu.pending.length > 0;
      while (ns === null ? !pending() : !over) if (!clock.step()) break;
      cpu.tsc = clock.now;
      return ns !== null || pending();
    },
  };
  return machine;
}
