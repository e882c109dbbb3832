import test from 'ava';

import { DsaStatus } from '../../devices/spec/dsa/completion.ts';
import { crc32c } from '../../devices/spec/dsa/crc.ts';
import { FS } from '../../devices/spec/x86/paging.ts';
import { bootGuest } from '../../guest/kernel.ts';
import { FakeMachine, type MachineOptions } from './machine/machine.ts';

function pattern(bytes: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, i) => (i * 31 + (i >>> 8) * 7 + 1) & 0xff);
}

function boot(options: MachineOptions): { machine: FakeMachine; code: number } {
  const machine = new FakeMachine(options);
  const code = machine.run(bootGuest(machine.cpu, machine.trace));
  return { machine, code };
}

function errors(machine: FakeMachine): string[] {
  const results = machine.named('guest:program_result');
  return results.filter((e) => e.values['what'] === 'error').map((e) => String(e.values['value']));
}

for (const size of [0, 1, 4095, 4096, 4097, 1 << 20]) {
  test(`copies a file of ${size} bytes`, (t) => {
    const input = pattern(size);
    const { machine, code } = boot({ input });
    t.deepEqual(errors(machine), []);
    t.is(code, 0);
    t.deepEqual(machine.outputs.get(0), input);
    t.is(machine.named('guest:iommu_sva_bind_device').length, 1);
    t.is(machine.named('guest:iommu_sva_unbind_device').length, 1);
    t.is(machine.named('guest:mm_move_root').length, 1);
    t.is(machine.named('guest:write_msr').length, 1);
    const pages = Math.ceil(size / 4096);
    const middle = size === 0 ? 0 : Math.max(1, Math.floor(pages / 2));
    t.is(machine.accelerator.pageRequests, pages + middle);
    t.is(machine.named('guest:prq_report').length, pages + middle);
    t.is(machine.named('guest:page_group_response').length, pages + middle);
  });
}

test('the program does not take the device at its word: bytes and CRC are its own look', (t) => {
  const input = pattern(40_000);
  const right = crc32c(input);
  for (const lies of [{ damage: true, crc: right }, { crc: ~right >>> 0 }]) {
    const machine = new FakeMachine({ input });
    Object.assign(machine.accelerator.lies, lies);
    t.is(machine.run(bootGuest(machine.cpu, machine.trace)), 1);
    t.deepEqual(errors(machine), [], 'every operation reported success');
    const verdict = machine
      .named('guest:program_result')
      .find((e) => e.values['what'] === 'verified');
    t.is(verdict?.values['value'], 'no');
  }
});

test('several processes copy at once, each with its own PASID and output', (t) => {
  const input = pattern(100_000);
  const { machine, code } = boot({ input, commandLine: 'name=vm3 procs=4 seed=7' });
  t.deepEqual(errors(machine), []);
  t.is(code, 0);
  for (let i = 0; i < 4; i++) t.deepEqual(machine.outputs.get(i), input);
  const pasids = machine.named('guest:iommu_sva_bind_device').map((e) => e.values['pasid']);
  t.deepEqual(pasids, [1, 2, 3, 4]);
  t.true(machine.events.every((e) => e.values['vm'] === 'vm3'));
  const roots = new Set(machine.named('guest:iommu_sva_bind_device').map((e) => e.values['pgd']));
  t.is(roots.size, 4);
});

test('a device that fails the drain at close: the bind ends all the same, the others go on', (t) => {
  const input = pattern(5000);
  const machine = new FakeMachine({ input, commandLine: 'procs=2' });
  machine.accelerator.undrainable.add(1);
  t.is(machine.run(bootGuest(machine.cpu, machine.trace)), 1);
  t.is(errors(machine).length, 1);
  t.regex(errors(machine)[0]!, /EIO: DRAIN_PASID/i);
  t.deepEqual(machine.outputs.get(1), input);
  const unbound = machine.named('guest:iommu_sva_unbind_device').map((e) => e.values['pasid']);
  t.deepEqual(unbound, [1, 2]);
});

test('a program that dies on a device that fails the drain does not take the kernel along', (t) => {
  const machine = new FakeMachine({ input: pattern(5000), commandLine: 'procs=2' });
  machine.accelerator.undrainable.add(1);
  machine.accelerator.lies.status = { pasid: 1, status: DsaStatus.INVALID_FLAGS };
  t.is(machine.run(bootGuest(machine.cpu, machine.trace)), 1);
  t.is(errors(machine).length, 2, 'why it died, and what the device said at the end');
  t.is(machine.named('guest:iommu_sva_unbind_device').length, 2);
  t.deepEqual(machine.outputs.get(1), pattern(5000));
});

