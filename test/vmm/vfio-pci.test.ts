import test from 'ava';
import { DsaPci, DsaReg } from '../../devices/spec/dsa/registers.ts';
import {
  AtsCap,
  findExtCapability,
  MsixCap,
  PasidCap,
  PciCommand,
  PciExtCap,
  PcieCap,
  PciHeader,
  PriCap,
} from '../../devices/spec/pci.ts';
import { BarAllocator } from '../../vmm/bar-windows.ts';
import { Heap } from '../../vmm/heap.ts';
import { MemoryMap } from '../../vmm/memory-map.ts';
import { Threads } from '../../vmm/threads.ts';
import { VfioDevice } from '../../vmm/vfio-device.ts';
import { VfioPci } from '../../vmm/vfio-pci.ts';
import { FakeHost, VECTORS } from './fake-host.ts';

function assigned(pasidBits = 20) {
  const sys = new FakeHost();
  const map = new MemoryMap();
  const delivered: [number, number, number][] = [];
  const refused: string[] = [];
  const built = sys.run(
    (function* build() {
      const heap = yield* Heap.map(sys, 0x10_0000);
      const device = yield* VfioDevice.open(sys, heap, '/dev/vfio/devices/vfio0');
      const fn = yield* VfioPci.create({
        sys,
        heap,
        device,
        rid: 8,
        map,
        bars: new BarAllocator(),
        pasid: { bits: pasidBits, exec: false, priv: true },
        deliver: (vector, address, data) => delivered.push([vector, address, data]),
        refused: (what) => refused.push(what),
      });
      return { heap, fn };
    })(),
  );
  const { fn } = built;
  const read = (offset: number, size: number): number => sys.run(fn.configRead(offset, size));
  const write = (offset: number, size: number, value: number): void => {
    sys.run(fn.configWrite(offset, size, value));
  };
  const find = (id: number): number => findExtCapability((offset) => read(offset, 4), id);
  const mmio = (address: number, size: number, value?: bigint): bigint => {
    const range = map.find(address);
    if (range?.kind !== 'trap') throw new Error('not trapped');
    const offset = address - range.start;
    if (value === undefined) return sys.run(range.handler.read(offset, size));
    sys.run(range.handler.write(offset, size, value));
    return 0n;
  };
  const enable = (): number => {
    write(PciHeader.COMMAND, 2, PciCommand.MEMORY | PciCommand.BUS_MASTER);
    return (read(PciHeader.BAR0, 4) & ~0xf) >>> 0;
  };
  return { sys, map, delivered, refused, read, write, find, mmio, enable, ...built };
}

const MSIX = 0x80;

test('identity passes through; the PASID capability that VFIO hides is there, sized', (t) => {
  const { read, find } = assigned(16);
  t.is(read(PciHeader.VENDOR_ID, 2), DsaPci.VENDOR_ID);
  const pasid = find(PciExtCap.PASID);
  t.true(pasid >= 0x100);
  const capability = read(pasid + PasidCap.CAPABILITY, 2);
  t.is(capability, (16 << PasidCap.CAPABILITY_WIDTH_SHIFT) | PasidCap.CAPABILITY_PRIVILEGED);
  t.true(find(PciExtCap.ATS) > 0 && find(PciExtCap.PRI) > 0, 'the chain still has the others');
});

test('a device without PASIDs gets no capability', (t) => {
  t.is(assigned(0).find(PciExtCap.PASID), 0);
});

test('PASID, ATS and PRI control are the guest own: the device never sees them', (t) => {
  const { sys, read, write, find } = assigned();
  const before = sys.config.slice(0x100);
  const [pasid, ats, pri] = [PciExtCap.PASID, PciExtCap.ATS, PciExtCap.PRI].map(find) as [
    number,
    number,
    number,
  ];
  t.is(read(ats + AtsCap.CONTROL, 2), 0, 'though the host has ATS on');
  write(pasid + PasidCap.CONTROL, 2, 0xffff);
  t.is(read(pasid + PasidCap.CONTROL, 2), PasidCap.CONTROL_ENABLE | PasidCap.CONTROL_PRIVILEGED);
  write(ats + AtsCap.CONTROL, 2, AtsCap.CONTROL_ENABLE | 1);
  t.is(read(ats + AtsCap.CONTROL, 2), AtsCap.CONTROL_ENABLE | 1);
  const { STATUS_STOPPED, STATUS_PRG_RESPONSE_PASID } = PriCap;
  t.is(read(pri + PriCap.STATUS, 2), STATUS_STOPPED | STATUS_PRG_RESPONSE_PASID);
  write(pri + PriCap.CONTROL, 2, PriCap.CONTROL_RESET);
  t.is(read(pri + PriCap.CONTROL, 2), 0);
  write(pri + PriCap.ALLOCATION, 4, 32);
  write(pri + PriCap.CONTROL, 2, PriCap.CONTROL_ENABLE);
  t.is(read(pri + PriCap.STATUS, 2), STATUS_PRG_RESPONSE_PASID);
  t.is(read(pri + PriCap.ALLOCATION, 4), 32);
  t.is(read(pri + PriCap.MAX_REQUESTS, 4), 512);
  t.deepEqual(sys.config.slice(0x100), before);
});

