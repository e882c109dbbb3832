/** A whole kernel with the selftest's command, and a program that uses it. */
import { bootKernel } from '../../../../host/kernel/boot.ts';
import type { Kernel, KernelOptions } from '../../../../host/kernel/kernel.ts';
import { Machine } from '../../../../host/machine/machine.ts';
import type { Task } from '../../../../host/syscall.ts';
import { errnoName } from '../../../../host/uapi/errno.ts';
import {
  IOMMU_HWPT_DATA_SELFTEST,
  IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
  IOMMUFD_CMD,
  iommu_hwpt_alloc,
  iommu_hwpt_invalidate,
  iommu_hwpt_page_response,
  iommu_hwpt_pgfault,
} from '../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../host/uapi/iommufd-test.ts';
import type { Fields, Struct, Values } from '../../../../host/uapi/struct.ts';
import { Client, type IdOrError } from '../iommufd/client.ts';
import { User } from '../iommufd/world.ts';

export const BASE = uapi.MOCK_APERTURE_START;
export const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };
export const PAGE = 4096;

/** What a program gives an operation: everything behind the command's head. */
type Arguments<F extends Fields> = Partial<Omit<Values<F>, 'size' | 'op' | '__reserved'>>;

export interface MockWorld {
  readonly kernel: Kernel;
  run<T>(task: Task<T>): T;
  user(): User;
  tester(user?: User): Tester;
}

export function makeMockWorld(options: KernelOptions = {}): MockWorld {
  const machine = new Machine({ ramBytes: 64 << 20, seed: 1, functions: [] });
  const run = <T>(task: Task<T>): T => {
    const thread = machine.scheduler.spawn('test', task);
    machine.clock.run(() => thread.done);
    if (thread.failed) {
      machine.scheduler.observed(thread);
      throw thread.error;
    }
    return thread.result as T;
  };
  const kernel = run(bootKernel(machine, { selftest: true, ...options }));
  kernel.failpoints.disarm();
  const user = (): User => new User(kernel.createProcess('test'), run);
  return { kernel, run, user, tester: (who = user()) => new Tester(who) };
}

/** A mock device as its maker knows it. */
export interface Mock {
  readonly stdev: number;
  readonly hwpt: number;
  readonly idev: number;
}

export class Tester extends Client {
  /** An operation: 'OK' or the error's name, and the variant as it came back. */
  op<F extends Fields>(
    op: number,
    variant: Struct<F>,
    values: Arguments<F>,
  ): { result: string; out: Values<F> } {
    const bytes = new Uint8Array(uapi.iommu_test_cmd.size);
    const view = new DataView(bytes.buffer);
    variant.write(view, 0, values as Partial<Values<F>>);
    uapi.iommu_test_cmd.write(view, 0, { size: bytes.length, op });
    const result = this.user.raw(this.fd, uapi.IOMMU_TEST_CMD, bytes);
    const back = this.user.read(this.user.scratch, bytes.length);
    return { result, out: variant.read(new DataView(back.buffer)) };
  }

  does<F extends Fields>(op: number, variant: Struct<F>, values: Arguments<F>): string {
    return this.op(op, variant, values).result;
  }

  mock(pt: number, flags = 0): Mock {
    const made = this.tryMock(pt, flags);
    if (typeof made === 'string') throw new Error(made);
    return made;
  }

  tryMock(pt: number, flags = 0): Mock | string {
    const variant = uapi.iommu_test_mock_domain_flags;
    const { result, out } = this.op(uapi.IOMMU_TEST_OP_MOCK_DOMAIN_FLAGS, variant, {
      id: pt,
      dev_flags: flags,
    });
    if (result !== 'OK') return result;
    return { stdev: out.out_stdev_id, hwpt: out.out_hwpt_id, idev: out.out_idev_id };
  }

  replace(stdev: number, pt: number): IdOrError {
    const variant = uapi.iommu_test_mock_domain_replace;
    const op = uapi.IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE;
    const { result, out } = this.op(op, variant, { id: stdev, pt_id: pt });
    return result === 'OK' ? out.pt_id : result;
  }

