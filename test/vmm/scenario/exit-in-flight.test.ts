/** A guest program that dies while the device works for it, on the whole machine. */
import test from 'ava';
import {
  BOOT_PARAMS_BYTES,
  BOOT_PARAMS_GPA,
  decodeBootParams,
} from '../../../devices/spec/boot.ts';
import { encodeDescriptor } from '../../../devices/spec/dsa/descriptor.ts';
import { DescriptorFlag, Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import { readPlatform } from '../../../guest/acpi.ts';
import type { Core } from '../../../guest/core.ts';
import { CpuState } from '../../../guest/cpu-state.ts';
import { FileShare } from '../../../guest/drivers/fileshare.ts';
import { Idxd } from '../../../guest/drivers/idxd.ts';
import { startIommu } from '../../../guest/iommu/iommu.ts';
import { Interrupts } from '../../../guest/irq.ts';
import { MMAP_BASE } from '../../../guest/mm/mm.ts';
import { PageAllocator } from '../../../guest/mm/page-alloc.ts';
import { scanPci } from '../../../guest/pci.ts';
import { EXIT_FAULT, Process } from '../../../guest/process.ts';
import { Scheduler, type Thread } from '../../../guest/sched.ts';
import { type Task, waitOn } from '../../../guest/task.ts';
import { copyProgram } from '../../../guest/user/copy.ts';
import type { User } from '../../../guest/user/user.ts';
import type { Tracer } from '../../../trace/tracer.ts';
import type { Vcpu } from '../../../vmm/vcpu.ts';
import { NOTHING, PAGE } from './rig.ts';
import { type Guest, pattern, startVms } from './vms.ts';

const PAGES = 64;
const INPUT = pattern(50_000);

/** Submits copies to pages that are not there, lets `ns` pass, and dies of a bad access. */
function* dies(user: User, ns: number): Task<number> {
  const source = user.mmap(PAGES * PAGE, 'source');
  const target = user.mmap(PAGES * PAGE, 'target');
  const records = user.mmap(PAGE, 'records');
  for (let page = 0; page < PAGES; page++) {
    user.store(source + page * PAGE, new Uint8Array(PAGE).fill(0xee));
  }
  const { portal } = yield* user.openDevice();
  for (let i = 0; i < 4; i++) {
    const flags =
      DescriptorFlag.COMPLETION_VALID |
      DescriptorFlag.REQUEST_COMPLETION |
      DescriptorFlag.BLOCK_ON_FAULT;
    const part = (PAGES / 4) * PAGE;
    const bytes = encodeDescriptor({
      opcode: Opcode.MEMMOVE,
      flags,
      source: BigInt(source + i * part),
      destination: BigInt(target + i * part),
      size: part,
      completion: BigInt(records + 32 * i),
    });
    while (!user.enqcmd(portal, bytes)) yield* user.sleep(1000);
  }
  yield* user.sleep(ns);
  user.load(0x10, new Uint8Array(1));
  return 0;
}

interface Ended {
  readonly codes: number[];
  /** Frames that are free at the end, less those at the start; of memory promised what is left. */
  readonly leak: number;
  readonly committed: number;
}

/** The guest kernel's boot, with a program that dies and one that copies. */
function* life(
  cpu: Vcpu,
  trace: Tracer,
  ns: number,
  tell: (ended: Ended) => void,
): ReturnType<Guest> {
  const page = new Uint8Array(BOOT_PARAMS_BYTES);
  cpu.readBytes(BOOT_PARAMS_GPA, page);
  const params = decodeBootParams(page);
  const platform = readPlatform(cpu, params.rsdp);
  const interrupts = new Interrupts(cpu, trace, 'vm0');
  const sched = new Scheduler(cpu, trace, interrupts);
  const pages = new PageAllocator(cpu, params.ranges, platform.reserved);
  const core: Core = { cpu, trace, vm: 'vm0', interrupts, sched, pages, pagingLevels: 4 };
  function* init(): Task<number> {
    const cpuState = new CpuState(core);
    const iommu = yield* startIommu(core, platform.dmar, { passThrough: false });
    const [, accelerator, share] = yield* scanPci(core, platform.ecam);
    const fileShare = yield* FileShare.probe(core, share!);
    const idxd = yield* Idxd.probe(core, accelerator!, iommu);
    const services = { core, cpuState, share: fileShare, idxd, sva: iommu.sva };
    const free = pages.freePages;
    const start = (pid: number, program: (user: User) => Task<number>): Thread<number> => {
      const process = new Process(services, pid, 'test', MMAP_BASE);
      return sched.spawn(`test/${pid}`, process.run(program), process);
    };
    const threads = [start(1, (user) => dies(user, ns)), start(2, (user) => copyProgram(user, 0))];
    const codes: number[] = [];
    for (const thread of threads) {
      while (!thread.done) yield* waitOn(thread.finished);
      codes.push(thread.result!);
    }
    tell({ codes, leak: free - pages.freePages, committed: pages.committedPages });
    yield* idxd.shutdown();
    yield* iommu.shutdown();
    return 0;
  }
  const code = yield* sched.run(sched.spawn('init', init()));
  yield { kind: 'shutdown', code };
  return code;
}

for (const ns of [0, 500, 2000, 5000, 9000, 14_000, 20_000, 40_000, 100_000, 1_000_000]) {
  test(`a program dies ${ns} ns after it gave the device work; the other one is verified`, (t) => {
    const late: { trace?: Tracer; ended?: Ended } = {};
    const guest: Guest = (cpu) =>
      life(cpu, late.trace!, ns, (ended) => {
        late.ended = ended;
      });
    const { rig, vms } = startVms({ guests: [guest], input: INPUT, guestBytes: 2 ** 24 });
    late.trace = rig.machine.trace;
    rig.settle();
    const [vm] = vms;
    t.is(vm!.result?.crash, undefined);
    t.is(vm!.result?.code, 0);
    t.deepEqual(late.ended?.codes, [EXIT_FAULT, 0]);
    // The page of PASID entries that the first bind made stays.
    t.true(late.ended!.leak <= 1, `${late.ended!.leak} frames`);
    t.is(late.ended!.committed, 0);
    t.deepEqual(vm!.result?.outputs, [INPUT]);
    t.deepEqual(rig.kernel.leftovers(), NOTHING);
  });
}
