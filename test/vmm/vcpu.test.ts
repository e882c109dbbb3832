import test from 'ava';
import { encodeIa32Pasid, IA32_PASID } from '../../devices/spec/msr.ts';
import { FS } from '../../devices/spec/x86/paging.ts';
import type { Cpu, Exit } from '../../guest/cpu.ts';
import { MAP_SHARED } from '../../host/uapi/poll.ts';
import { Tracer } from '../../trace/tracer.ts';
import type { VmExit } from '../../vmm/exit.ts';
import { MemoryMap } from '../../vmm/memory-map.ts';
import { Vcpu } from '../../vmm/vcpu.ts';
import type { VmmOptions } from '../../vmm/vmm.ts';
import { BAR2_BYTES, FakeHost } from './fake-host.ts';

// The two sides share no code, only a shape: a guest kernel written against guest/cpu.ts runs on the
// VMM's vCPU, and its exits are the VMM's.
type Guest = (cpu: Cpu) => Generator<Exit, number, bigint>;
const asCpu = (cpu: Vcpu): Cpu => cpu;
const asVmExit = (exit: Exit): VmExit => exit;
const asExit = (exit: VmExit): Exit => exit;
const asGuest = (guest: Guest): VmmOptions['guest'] => guest;

const PORTAL = 0xc100_0000;
const USER_PAGE = 0x40_0000n;
const USER_PORTAL = 0x50_0000n;
const LINK = FS.P | FS.RW | FS.US;

function vcpuOn() {
  const sys = new FakeHost();
  const hva = sys.run(sys.mmap(0x10_0000, 3, 0x22, -1, 0));
  const window = sys.run(sys.mmap(0x1000, 3, 0x22, -1, 0));
  const portal = sys.run(sys.mmap(BAR2_BYTES, 3, MAP_SHARED, 7, 0));
  const map = new MemoryMap();
  map.add({ kind: 'ram', start: 0, bytes: 0x10_0000, hva });
  map.add({ kind: 'memory', start: 0xc000_0000, bytes: 0x1000, hva: window });
  map.add({ kind: 'device', start: PORTAL, bytes: BAR2_BYTES, hva: portal });
  const trace = new Tracer(() => 0);
  trace.listen(() => undefined);
  const features = { la57: false, gbpages: true, enqcmd: true };
  const vcpu = new Vcpu({ name: 'vm0', map, memory: sys.memory, features, now: () => 42, trace });
  return { sys, map, vcpu, trace };
}

/** CR3 0x1000: user pages at 4 MiB (frame 0x8000, read-only next to it) and a portal at 5 MiB. */
function withTables() {
  const rig = vcpuOn();
  const { vcpu } = rig;
  vcpu.write64(0x1000, 0x2000n | LINK);
  vcpu.write64(0x2000, 0x3000n | LINK);
  vcpu.write64(0x3000 + 8 * 2, 0x4000n | LINK);
  vcpu.write64(0x4000, 0x8000n | LINK);
  vcpu.write64(0x4008, 0x9000n | FS.P | FS.US);
  vcpu.write64(0x4000 + 8 * 256, BigInt(PORTAL) | LINK);
  vcpu.write64(0x4000 + 8 * 257, 0xa000n | LINK);
  vcpu.setCr3(0x1000, false);
  return rig;
}

test('a guest kernel runs on it unchanged', (t) => {
  const { vcpu } = vcpuOn();
  const cpu = asCpu(vcpu);
  t.is(cpu.tsc, 42);
  t.deepEqual(asExit(asVmExit({ kind: 'hlt' })), { kind: 'hlt' });
  t.is(typeof asGuest, 'function');
});

test('physical memory: RAM and plain device memory; a hole reads ones and drops writes', (t) => {
  const { vcpu } = vcpuOn();
  vcpu.write32(0x100, -2);
  t.is(vcpu.read32(0x100), 0xffff_fffe);
  vcpu.write64(0xc000_0000, 7n);
  t.is(vcpu.read64(0xc000_0000), 7n);
  vcpu.write64(0x7000_0000, 7n);
  t.is(vcpu.read64(0x7000_0000), 2n ** 64n - 1n);
  t.is(vcpu.read32(0xf_fffe), 0xffff_ffff, 'misaligned');
  const bytes = new Uint8Array(8);
  vcpu.readBytes(0xf_fffc, bytes);
  t.deepEqual([...bytes], Array<number>(8).fill(255), 'half outside');
  vcpu.writeBytes(0x200, new Uint8Array([1, 2, 3]));
  vcpu.copy(0x300, 0x200, 3);
  t.is(vcpu.read32(0x300), 0x030201);
  vcpu.zero(0x300, 2);
  t.is(vcpu.read32(0x300), 0x030000);
  t.is(vcpu.cmpxchg64(0x100, 1n, 9n), 0xffff_fffen);
  t.is(vcpu.cmpxchg64(0x100, 0xffff_fffen, 9n), 0xffff_fffen);
  t.is(vcpu.read64(0x100), 9n);
});

