import test from 'ava';
import { parseMcfg, parseRsdp, parseSdtHeader, parseXsdt } from '../../devices/spec/acpi.ts';
import { BOOT_PARAMS_BYTES, BOOT_PARAMS_GPA, decodeBootParams } from '../../devices/spec/boot.ts';
import { parseDmar } from '../../devices/spec/dmar.ts';
import { DsaPci } from '../../devices/spec/dsa/registers.ts';
import {
  FILESHARE_COMMAND,
  FILESHARE_REG,
  FILESHARE_VENDOR,
} from '../../devices/spec/fileshare.ts';
import { encodeMsi } from '../../devices/spec/msi.ts';
import { ecamAddress, MsixCap, PciCommand, PciHeader, rid } from '../../devices/spec/pci.ts';
import {
  pageGroupRespDesc,
  pasidCacheDesc,
  pasidIotlbDesc,
  waitDesc,
} from '../../devices/spec/vtd/invalidation.ts';
import { decodePageRequest } from '../../devices/spec/vtd/page-request.ts';
import { ECAP, GCMD, IQA, PQA, REG, RTADDR, TTM } from '../../devices/spec/vtd/registers.ts';
import { iommu_hwpt_pgfault } from '../../host/uapi/iommufd.ts';
import type { EventRecord } from '../../trace/event.ts';
import { Tracer } from '../../trace/tracer.ts';
import type { VmExit } from '../../vmm/exit.ts';
import type { GuestMemory } from '../../vmm/guest-memory.ts';
import type { Vcpu } from '../../vmm/vcpu.ts';
import type { VmmResult } from '../../vmm/vmm.ts';
import { runVmm } from '../../vmm/vmm.ts';
import { FakeHost } from './fake-host.ts';
import { clearPasid, ROOT, writeContext, writePasid } from './viommu/support.ts';

const RAM_BYTES = 0x40_0000;
const VTD = 0xfed9_0000;
const QUEUE = 0x20_0000;
const PRQ = 0x20_4000;
const STATUS = 0x20_8000;
const DEVICE = rid(0, 1, 0);

type Guest<T = void> = Generator<VmExit, T, bigint>;
type Size = 1 | 2 | 4 | 8;

function* load(address: number, size: Size): Guest<bigint> {
  return yield { kind: 'mmio-read', address, size };
}
function* store(address: number, size: Size, value: number | bigint): Guest {
  yield { kind: 'mmio-write', address, size, value: BigInt(value) };
}

/** Guest tables are written as in the tests of the parts. */
const asMemory = (cpu: Vcpu): GuestMemory => cpu as unknown as GuestMemory;

