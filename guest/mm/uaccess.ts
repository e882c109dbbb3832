/** User-mode accesses and the kernel's user copies: a missing page is brought in and tried again. */
import { PAGE_SIZE } from '../../devices/spec/x86/paging.ts';
import type { Cpu, PageFault } from '../cpu.ts';
import { GuestError } from '../errno.ts';
import { type AddressSpace, faultResolved } from './mm.ts';

/** Tries of one access within a page: a fault that is resolved and yet comes back is a bug. */
const MAX_TRIES = 4;

/**
 * Serves a #PF of the current address space. Throws GuestError EFAULT (SIGSEGV for a program) if the
 * access is not allowed, ENOMEM if there is no page for it.
 */
export function serveFault(mm: AddressSpace, fault: PageFault): void {
  const outcome = mm.handleFault(Number(fault.address), fault.write, 'cpu');
  if (faultResolved(outcome)) return;
  const access = `${fault.write ? 'write' : 'read'} at 0x${fault.address.toString(16)}`;
  if (outcome === 'oom') throw new GuestError('ENOMEM', `no page for a ${access}`);
  throw new GuestError('EFAULT', `${access}: ${outcome}`);
}

/** Runs an access until it meets no page fault. GuestError EFAULT or ENOMEM. */
export function retryFaults<T>(mm: AddressSpace, access: () => T | PageFault): T {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const result = access();
    if (!isFault(result)) return result;
    serveFault(mm, result);
  }
  throw new GuestError('EFAULT', `pid ${mm.pid}: an access faults again after it was served`);
}

function isFault(result: unknown): result is PageFault {
  return typeof result === 'object' && result !== null && 'present' in result;
}

/** Loads `into.length` bytes at a user address, page by page. The space must be the CPU's. */
export function copyFromUser(cpu: Cpu, mm: AddressSpace, address: number, into: Uint8Array): void {
  eachPage(address, into, (at, part) => {
    retryFaults(mm, () => cpu.readVirtual(BigInt(at), part));
  });
}

/** Stores `from` at a user address, page by page. The space must be the CPU's. */
export function copyToUser(cpu: Cpu, mm: AddressSpace, address: number, from: Uint8Array): void {
  eachPage(address, from, (at, part) => {
    retryFaults(mm, () => cpu.writeVirtual(BigInt(at), part));
  });
}

function eachPage(
  address: number,
  bytes: Uint8Array,
  act: (at: number, part: Uint8Array) => void,
): void {
  for (let done = 0; done < bytes.length; ) {
    const at = address + done;
    const length = Math.min(PAGE_SIZE - (at % PAGE_SIZE), bytes.length - done);
    act(at, bytes.subarray(done, done + length));
    done += length;
  }
}