  pasidAttach(stdev: number, pasid: number, pt: number): IdOrError {
    const op = uapi.IOMMU_TEST_OP_PASID_ATTACH;
    const values = { id: stdev, pasid, pt_id: pt };
    const { result, out } = this.op(op, uapi.iommu_test_pasid_attach, values);
    return result === 'OK' ? out.pt_id : result;
  }

  pasidReplace(stdev: number, pasid: number, pt: number): IdOrError {
    const op = uapi.IOMMU_TEST_OP_PASID_REPLACE;
    const values = { id: stdev, pasid, pt_id: pt };
    const { result, out } = this.op(op, uapi.iommu_test_pasid_replace, values);
    return result === 'OK' ? out.pt_id : result;
  }

  pasidDetach(stdev: number, pasid: number): string {
    const values = { id: stdev, pasid };
    return this.does(uapi.IOMMU_TEST_OP_PASID_DETACH, uapi.iommu_test_pasid_detach, values);
  }

  pasidCheck(stdev: number, pasid: number, hwpt: number): string {
    const values = { id: stdev, pasid, hwpt_id: hwpt };
    return this.does(uapi.IOMMU_TEST_OP_PASID_CHECK_HWPT, uapi.iommu_test_pasid_check, values);
  }

  checkMap(hwpt: number, iova: number, length: number, address: number): string {
    return this.does(uapi.IOMMU_TEST_OP_MD_CHECK_MAP, uapi.iommu_test_check_map, {
      id: hwpt,
      iova: BigInt(iova),
      length: BigInt(length),
      uptr: BigInt(address),
    });
  }

  checkRefs(address: number, length: number, refs: number): string {
    return this.does(uapi.IOMMU_TEST_OP_MD_CHECK_REFS, uapi.iommu_test_check_refs, {
      length: BigInt(length),
      uptr: BigInt(address),
      refs,
    });
  }

  reserve(ioas: number, start: bigint, length: bigint): string {
    const values = { id: ioas, start, length };
    return this.does(uapi.IOMMU_TEST_OP_ADD_RESERVED, uapi.iommu_test_add_reserved, values);
  }

  /** The access's file descriptor, or the error's name. */
  access(ioas: number, pins = true, flags = pins ? 1 : 0): IdOrError {
    const op = uapi.IOMMU_TEST_OP_CREATE_ACCESS;
    const { result, out } = this.op(op, uapi.iommu_test_create_access, { id: ioas, flags });
    return result === 'OK' ? out.out_access_fd : result;
  }

  accessReplace(fd: number, ioas: number): string {
    const op = uapi.IOMMU_TEST_OP_ACCESS_REPLACE_IOAS;
    return this.does(op, uapi.iommu_test_access_replace_ioas, { id: fd, ioas_id: ioas });
  }

  pin(fd: number, iova: number, length: number, address: number, flags = 0): IdOrError {
    const variant = uapi.iommu_test_access_pages;
    const { result, out } = this.op(uapi.IOMMU_TEST_OP_ACCESS_PAGES, variant, {
      id: fd,
      flags,
      iova: BigInt(iova),
      length: BigInt(length),
      uptr: BigInt(address),
    });
    return result === 'OK' ? out.out_access_pages_id : result;
  }

  unpin(fd: number, id: number): string {
    const op = uapi.IOMMU_TEST_OP_DESTROY_ACCESS_PAGES;
    return this.does(op, uapi.iommu_test_destroy_access_pages, { id: fd, access_pages_id: id });
  }

  rw(fd: number, iova: number, length: number, address: number, flags = 0): string {
    return this.does(uapi.IOMMU_TEST_OP_ACCESS_RW, uapi.iommu_test_access_rw, {
      id: fd,
      iova: BigInt(iova),
      length: BigInt(length),
      uptr: BigInt(address),
      flags,
    });
  }

  checkIotlb(hwpt: number, index: number, value: number): string {
    const values = { id: hwpt, iotlb_id: index, iotlb: value };
    return this.does(uapi.IOMMU_TEST_OP_MD_CHECK_IOTLB, uapi.iommu_test_check_iotlb, values);
  }

  checkCache(idev: number, index: number, value: number): string {
    const values = { id: idev, cache_id: index, cache: value };
    return this.does(uapi.IOMMU_TEST_OP_DEV_CHECK_CACHE, uapi.iommu_test_check_dev_cache, values);
  }