/** A guest's queue: descriptors in, tail register, wait for the status. */
class Queue {
  readonly #cpu: Vcpu;
  #tail = 0;
  constructor(cpu: Vcpu) {
    this.#cpu = cpu;
  }
  *submit(...descriptors: BigUint64Array[]): Guest {
    this.#cpu.write32(STATUS, 0);
    const wait = waitDesc({ statusWrite: true, statusData: 2, statusAddress: STATUS });
    for (const words of [...descriptors, wait]) {
      words.forEach((word, i) => this.#cpu.write64(QUEUE + this.#tail + 8 * i, word));
      this.#tail = (this.#tail + 32) % 0x2000;
    }
    yield* store(VTD + REG.IQT, 4, this.#tail);
    if (this.#cpu.read32(STATUS) !== 2) throw new Error('the wait has not completed');
  }
}

/** Scalable mode, queues, translation on, page-request interrupt 0x50. */
function* startUnit(cpu: Vcpu): Guest<Queue> {
  writeContext(asMemory(cpu));
  writePasid(asMemory(cpu), 0, { DID: 9, FSPTPTR: 0x21_0000 });
  yield* store(VTD + REG.IQA, 8, IQA.encode({ BASE: QUEUE, DW: 1, QS: 1 })[0]!);
  yield* store(VTD + REG.GCMD, 4, GCMD.QIE);
  yield* store(VTD + REG.RTADDR, 8, RTADDR.encode({ RTA: ROOT, TTM: TTM.SCALABLE })[0]!);
  yield* store(VTD + REG.GCMD, 4, GCMD.QIE + GCMD.SRTP);
  yield* store(VTD + REG.PQA, 8, PQA.encode({ BASE: PRQ, PQS: 0 })[0]!);
  const msi = encodeMsi({ destination: 0, vector: 0x50 });
  yield* store(VTD + REG.PEDATA, 4, msi.data);
  yield* store(VTD + REG.PEADDR, 4, msi.address);
  yield* store(VTD + REG.PECTL, 4, 0);
  yield* store(VTD + REG.GCMD, 4, GCMD.TE + GCMD.QIE);
  return new Queue(cpu);
}

function vm(
  guest: (cpu: Vcpu, sys: FakeHost) => Guest<number>,
  input = new Uint8Array([1, 2, 3]),
): { sys: FakeHost; result: VmmResult; events: EventRecord[] } {
  const sys = new FakeHost();
  const trace = new Tracer(() => 0);
  const events: EventRecord[] = [];
  trace.listen((record) => events.push(record));
  const result = sys.run(
    runVmm(sys, {
      name: 'vm0',
      ramBytes: RAM_BYTES,
      device: '/dev/vfio/devices/vfio0',
      commandLine: 'name=vm0 procs=1',
      input,
      outputs: 1,
      trace,
      guest: (cpu) => guest(cpu, sys),
    }),
  );
  return { sys, result, events };
}

const ECAM = 0xb000_0000;
const config = (device: number, register: number): number =>
  ecamAddress(ECAM, rid(0, device, 0), register);

test('the machine is built in order and leaves nothing behind', (t) => {
  const { sys, result } = vm(function* guest() {
    return 7;
  });
  t.is(result.code, 7);
  t.is(result.crash, undefined);
  const names = sys.calls.map((call) => call.name);
  t.deepEqual(
    names.filter((name) => !name.startsWith('VFIO_DEVICE_GET')),
    [
      'VFIO_DEVICE_BIND_IOMMUFD',
      'IOMMU_IOAS_ALLOC',
      'IOMMU_IOAS_MAP',
      'IOMMU_GET_HW_INFO',
      'IOMMU_HWPT_ALLOC',
      'IOMMU_FAULT_QUEUE_ALLOC',
      'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
      'VFIO_DEVICE_DETACH_IOMMUFD_PT',
      'IOMMU_DESTROY',
      'IOMMU_DESTROY',
      'IOMMU_IOAS_UNMAP',
      'IOMMU_DESTROY',
    ],
  );
  t.is(sys.calls.find((call) => call.name === 'IOMMU_HWPT_ALLOC')?.values['flags'], 9);
  t.deepEqual([...sys.open_.values()], []);
  t.deepEqual([...sys.mappings], []);
});

test('the guest finds its memory, the unit and the functions', (t) => {
  const found: Record<string, unknown> = {};
  const { result } = vm(function* guest(cpu) {
    const page = new Uint8Array(BOOT_PARAMS_BYTES);
    cpu.readBytes(BOOT_PARAMS_GPA, page);
    const boot = decodeBootParams(page);
    const table = (address: number): Uint8Array => {
      const head = new Uint8Array(36);
      cpu.readBytes(address, head);
      const bytes = new Uint8Array(parseSdtHeader(head).length);
      cpu.readBytes(address, bytes);
      return bytes;
    };
    const rsdp = new Uint8Array(36);
    cpu.readBytes(boot.rsdp, rsdp);
    const [mcfg, dmar] = parseXsdt(table(parseRsdp(rsdp).xsdt)).map(table);
    Object.assign(found, { boot, mcfg: parseMcfg(mcfg!), dmar: parseDmar(dmar!) });
    found['vendors'] = [];
    for (const device of [0, 1, 2, 3]) {
      (found['vendors'] as bigint[]).push(yield* load(config(device, 0), 2));
    }
    found['ecap'] = yield* load(VTD + REG.ECAP, 8);
    return 0;
  });
  t.is(result.code, 0);
  t.like(found['boot'], {
    commandLine: 'name=vm0 procs=1',
    ranges: [{ start: 0x10_0000, bytes: RAM_BYTES - 0x10_0000 }],
  });
  t.deepEqual(found['mcfg'], [{ base: ECAM, segment: 0, startBus: 0, endBus: 0 }]);
  const scope = { type: 1, enumerationId: 0, startBus: 0, path: [{ device: 1, fn: 0 }] };
  t.like(found['dmar'], {
    drhds: [{ registerBase: VTD, scopes: [scope, { path: [{ device: 2, fn: 0 }] }] }],
    satcs: [{ scopes: [scope] }],
  });
  const vendors = [0x8086n, BigInt(DsaPci.VENDOR_ID), BigInt(FILESHARE_VENDOR), 0xffffn];
  t.deepEqual(found['vendors'], vendors);
  const ecap = ECAP.decode([found['ecap'] as bigint]);
  t.like(ecap, { NEST: 0, SSTS: 0, FSTS: 1, PASID: 1, PSS: 19, PRS: 1, SMPWCS: 1 });
});

test('bind, replace, invalidate and unbind: the ioctls are done when the tail write returns', (t) => {
  const steps: string[][] = [];
  const { result } = vm(function* guest(cpu, sys) {
    const queue = yield* startUnit(cpu);
    sys.calls.length = 0;
    const pc = pasidCacheDesc({ granularity: 1, did: 1, pasid: 5 });
    writePasid(asMemory(cpu), 5, { FSPTPTR: 0x21_1000 });
    yield* queue.submit(pc);
    steps.push(sys.take('pasid', 'pgtbl_addr'));
    writePasid(asMemory(cpu), 5, { FSPTPTR: 0x21_2000 });
    yield* queue.submit(pc);
    steps.push(sys.take('pasid', 'pgtbl_addr'));
    yield* queue.submit(
      pasidIotlbDesc({ granularity: 3, did: 1, pasid: 5, address: 0x7000, am: 0 }),
    );
    steps.push(sys.take('addr', 'npages'));
    clearPasid(asMemory(cpu), 5);
    yield* queue.submit(pc);
    steps.push(sys.take('pasid'));
    return 0;
  });
  t.is(result.crash, undefined);
  t.deepEqual(steps, [
    [`IOMMU_HWPT_ALLOC pgtbl_addr=2166784`, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT pasid=5'],
    [
      `IOMMU_HWPT_ALLOC pgtbl_addr=2170880`,
      'VFIO_DEVICE_ATTACH_IOMMUFD_PT pasid=5',
      'IOMMU_DESTROY',
    ],
    [`IOMMU_HWPT_INVALIDATE addr=28672 npages=1`],
    ['VFIO_DEVICE_DETACH_IOMMUFD_PT pasid=5', 'IOMMU_DESTROY'],
  ]);
});

function faultRecord(grpid: number, cookie: number, addr: bigint): Uint8Array {
  return iommu_hwpt_pgfault.encode({ flags: 3, pasid: 5, grpid, perm: 3, addr, cookie });
}

test('a page fault: record, virtual queue, interrupt to the sleeping vCPU, response', (t) => {
  const seen: unknown[] = [];
  const { sys, result, events } = vm(function* guest(cpu, host) {
    const queue = yield* startUnit(cpu);
    writePasid(asMemory(cpu), 5, { FSPTPTR: 0x21_1000 });
    yield* queue.submit(pasidCacheDesc({ granularity: 1, did: 1, pasid: 5 }));
    host.faults.push(faultRecord(3, 1, 0x7f00_0000_1000n));
    yield { kind: 'hlt' };
    seen.push(cpu.takeInterrupt());
    const words = Array.from({ length: 4 }, (_, i) => cpu.read64(PRQ + 8 * i));
    seen.push(decodePageRequest(words), yield* load(VTD + REG.PQT, 8));
    yield* store(VTD + REG.PQH, 8, 32);
    yield* store(VTD + REG.PRS, 4, 1);
    yield* queue.submit(
      pageGroupRespDesc({ rid: DEVICE, pasid: 5, pasidPresent: true, code: 0, prgi: 3 }),
    );
    return 0;
  });
  t.is(result.crash, undefined);
  t.is(seen[0], 0x50);
  t.like(seen[1], {
    rid: DEVICE,
    pasid: 5,
    read: true,
    write: true,
    last: true,
    prgi: 3,
    address: 0x7f00_0000_1000,
  });
  t.is(seen[2], 32n);
  t.deepEqual(sys.responses, [{ cookie: 1, code: 0 }]);
  const fault = events.find((event) => event.def.name === 'vmm:fault_read');
  const msi = events.find((event) => event.def.name === 'kvm:kvm_msi_set_irq');
  t.is(msi?.values['what'], 'VTD page request');
  const bySeq = new Map(events.map((event) => [event.seq, event]));
  let above = msi;
  while (above !== undefined && above !== fault) above = bySeq.get(above.cause);
  t.is(above, fault, 'the interrupt descends from the fault record');
});

test('a full virtual queue answers Success, and the overflow is the guest to see', (t) => {
  const { sys, result } = vm(function* guest(cpu, host) {
    const queue = yield* startUnit(cpu);
    writePasid(asMemory(cpu), 5, { FSPTPTR: 0x21_1000 });
    yield* queue.submit(pasidCacheDesc({ granularity: 1, did: 1, pasid: 5 }));
    for (let i = 1; i <= 130; i++) host.faults.push(faultRecord(i, i, BigInt(i) << 12n));
    yield { kind: 'hlt' };
    for (let i = 0; i < 100; i++) yield { kind: 'pause', ns: 1000 };
    return Number(yield* load(VTD + REG.PRS, 4));
  });
  t.is(result.code, 3, 'PPR and PRO');
  t.deepEqual(
    sys.responses,
    [128, 129, 130].map((cookie) => ({ cookie, code: 0 })),
  );
});

test('a wait with page-request drain completes behind the faults the host had', (t) => {
  let tail = 0n;
  vm(function* guest(cpu, host) {
    const queue = yield* startUnit(cpu);
    writePasid(asMemory(cpu), 5, { FSPTPTR: 0x21_1000 });
    yield* queue.submit(pasidCacheDesc({ granularity: 1, did: 1, pasid: 5 }));
    host.faults.push(faultRecord(3, 1, 0x1000n), faultRecord(4, 2, 0x2000n));
    yield* queue.submit(waitDesc({ fence: true, drainPageRequests: true }));
    tail = yield* load(VTD + REG.PQT, 8);
    return 0;
  });
  t.is(tail, 64n);
});

test('the device MSI-X vector reaches the guest', (t) => {
  const { result } = vm(function* guest(cpu, host) {
    yield* store(config(1, PciHeader.COMMAND), 2, PciCommand.MEMORY | PciCommand.BUS_MASTER);
    const bar0 = Number((yield* load(config(1, PciHeader.BAR0), 4)) & ~0xfn);
    const entry = bar0 + DsaPci.MSIX_TABLE_OFFSET + 16;
    const msi = encodeMsi({ destination: 0, vector: 0x61 });
    yield* store(entry, 4, msi.address);
    yield* store(entry + 8, 4, msi.data);
    yield* store(entry + 12, 4, 0);
    yield* store(config(1, 0x80 + MsixCap.CONTROL), 2, MsixCap.CONTROL_ENABLE);
    host.fire(1);
    yield { kind: 'hlt' };
    return cpu.takeInterrupt();
  });
  t.is(result.code, 0x61);
});

test('the file share takes a file through the guest', (t) => {
  const { result } = vm(function* guest() {
    const bar = Number(yield* load(config(2, PciHeader.BAR0), 4));
    yield* store(bar + FILESHARE_REG.LENGTH, 4, 3);
    yield* store(bar + FILESHARE_REG.COMMAND, 4, FILESHARE_COMMAND.READ);
    yield* store(bar + FILESHARE_REG.COMMAND, 4, FILESHARE_COMMAND.WRITE);
    return 0;
  });
  t.deepEqual(result.outputs, [new Uint8Array([1, 2, 3])]);
});

test('a guest that crashes ends its machine and nothing else', (t) => {
  const { sys, result } = vm(function* guest(cpu) {
    yield* startUnit(cpu);
    throw new Error('triple fault');
  });
  t.is(result.code, 255);
  t.is((result.crash as Error).message, 'triple fault');
  t.deepEqual([...sys.open_.values()], []);
  t.deepEqual([...sys.mappings], []);
});

test('every register at every offset with hostile values does not end the VMM', (t) => {
  const { sys, result } = vm(function* guest(cpu) {
    yield* startUnit(cpu);
    let seed = 12345;
    const next = (): number => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return seed;
    };
    const sizes = [1, 2, 4, 8] as const;
    for (let i = 0; i < 20_000; i++) {
      const size = sizes[next() % 4]!;
      const value = (BigInt(next()) << 32n) | BigInt(next());
      const base = [VTD, ECAM, ECAM + 0x8000, ECAM + 0x1_0000, 0xc000_0000][next() % 5]!;
      const address = base + ((next() >>> 8) % 0x1_1000);
      if (next() % 2 === 0) yield* store(address, size, value);
      else yield* load(address - (address % size), size);
    }
    yield { kind: 'mmio-read', address: NaN, size: 8 };
    yield { kind: 'mmio-write', address: -8, size: 8, value: -1n };
    yield { kind: 'pause', ns: Infinity };
    return 0;
  });
  t.is(result.crash, undefined);
  t.is(result.code, 0);
  t.true(result.vmExits > 20_000);
  t.deepEqual([...sys.open_.values()], []);
});

for (const failing of [
  'VFIO_DEVICE_BIND_IOMMUFD',
  'IOMMU_IOAS_MAP',
  'IOMMU_GET_HW_INFO',
  'IOMMU_HWPT_ALLOC',
  'IOMMU_FAULT_QUEUE_ALLOC',
  'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
  'VFIO_DEVICE_GET_REGION_INFO',
]) {
  test(`a host that refuses ${failing} is named, and nothing is left open`, (t) => {
    const sys = new FakeHost();
    sys.failures.set(failing, 'ENOMEM');
    const options = {
      name: 'vm0',
      ramBytes: RAM_BYTES,
      device: '/dev/vfio/devices/vfio0',
      commandLine: '',
      input: new Uint8Array(0),
      outputs: 0,
      trace: new Tracer(() => 0),
      guest: function* guest(): Guest<number> {
        return 0;
      },
    };
    t.throws(() => sys.run(runVmm(sys, options)), { message: `${failing}: ENOMEM` });
    t.deepEqual([...sys.open_.values()], []);
    t.deepEqual([...sys.mappings], []);
  });
}