test('BARs are where the guest puts them, sized, and follow memory decode', (t) => {
  const { read, write, map, enable } = assigned();
  const bar0 = (read(PciHeader.BAR0, 4) & ~0xf) >>> 0;
  t.is(map.find(bar0), null, 'memory decode is off after open');
  enable();
  t.is(map.find(bar0)?.kind, 'trap');
  const bar2 = (read(PciHeader.BAR2, 4) & ~0xf) >>> 0;
  t.is(map.find(bar2)?.kind, 'device');
  write(PciHeader.BAR2, 4, 0xffff_ffff);
  write(PciHeader.BAR3, 4, 0xffff_ffff);
  t.is(read(PciHeader.BAR2, 4), 0xfffe_000c);
  t.is(read(PciHeader.BAR3, 4), 0xffff_ffff);
  write(PciHeader.BAR2, 4, 0);
  write(PciHeader.BAR3, 4, 0x10);
  t.is(map.find(0x10_0000_0000)?.kind, 'device');
  write(PciHeader.BAR2, 4, bar0);
  write(PciHeader.BAR3, 4, 0);
  t.is(map.find(bar0)?.kind, 'trap', 'a BAR on top of another is not reachable');
  write(PciHeader.COMMAND, 2, 0);
  t.is(map.find(bar0), null);
});

test('BAR0 goes to the device access by access', (t) => {
  const { sys, enable, mmio, map } = assigned();
  const bar0 = enable();
  mmio(bar0 + DsaReg.CMD, 4, 0x10_0000n);
  t.is(sys.registers.get(DsaReg.CMD), 0x10_0000n);
  sys.registers.set(DsaReg.GENCAP, 77n);
  t.is(mmio(bar0 + DsaReg.GENCAP, 8), 77n);
  const range = map.find(bar0);
  const names = [DsaReg.CMD, DsaReg.SWERR + 8, DsaPci.MSIX_TABLE_OFFSET + 16, 0x3000];
  t.deepEqual(
    names.map((offset) => (range?.kind === 'trap' ? range.handler.describe(offset) : '')),
    ['DSA CMD', 'DSA SWERR+0x8', 'MSI-X table+0x10', 'DSA BAR0+0x3000'],
  );
});

test('MSI-X: the table is emulated, eventfds carry the interrupts, masks hold them back', (t) => {
  const { sys, enable, mmio, write, read, fn, heap, delivered } = assigned();
  const bar0 = enable();
  const table = bar0 + DsaPci.MSIX_TABLE_OFFSET;
  const threads = sys.run(Threads.create(sys, heap));
  const nothing = function* nothing() {};
  sys.run(threads.watch('irq', fn.interruptSources(nothing)));
  sys.settle();
  mmio(table + 16, 8, 0xfee0_0000n);
  mmio(table + 24, 4, 0x41n);
  mmio(table + 28, 4, 0n);
  t.is(mmio(table + 16, 8), 0xfee0_0000n);
  t.false(sys.registers.has(DsaPci.MSIX_TABLE_OFFSET + 16));
  sys.calls.length = 0;
  write(MSIX + MsixCap.CONTROL, 2, MsixCap.CONTROL_ENABLE | 0x7ff);
  t.is(read(MSIX + MsixCap.CONTROL, 2), MsixCap.CONTROL_ENABLE | (VECTORS - 1));
  t.deepEqual(sys.take('index', 'start', 'count', 'flags'), [
    `VFIO_DEVICE_SET_IRQS index=2 start=0 count=${VECTORS} flags=36`,
  ]);
  sys.fire(1);
  sys.fire(2);
  sys.settle();
  t.deepEqual(delivered, [[1, 0xfee0_0000, 0x41]], 'vector 2 is masked');
  t.is(mmio(bar0 + DsaPci.MSIX_PBA_OFFSET, 8), 4n);
  mmio(table + 44, 4, 0n);
  t.deepEqual(delivered[1], [2, 0, 0], 'unmasked: what was pending goes');
  write(MSIX + MsixCap.CONTROL, 2, MsixCap.CONTROL_ENABLE | MsixCap.CONTROL_FUNCTION_MASK);
  sys.fire(1);
  sys.settle();
  t.is(delivered.length, 2);
  write(MSIX + MsixCap.CONTROL, 2, 0);
  t.deepEqual(sys.take('count', 'flags').at(-1), 'VFIO_DEVICE_SET_IRQS count=0 flags=33');
  sys.run(threads.stop());
  sys.run(fn.release());
  t.deepEqual([...sys.open_.values()], ['/dev/vfio/devices/vfio0']);
  t.is(sys.mappings.size, 1, 'the heap');
});

test('a function level reset goes through VFIO and resets what is emulated', (t) => {
  const { sys, write, read, find, enable, map } = assigned();
  const bar0 = enable();
  const ats = find(PciExtCap.ATS);
  write(ats + AtsCap.CONTROL, 2, AtsCap.CONTROL_ENABLE);
  write(0x40 + PcieCap.DEVCTL, 2, PcieCap.DEVCTL_INITIATE_FLR);
  t.is(sys.resets, 1);
  t.is(read(ats + AtsCap.CONTROL, 2), 0);
  t.is(read(PciHeader.BAR0, 4), 0xc);
  t.is(read(PciHeader.COMMAND, 2), 0);
  t.is(map.find(bar0), null);
});

test('a host that refuses MSI-X is reported and the guest goes on', (t) => {
  const { sys, write, refused } = assigned();
  sys.failures.set('VFIO_DEVICE_SET_IRQS', 'ENOMEM');
  write(MSIX + MsixCap.CONTROL, 2, MsixCap.CONTROL_ENABLE);
  t.deepEqual(refused, ['MSI-X enable']);
});
