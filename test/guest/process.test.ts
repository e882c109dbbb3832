import test from 'ava';

import { encodeDescriptor } from '../../devices/spec/dsa/descriptor.ts';
import { Opcode } from '../../devices/spec/dsa/opcodes.ts';
import { IA32_PASID } from '../../devices/spec/msr.ts';
import { readPlatform } from '../../guest/acpi.ts';
import { FileShare } from '../../guest/drivers/fileshare.ts';
import { Idxd } from '../../guest/drivers/idxd.ts';
import { startIommu } from '../../guest/iommu/iommu.ts';
import { MMAP_BASE } from '../../guest/mm/mm.ts';
import { scanPci } from '../../guest/pci.ts';
import { EXIT_FAULT, Process, type Services } from '../../guest/process.ts';
import type { Task } from '../../guest/task.ts';
import { Bench } from './machine/bench.ts';

function services(bench: Bench): Services {
  return bench.run(
    (function* (): Task<Services> {
      const { core, cpuState } = bench;
      const platform = readPlatform(core.cpu, 0x20_0000);
      const iommu = yield* startIommu(core, platform.dmar, { passThrough: true });
      const [accelerator, share] = yield* scanPci(core, platform.ecam);
      const idxd = yield* Idxd.probe(core, accelerator!, iommu);
      const fileShare = yield* FileShare.probe(core, share!);
      return { core, cpuState, share: fileShare, idxd, sva: iommu.sva };
    })(),
  );
}

const NOOP = encodeDescriptor({ opcode: Opcode.NOOP });

test('the first ENQCMD raises #GP and loads IA32_PASID; each thread has its own', (t) => {
  const bench = new Bench();
  const all = services(bench);
  const values: bigint[] = [];
  function* program(process: Process): Task<number> {
    const device = yield* process.openDevice();
    t.true(process.enqcmd(device.portal, NOOP));
    yield* process.sleep(1000);
    values.push(bench.core.cpu.rdmsr(IA32_PASID));
    t.true(process.enqcmd(device.portal + 64, NOOP));
    return 0;
  }
  const threads = [1, 2].map((pid) => {
    const process = new Process(all, pid, 'test', MMAP_BASE);
    return bench.core.sched.spawn(
      'test',
      process.run(() => program(process)),
      process,
    );
  });
  for (const thread of threads) t.is(bench.machine.run(bench.core.sched.run(thread)), 0);
  t.deepEqual(values, [0x8000_0001n, 0x8000_0002n]);
  t.is(bench.machine.named('guest:write_msr').length, 2);
});

test('ENQCMD without a bind is a general protection fault that ends the program', (t) => {
  const bench = new Bench();
  const process = new Process(services(bench), 1, 'test', MMAP_BASE);
  function* program(): Task<number> {
    process.enqcmd(MMAP_BASE, NOOP);
    return 0;
  }
  const thread = bench.core.sched.spawn('test', process.run(program), process);
  t.is(bench.machine.run(bench.core.sched.run(thread)), EXIT_FAULT);
  const [error] = bench.machine.named('guest:program_result');
  t.regex(String(error!.values['value']), /EFAULT: general protection fault/);
});

test('a program that dies with the device open is unbound and all its memory returned', (t) => {
  const bench = new Bench();
  const all = services(bench);
  const free = bench.core.pages.freePages;
  const process = new Process(all, 1, 'test', MMAP_BASE);
  function* program(): Task<number> {
    const device = yield* process.openDevice();
    const at = process.mmap(3 * 4096, 'test');
    process.store(at, new Uint8Array(3 * 4096));
    process.enqcmd(device.portal, NOOP);
    process.load(0x10, new Uint8Array(1));
    return 0;
  }
  const thread = bench.core.sched.spawn('test', process.run(program), process);
  t.is(bench.machine.run(bench.core.sched.run(thread)), EXIT_FAULT);
  const names = bench.machine.events.map((e) => e.def.name);
  t.true(names.includes('guest:iommu_sva_unbind_device'));
  const entries = bench.machine.named('guest:pasid_entry').filter((e) => e.values['pasid'] === 1);
  t.deepEqual(
    entries.map((e) => e.values['change']),
    ['set', 'clear'],
  );
  // The PASID table that the first bind made stays.
  t.true(free - bench.core.pages.freePages <= 1);
  t.is(bench.core.pages.committedPages, 0);
});

test('an error that no record could carry reaches the program it concerns', (t) => {
  const bench = new Bench();
  const process = new Process(services(bench), 1, 'test', MMAP_BASE);
  function* program(): Task<number> {
    yield* process.openDevice();
    bench.machine.accelerator.softwareError(process.mm.pasid, 0x1a, 0x7000n);
    yield* process.waitForCompletion();
    return 0;
  }
  const thread = bench.core.sched.spawn('test', process.run(program), process);
  t.is(bench.machine.run(bench.core.sched.run(thread)), EXIT_FAULT);
  const [error] = bench.machine.named('guest:program_result');
  t.is(error!.values['value'], 'EIO: the accelerator reports COMPLETION_FAULT at 0x7000 of NOOP');
  t.is(bench.machine.accelerator.read(0xc0, 8), 0n);
});
