/** The driver on the machine's own unit: what a function gets when it asks for translations. */
import test from 'ava';
import type { AtsReply, Fabric } from '../../../../devices/pci/fabric.ts';
import { CPL } from '../../../../devices/pci/fabric.ts';
import { parseMcfg } from '../../../../devices/spec/acpi.ts';
import { FS, levelIndex } from '../../../../devices/spec/x86/paging.ts';
import { intelIommuInit } from '../../../../host/kernel/intel/init.ts';
import type { NestedDomain } from '../../../../host/kernel/intel/nested.ts';
import type { PagingDomain } from '../../../../host/kernel/intel/paging.ts';
import type { IommuCore } from '../../../../host/kernel/iommu/core.ts';
import type { FaultGroup, IommuDev } from '../../../../host/kernel/iommu/ops.ts';
import { RESPONSE } from '../../../../host/kernel/iommu/ops.ts';
import { Kernel } from '../../../../host/kernel/kernel.ts';
import { enumeratePci } from '../../../../host/kernel/pci.ts';
import { Machine } from '../../../../host/machine/machine.ts';
import type { Task } from '../../../../host/syscall.ts';
import { BareFunction } from './function.ts';
import { handleOf, nested, nestParentOf } from './world.ts';

const GUEST_BYTES = 4 << 20;
const VA = 0x7f12_3456_7000n;

interface Silicon {
  readonly machine: Machine;
  readonly kernel: Kernel;
  readonly core: IommuCore;
  readonly dev: IommuDev;
  readonly parent: PagingDomain;
  readonly responses: string[];
  run<T>(task: Task<T>): T;
  ask(pasid: number, vpn?: bigint): AtsReply;
  fabric: Fabric;
  /** A guest table at `gpa` that maps VA to guest page `gpa + 0x4000`. */
  guestTable(gpa: number): NestedDomain;
}

function boot(): Silicon {
  let fabric: Fabric | null = null;
  let fn: BareFunction | null = null;
  const responses: string[] = [];
  const machine = new Machine({
    ramBytes: 64 << 20,
    seed: 7,
    functions: [
      (rid, world) => {
        fabric = world.fabric;
        fn = new BareFunction(rid);
        fn.onInvalidate = (itag) =>
          world.clock.after(50, () => fabric!.invalidateComplete(rid, itag));
        fn.onResponse = (pasid, prgi, code) => responses.push(`${pasid}/${prgi} ${code}`);
        return fn;
      },
    ],
  });
  const kernel = new Kernel(machine);
  for (const window of parseMcfg(kernel.acpi.table('MCFG')!)) {
    kernel.pciDevices.push(...enumeratePci(machine.root, window));
  }
  const run = <T>(task: Task<T>): T => {
    const thread = machine.scheduler.spawn('test', task);
    machine.clock.run(() => thread.done);
    if (thread.failed) throw thread.error;
    return thread.result as T;
  };
  const core = run(intelIommuInit(kernel));
  kernel.pciDevices[0]!.enableBusMaster();
  const dev = core.deviceOf(kernel.pciDevices[0]!)!;
  const parent = nestParentOf(dev);
  const base = kernel.pages.allocRun(GUEST_BYTES / 4096) * 4096;
  run(parent.map(0n, base, GUEST_BYTES, 3));
  const guestTable = (gpa: number): NestedDomain => {
    for (let level = 4; level > 0; level--) {
      const table = gpa + (4 - level) * 4096;
      const entry = BigInt(table + 4096) | FS.P | FS.RW | FS.US;
      machine.ram.write64(base + table + 8 * levelIndex(VA, level), entry);
    }
    return nested(dev, parent, BigInt(gpa));
  };
  const ask = (pasid: number, vpn = VA >> 12n): AtsReply => {
    const reply: AtsReply = {
      status: CPL.SUCCESS,
      pfn: 0,
      shift: 0,
      read: false,
      write: false,
      untranslatedOnly: false,
      noSnoop: false,
      priv: false,
    };
    fabric!.translate(dev.rid, pasid, false, Number(vpn), false, reply);
    return reply;
  };
  return { machine, kernel, core, dev, parent, responses, run, ask, fabric: fabric!, guestTable };
}

const gpaOf = (s: Silicon, pfn: number): number => pfn * 4096 - s.parent.iovaToPhys(0n);

test('a nested attach lets the function translate, detach ends it', (t) => {
  const s = boot();
  const domain = s.guestTable(0x10000);
  t.false(s.ask(5).read);
  s.run(s.core.attachDevicePasid(domain, s.dev, 5, handleOf(domain)));
  const reply = s.ask(5);
  t.deepEqual([reply.status, reply.read, reply.write], [CPL.SUCCESS, true, true]);
  t.is(gpaOf(s, reply.pfn), 0x14000);
  t.false(s.ask(6).read, 'another PASID has nothing');
  t.false(s.ask(5, (VA >> 12n) + 1n).read, 'nor has another page');
  s.run(s.core.detachDevicePasid(domain, s.dev, 5));
  t.false(s.ask(5).read);
  t.is(s.kernel.leftovers().pasidEntries, 0);
});