  memoryLimit(limit: number): string {
    const op = uapi.IOMMU_TEST_OP_SET_TEMP_MEMORY_LIMIT;
    return this.does(op, uapi.iommu_test_memory_limit, { limit });
  }

  triggerFault(idev: number, pasid = 0, addr = 0xdead_beafn): string {
    const values = { dev_id: idev, pasid, grpid: 2, perm: 3, addr };
    return this.does(uapi.IOMMU_TEST_OP_TRIGGER_IOPF, uapi.iommu_test_trigger_iopf, values);
  }

  /** A nested HWPT with the mock's payload. */
  mockNested(
    idev: number,
    parent: number,
    flags = 0,
    more: { fault?: number; type?: number; length?: number; address?: number } = {},
  ): IdOrError {
    const data = uapi.iommu_hwpt_selftest.encode({ iotlb: uapi.IOMMU_TEST_IOTLB_DEFAULT });
    this.user.write(this.payload, data);
    const cmd = IOMMUFD_CMD.IOMMU_HWPT_ALLOC;
    const { result, out } = this.user.call(this.fd, cmd, iommu_hwpt_alloc, {
      dev_id: idev,
      pt_id: parent,
      flags,
      data_type: more.type ?? IOMMU_HWPT_DATA_SELFTEST,
      data_len: more.length ?? data.length,
      data_uptr: BigInt(more.address ?? this.payload),
      fault_id: more.fault ?? 0,
    });
    return result === 'OK' ? out.out_hwpt_id : result;
  }

  /** A paging HWPT with the mock's payload. */
  mockPaging(idev: number, ioas: number, flags: number, format: number): IdOrError {
    const data = uapi.iommu_hwpt_selftest.encode({ pagetable_type: format });
    this.user.write(this.payload, data);
    const cmd = IOMMUFD_CMD.IOMMU_HWPT_ALLOC;
    const { result, out } = this.user.call(this.fd, cmd, iommu_hwpt_alloc, {
      dev_id: idev,
      pt_id: ioas,
      flags,
      data_type: IOMMU_HWPT_DATA_SELFTEST,
      data_len: data.length,
      data_uptr: BigInt(this.payload),
    });
    return result === 'OK' ? out.out_hwpt_id : result;
  }

  /** Invalidates entries of a mock nested HWPT: the result and how many were done. */
  invalidate(
    hwpt: number,
    entries: readonly { flags: number; iotlb_id: number }[],
    more: { type?: number; length?: number } = {},
  ): { result: string; done: number } {
    const struct = uapi.iommu_hwpt_invalidate_selftest;
    entries.forEach((entry, index) => {
      this.user.write(this.payload + index * struct.size, struct.encode(entry));
    });
    const cmd = IOMMUFD_CMD.IOMMU_HWPT_INVALIDATE;
    const { result, out } = this.user.call(this.fd, cmd, iommu_hwpt_invalidate, {
      hwpt_id: hwpt,
      data_uptr: BigInt(this.payload),
      data_type: more.type ?? IOMMU_HWPT_INVALIDATE_DATA_SELFTEST,
      entry_len: more.length ?? struct.size,
      entry_num: entries.length,
    });
    return { result, done: out.entry_num };
  }

  /** Reads all fault records there are. */
  faults(fd: number): Values<typeof iommu_hwpt_pgfault.fields>[] {
    const { size } = iommu_hwpt_pgfault;
    const count = this.user.run(this.user.process.read(fd, this.payload, 4 * size));
    if (count < 0) throw new Error(errnoName(count));
    const view = new DataView(this.user.read(this.payload, count).buffer);
    return Array.from({ length: count / size }, (_, i) => iommu_hwpt_pgfault.read(view, i * size));
  }

  answer(fd: number, cookie: number, code = 0): number {
    const bytes = iommu_hwpt_page_response.encode({ cookie, code });
    this.user.write(this.payload, bytes);
    return this.user.run(this.user.process.write(fd, this.payload, bytes.length));
  }

  close(): void {
    const result = this.user.close(this.fd);
    if (result !== 0) throw new Error(errnoName(result));
  }
}