test('five levels with la57=1, four without the CPU feature', (t) => {
  const input = pattern(5000);
  const cap = new FakeMachine().unit.read(8, 8) | (1n << 60n);
  const five = boot({ input, cap, commandLine: 'la57=1' });
  t.is(five.code, 0);
  t.true(five.machine.cpu.la57);
  const qw2 = five.machine.named('guest:pasid_entry').find((e) => e.values['pasid'] === 1);
  t.is((qw2!.values['qw2'] as bigint) & 0xcn, 4n);
  t.deepEqual(five.machine.outputs.get(0), input);
});

test('a unit that cannot walk five levels refuses SVA to a five-level kernel', (t) => {
  const { machine, code } = boot({ input: pattern(10), commandLine: 'la57=1' });
  t.is(code, 1);
  t.regex(errors(machine).join(), /EOPNOTSUPP.*share CPU page tables/);
});

test('same seed, same trace; another seed, another place for the buffers', (t) => {
  const input = pattern(10_000);
  const run = (seed: number): string => {
    const { machine } = boot({ input, commandLine: `seed=${seed}` });
    const shown = machine.events.map((e) => [
      e.seq,
      e.ns,
      e.cause,
      e.def.name,
      ...Object.values(e.values),
    ]);
    return shown.join('\n');
  };
  t.is(run(1), run(1));
  t.not(run(1), run(2));
});

test('without user interrupts the program polls, and retries a full queue', (t) => {
  const input = pattern(70_000);
  const machine = new FakeMachine({ input });
  machine.accelerator.userInterrupts = false;
  machine.accelerator.retries = 5;
  t.is(machine.run(bootGuest(machine.cpu, machine.trace)), 0);
  t.deepEqual(machine.outputs.get(0), input);
  const retried = machine.named('guest:enqcmd').filter((e) => e.values['result'] === 'ZF=1, retry');
  t.is(retried.length, 5);
});

test('a file that does not fit is refused with the numbers, and nothing is left behind', (t) => {
  const { machine, code } = boot({ ramBytes: 12 << 20, input: pattern(6 << 20) });
  t.is(code, 1);
  t.regex(errors(machine).join(), /ENOMEM: out of guest memory: \d+ bytes asked for, \d+ left/);
  t.is(machine.named('guest:iommu_sva_unbind_device').length, 1);
});

test('a machine without a unit, and a broken boot page, power off with the kernel code', (t) => {
  const none = boot({ dmar: false });
  t.is(none.code, 2);
  t.regex(errors(none.machine).join(), /ENODEV: no DMAR unit/);
  const broken = new FakeMachine();
  broken.cpu.write64(0x1000, 1n);
  t.is(broken.run(bootGuest(broken.cpu, broken.trace)), 2);
  t.is(boot({ commandLine: 'procs=0' }).code, 2);
});

test('the device comes up in the order Linux uses, and goes down in reverse', (t) => {
  const { machine } = boot({ input: pattern(1) });
  const writes = machine.configWrites.filter((w) => /^8:1[0-2][0-9a-f]=/.test(w));
  // PASID (privileged too), ATS, PRI reset, PRI allocation, PRI enable.
  t.deepEqual(writes, ['8:126=5', '8:106=8000', '8:114=2', '8:11c=20', '8:114=1']);
  const commands = machine.accelerator.commands.map(({ command }) => command);
  t.deepEqual(commands, [5, 1, 6, 11, 7, 2]);
  const contexts = machine.named('guest:context_entry').map((e) => e.values['qw0'] as bigint);
  t.deepEqual(
    contexts.map((qw0) => qw0 & 0xfffn),
    [0xe0dn, 0xe1dn],
  );
});

test('pages the CPU and the device used are marked in the tables', (t) => {
  const { machine } = boot({ input: pattern(4096) });
  const faults = machine.named('guest:handle_mm_fault').filter((e) => e.values['by'] === 'device');
  t.is(faults.length, 2);
  for (const fault of faults) {
    const pte = BigInt(fault.values['pte'] as string);
    t.is(pte & 0xfffn, FS.P | FS.RW | FS.US);
    t.is(fault.values['result'], 'mapped');
  }
});

test('the chain of causes leads from a page response back to the program step', (t) => {
  const { machine } = boot({ input: pattern(4096) });
  const by = new Map(machine.events.map((e) => [e.seq, e]));
  const entry = machine.named('guest:pasid_entry').find((e) => e.values['change'] === 'replace');
  const names: string[] = [];
  for (let e = entry; e !== undefined; e = by.get(e.cause)) names.push(e.def.name);
  t.deepEqual(names.slice(0, 4), [
    'guest:pasid_entry',
    'guest:mm_move_root',
    'guest:program',
    'guest:sched_process_exec',
  ]);
  const response = machine.named('guest:page_group_response')[0]!;
  t.is(by.get(response.cause)?.def.name, 'guest:prq_report');
});