test('while a PASID is replaced every translation is the old or the new one, then the new', (t) => {
  for (const otherParent of [false, true]) {
    const s = boot();
    const one = s.guestTable(0x10000);
    const base = s.parent.iovaToPhys(0n);
    let two = s.guestTable(0x20000);
    if (otherParent) {
      // The same guest memory under another second stage: both tables of the entry change.
      const parent = nestParentOf(s.dev);
      s.run(parent.map(0n, base, GUEST_BYTES, 3));
      two = nested(s.dev, parent, 0x20000n);
    }
    s.run(s.core.attachDevicePasid(one, s.dev, 5, handleOf(one)));
    t.is(gpaOf(s, s.ask(5).pfn), 0x14000);
    const seen: number[] = [];
    const look = (): void => {
      const reply = s.ask(5);
      seen.push(reply.read && reply.write ? gpaOf(s, reply.pfn) : -1);
    };
    const { ram } = s.machine;
    const write = ram.write.bind(ram);
    ram.write = (address, from) => {
      write(address, from);
      look();
    };
    const replace = s.machine.scheduler.spawn(
      'replace',
      s.core.replaceDevicePasid(two, s.dev, 5, handleOf(two)),
    );
    s.machine.clock.run(() => {
      look();
      return replace.done;
    });
    t.false(replace.failed);
    t.true(seen.length > 5);
    t.deepEqual([...new Set(seen)], [0x14000, 0x24000]);
    t.is(gpaOf(s, s.ask(5).pfn), 0x24000);
    ram.write = write;
    s.run(s.core.detachDevicePasid(two, s.dev, 5));
    t.is(s.kernel.leftovers().pasidEntries, 0);
  }
});

test('a page request goes to the handler, and its answer back to the function', (t) => {
  const s = boot();
  const domain = s.guestTable(0x10000);
  const groups: FaultGroup[] = [];
  domain.faultHandler = function* (group) {
    groups.push(group);
    return 0;
  };
  s.run(s.core.attachDevicePasid(domain, s.dev, 5, handleOf(domain)));
  s.fabric.pageRequest(s.dev.rid, 5, false, Number(VA >> 12n) + 1, true, true, true, 9);
  s.machine.clock.run();
  t.deepEqual(
    groups.map(({ faults }) => faults.map(({ address, grpid }) => [address, grpid])),
    [[[VA + 4096n, 9]]],
  );
  s.run(s.core.pageGroupResponse(groups[0]!, RESPONSE.SUCCESS));
  s.machine.clock.run();
  t.deepEqual(s.responses, ['5/9 0']);
});

test('a page request through the new table during a replace is for the new attachment', (t) => {
  const s = boot();
  const [one, two] = [s.guestTable(0x10000), s.guestTable(0x20000)];
  const groups: FaultGroup[] = [];
  for (const domain of [one, two]) {
    domain.faultHandler = function* (group) {
      groups.push(group);
      return 0;
    };
  }
  s.run(s.core.attachDevicePasid(one, s.dev, 5, handleOf(one)));
  const handle = handleOf(two);
  const task = s.core.replaceDevicePasid(two, s.dev, 5, handle);
  const replace = s.machine.scheduler.spawn('replace', task);
  let asked = false;
  s.machine.clock.run(() => {
    if (!asked && gpaOf(s, s.ask(5).pfn) === 0x24000) {
      asked = true;
      s.fabric.pageRequest(s.dev.rid, 5, false, Number(VA >> 12n) + 1, true, true, true, 4);
    }
    return replace.done;
  });
  s.machine.clock.run();
  t.true(asked);
  t.is(groups.length, 1);
  t.is(groups[0]!.handle, handle);
  s.run(s.core.pageGroupResponse(groups[0]!, RESPONSE.SUCCESS));
  s.machine.clock.run();
  t.deepEqual(s.responses, ['5/4 0']);
});

test('a mapping that goes from the second stage is gone for the function too', (t) => {
  const s = boot();
  const domain = s.guestTable(0x10000);
  s.run(s.core.attachDevicePasid(domain, s.dev, 5, handleOf(domain)));
  t.true(s.ask(5).read);
  t.is(s.run(s.parent.unmap(0n, BigInt(GUEST_BYTES))), BigInt(GUEST_BYTES));
  t.false(s.ask(5).read);
});

test('requests without PASID: translated as they are by default, refused while owned', (t) => {
  const s = boot();
  const into = new Uint8Array(8);
  const read = (): number => s.fabric.read(s.dev.rid, -1, false, 0, 0x300, 0, into, 0, 8);
  t.is(read(), CPL.SUCCESS);
  s.run(s.core.claimDmaOwner(s.core.groupOf(s.dev), {}));
  t.is(read(), CPL.UNSUPPORTED_REQUEST);
});
