/**
 * The user program `copy`: copies the shared file into a buffer whose pages do not exist yet, with
 * the accelerator under the process's own PASID, and checks it; then loses part of the buffer, gets
 * it back empty, is moved to another page table, and does it again.
 */
import { crcBegin, crcEnd, crcUpdate } from '../../devices/spec/dsa/crc.ts';
import { PAGE_SIZE } from '../../devices/spec/x86/paging.ts';
import { GuestError } from '../errno.ts';
import type { Task } from '../task.ts';
import { chunks, DsaClient } from './dsa.ts';
import type { User } from './user.ts';

/** Bytes the CPU looks at before it lets other threads run. */
const LOOK_BYTES = 0x4_0000;

/** Where the buffers are; no buffers for an empty file. */
interface Buffers {
  readonly source: number;
  readonly destination: number;
  readonly size: number;
}

/**
 * Runs the copy of process number `index`, which writes output file `index`. Exit code 0 only when
 * everything was verified; GuestError ends it early.
 */
export function* copyProgram(user: User, index: number): Task<number> {
  const size = user.fileSize;
  const source = yield* readInput(user, size);
  const dsa = yield* openAccelerator(user);
  const destination = size === 0 ? 0 : user.mmap(size, 'destination buffer');
  const buffers: Buffers = { source, destination, size };
  const first = yield* copyAndCheck(user, dsa, buffers, 'copy to a buffer with no pages yet');
  yield* remapMiddle(user, buffers);
  yield* moveRoot(user);
  const again = yield* copyAndCheck(user, dsa, buffers, 'copy again through the new page table');
  const verified = first && again;
  yield* finish(user, index, buffers);
  user.result('verified', verified ? 'yes' : 'no');
  return verified ? 0 : 1;
}

function* readInput(user: User, size: number): Task<number> {
  using _step = user.step(`read the file: ${size} bytes`);
  if (size === 0) return 0;
  const source = user.mmap(size, 'source buffer');
  yield* user.readFile(source, size, 0);
  return source;
}

function* openAccelerator(user: User): Task<DsaClient> {
  using _step = user.step('open the accelerator: bind this address space to it');
  const device = yield* user.openDevice();
  user.result('pasid', String(device.pasid));
  const dsa = new DsaClient(user, device);
  yield* dsa.hello();
  return dsa;
}

/**
 * MEMMOVE, then the device's CRC of both buffers and its comparison, and whether the CPU finds the
 * same: the device is not believed that the copy is there.
 */
function* copyAndCheck(user: User, dsa: DsaClient, buffers: Buffers, what: string): Task<boolean> {
  const { source, destination, size } = buffers;
  using _step = user.step(size === 0 ? `${what}: nothing to copy` : `${what}: ${size} bytes`);
  if (size === 0) {
    yield* dsa.hello();
    return true;
  }
  yield* dsa.copy(source, destination, size);
  const expected = yield* dsa.crc(source, size);
  const crc = yield* dsa.crc(destination, size);
  const equal = yield* dsa.equal(source, destination, size);
  const own = yield* look(user, buffers);
  user.result('crc32c of source', hex(expected));
  user.result('crc32c of destination', hex(crc));
  user.result('crc32c by the CPU', hex(own.crc));
  user.result('compare', equal ? 'equal' : 'different');
  return equal && own.equal && expected === own.crc && crc === own.crc;
}

/** The program's own look at every byte: the source's CRC, and whether the destination equals it. */
function* look(user: User, buffers: Buffers): Task<{ crc: number; equal: boolean }> {
  const { source, destination, size } = buffers;
  let register = crcBegin(0);
  let equal = true;
  for (const { at, size: length } of chunks(size, LOOK_BYTES)) {
    const [a, b] = [new Uint8Array(length), new Uint8Array(length)];
    user.load(source + at, a);
    user.load(destination + at, b);
    register = crcUpdate(register, a);
    equal &&= a.every((byte, i) => byte === b[i]);
    yield* user.sleep(0);
  }
  return { crc: crcEnd(register), equal };
}

/** Unmaps about the middle half of the destination (the page of a one-page file) and maps it anew. */
function* remapMiddle(user: User, buffers: Buffers): Task {
  using _step = user.step('unmap the middle of the destination and map it anew');
  const { destination, size } = buffers;
  if (size === 0) return;
  const pages = Math.ceil(size / PAGE_SIZE);
  const at = destination + Math.floor(pages / 4) * PAGE_SIZE;
  const bytes = Math.max(1, Math.floor(pages / 2)) * PAGE_SIZE;
  yield* user.munmap(at, bytes);
  if (user.mmap(bytes, 'middle of the destination', at) !== at) {
    throw new GuestError('EINVAL', 'the mapping came to another place');
  }
}

function* moveRoot(user: User): Task {
  using _step = user.step('the kernel moves the process to another page table root');
  yield* user.moveRoot();
}

function* finish(user: User, index: number, buffers: Buffers): Task {
  using _step = user.step('write the destination out, close the accelerator');
  yield* user.writeOutput(index, buffers.destination, buffers.size);
  yield* user.closeDevice();
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
