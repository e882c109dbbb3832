/**
 * The user program `leave`: gives the accelerator copies to pages that are not there, and ends
 * without waiting for them or closing anything, as a killed program does.
 */
import { encodeDescriptor } from '../../devices/spec/dsa/descriptor.ts';
import { DescriptorFlag, Opcode } from '../../devices/spec/dsa/opcodes.ts';
import { PAGE_SIZE } from '../../devices/spec/x86/paging.ts';
import type { Task } from '../task.ts';
import { DsaClient } from './dsa.ts';
import type { User } from './user.ts';

const PAGES = 64;
const COPIES = 4;
const RECORD_BYTES = 32;
/** Longest stay after the submission, in ns; each process stays another time. */
const STAY_NS = 20_000;

/** Runs `leave` as process number `index`. Exit code 0, or GuestError ends it early. */
export function* leaveProgram(user: User, index: number): Task<number> {
  using _step = user.step('give the accelerator work and leave');
  const source = user.mmap(PAGES * PAGE_SIZE, 'source');
  const target = user.mmap(PAGES * PAGE_SIZE, 'target');
  const records = user.mmap(PAGE_SIZE, 'records');
  for (let page = 0; page < PAGES; page++) {
    user.store(source + page * PAGE_SIZE, new Uint8Array(PAGE_SIZE).fill(index + 1));
  }
  const device = yield* user.openDevice();
  const dsa = new DsaClient(user, device);
  yield* dsa.hello();
  yield* dsa.copy(source, target, PAGE_SIZE);
  const part = (PAGES / COPIES) * PAGE_SIZE;
  for (let i = 0; i < COPIES; i++) {
    const bytes = encodeDescriptor({
      opcode: Opcode.MEMMOVE,
      flags:
        DescriptorFlag.COMPLETION_VALID |
        DescriptorFlag.REQUEST_COMPLETION |
        DescriptorFlag.BLOCK_ON_FAULT,
      source: BigInt(source + i * part),
      destination: BigInt(target + i * part),
      size: part,
      completion: BigInt(records + RECORD_BYTES * i),
    });
    while (!user.enqcmd(device.portal, bytes)) yield* user.sleep(1000);
  }
  yield* user.sleep((index * 7919) % STAY_NS);
  return 0;
}