test('device memory is not reached by loads and stores', (t) => {
  const { vcpu } = vcpuOn();
  t.is(vcpu.read32(PORTAL), 0xffff_ffff);
  t.notThrows(() => vcpu.write32(PORTAL, 1));
});

test('user accesses go through CR3 and fault where they must', (t) => {
  const { vcpu } = withTables();
  t.is(vcpu.writeVirtual(USER_PAGE + 0xffen, new Uint8Array([1, 2])), null);
  t.is(vcpu.read32(0x8ffc), 0x0201_0000);
  const into = new Uint8Array(4);
  t.is(vcpu.readVirtual(USER_PAGE + 0xffen, into), null, 'over a page boundary');
  t.deepEqual([...into], [1, 2, 0, 0]);
  t.deepEqual(vcpu.writeVirtual(USER_PAGE + 0xffen, new Uint8Array(3)), {
    address: USER_PAGE + 0x1000n,
    present: true,
    write: true,
    user: true,
    reserved: false,
  });
  const fault = vcpu.readVirtual(0x7000_0000n, into);
  t.deepEqual(fault, {
    address: 0x7000_0000n,
    present: false,
    write: false,
    user: true,
    reserved: false,
  });
  t.false(vcpu.readVirtual(1n << 60n, into)?.present, 'not canonical');
});

test('ENQCMD needs a valid IA32_PASID and puts it into the descriptor', (t) => {
  const { vcpu, sys } = withTables();
  const descriptor = new Uint8Array(64).fill(0xff, 4);
  t.is(vcpu.enqcmd(USER_PORTAL, descriptor), -1);
  vcpu.wrmsr(IA32_PASID, encodeIa32Pasid(0x12345));
  t.is(vcpu.rdmsr(IA32_PASID), encodeIa32Pasid(0x12345));
  t.is(vcpu.enqcmd(USER_PORTAL + 64n, descriptor), 0);
  const [sent] = sys.memory.submissions;
  t.is(sent?.address, 64);
  t.deepEqual([...sent!.bytes.subarray(0, 5)], [0x45, 0x23, 0x01, 0x00, 0xff]);
  sys.memory.accept = false;
  t.is(vcpu.enqcmd(USER_PORTAL, descriptor), 1);
  t.is(vcpu.enqcmd(USER_PORTAL + 8n, descriptor), -1, 'misaligned');
  for (const byte of [0, 1, 2, 3]) {
    const own = descriptor.slice();
    own[byte] = 0x10;
    t.is(vcpu.enqcmd(USER_PORTAL, own), -1, 'a PASID, privilege or reserved bit of its own');
  }
  vcpu.wrmsr(IA32_PASID, 5n);
  t.is(vcpu.enqcmd(USER_PORTAL, descriptor), -1, 'valid bit off');
});

test('ENQCMD to memory or to a BAR that is off is a retry; faults are faults', (t) => {
  const { vcpu, sys } = withTables();
  vcpu.wrmsr(IA32_PASID, encodeIa32Pasid(1));
  const descriptor = new Uint8Array(64);
  t.is(vcpu.enqcmd(USER_PAGE, descriptor), 1);
  t.like(vcpu.enqcmd(USER_PAGE + 0x1000n, descriptor), { present: true, write: true });
  sys.memory.decode = false;
  t.is(vcpu.enqcmd(USER_PORTAL, descriptor), 1);
  t.is(vcpu.movdir64b(USER_PORTAL, descriptor), null);
  t.is(sys.memory.submissions.length, 0);
});

test('MOVDIR64B writes 64 bytes to a portal or to memory', (t) => {
  const { vcpu, sys } = withTables();
  const descriptor = new Uint8Array(64).fill(7);
  t.is(vcpu.movdir64b(USER_PORTAL, descriptor), null);
  t.true(sys.memory.submissions[0]?.posted);
  t.is(vcpu.movdir64b(USER_PORTAL + 0x1000n, descriptor), null);
  t.is(vcpu.read32(0xa03c), 0x0707_0707);
});

test('interrupts: merged, the highest first, exceptions dropped, the cause comes along', (t) => {
  const { vcpu, trace } = vcpuOn();
  trace.cause = 17;
  vcpu.interrupts.post(0x41);
  trace.cause = 0;
  vcpu.interrupts.post(0x31);
  vcpu.interrupts.post(0x31);
  vcpu.interrupts.post(3);
  vcpu.interrupts.post(256);
  t.is(vcpu.takeInterrupt(), 0x41);
  t.is(trace.cause, 17);
  t.is(vcpu.takeInterrupt(), 0x31);
  t.is(vcpu.takeInterrupt(), -1);
});
