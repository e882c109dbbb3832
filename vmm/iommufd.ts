import type { Syscalls, Task } from '../host/syscall.ts';
import * as uapi from '../host/uapi/iommufd.ts';
import { O_RDWR } from '../host/uapi/poll.ts';
import type { Fields, Struct, Values } from '../host/uapi/struct.ts';
import type { Heap } from './heap.ts';
import { check } from './sys-error.ts';

const U64_MAX = 0xffff_ffff_ffff_ffffn;

/**
 * One ioctl with a structure in the VMM's memory: written, passed, read back, freed.
 *
 * @throws SysError naming the ioctl
 */
export function* ioctl<F extends Fields>(
  sys: Syscalls,
  heap: Heap,
  fd: number,
  name: string,
  request: number,
  type: Struct<F>,
  values: Partial<Values<F>>,
): Task<Values<F>> {
  const bytes = type.encode(values);
  const address = heap.alloc(type.size);
  try {
    sys.memory.write(address, bytes);
    check(name, yield* sys.ioctl(fd, request, address));
    sys.memory.read(address, bytes);
    return type.read(new DataView(bytes.buffer));
  } finally {
    heap.free(address, type.size);
  }
}

/** What GET_HW_INFO says of the unit and the function behind it. */
export interface HwInfo {
  readonly cap: bigint;
  readonly ecap: bigint;
  /** log2 of the PASIDs the function may use; 0: none. */
  readonly maxPasidLog2: number;
  /** IOMMU_HW_CAP bits. */
  readonly capabilities: bigint;
}

/** First-stage table of a guest, for a nested HWPT. */
export interface Stage1 {
  /** IOMMU_VTD_S1 bits. */
  readonly flags: bigint;
  /** Guest physical address of the top table. */
  readonly pgtbl: bigint;
  /** 48 or 57. */
  readonly width: number;
}

/** /dev/iommu. Every method is one ioctl (host/uapi/iommufd.ts) and throws SysError. */
export class Iommufd {
  readonly fd: number;
  readonly #sys: Syscalls;
  readonly #heap: Heap;

  private constructor(sys: Syscalls, heap: Heap, fd: number) {
    this.#sys = sys;
    this.#heap = heap;
    this.fd = fd;
  }

  static *open(sys: Syscalls, heap: Heap): Task<Iommufd> {
    const fd = check('open /dev/iommu', yield* sys.open('/dev/iommu', O_RDWR));
    return new Iommufd(sys, heap, fd);
  }

  *close(): Task {
    check('close /dev/iommu', yield* this.#sys.close(this.fd));
  }

  *destroy(id: number): Task {
    yield* this.#call('IOMMU_DESTROY', uapi.iommu_destroy, { size: uapi.iommu_destroy.size, id });
  }

  *allocIoas(): Task<number> {
    const type = uapi.iommu_ioas_alloc;
    const out = yield* this.#call('IOMMU_IOAS_ALLOC', type, { size: type.size });
    return out.out_ioas_id;
  }

  /** IOMMU_OPTION_HUGE_PAGES off: what is mapped from now on takes leaves of 4 KiB. */
  *smallPages(ioas: number): Task {
    yield* this.#call('IOMMU_OPTION', uapi.iommu_option, {
      size: uapi.iommu_option.size,
      option_id: uapi.IOMMU_OPTION_HUGE_PAGES,
      op: uapi.IOMMU_OPTION_OP_SET,
      object_id: ioas,
      val64: 0n,
    });
  }

  /** Maps VMM memory at a fixed IOVA (for guest RAM: its guest physical address), read and write. */
  *map(ioas: number, iova: number, address: number, bytes: number): Task {
    const { IOMMU_IOAS_MAP_FIXED_IOVA, IOMMU_IOAS_MAP_READABLE, IOMMU_IOAS_MAP_WRITEABLE } = uapi;
    yield* this.#call('IOMMU_IOAS_MAP', uapi.iommu_ioas_map, {
      size: uapi.iommu_ioas_map.size,
      flags: IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
      ioas_id: ioas,
      user_va: BigInt(address),
      length: BigInt(bytes),
      iova: BigInt(iova),
    });
  }

  *unmap(ioas: number, iova: number, bytes: number): Task {
    yield* this.#call('IOMMU_IOAS_UNMAP', uapi.iommu_ioas_unmap, {
      size: uapi.iommu_ioas_unmap.size,
      ioas_id: ioas,
      iova: BigInt(iova),
      length: BigInt(bytes),
    });
  }

  *hwInfo(device: number): Task<HwInfo> {
    const data = uapi.iommu_hw_info_vtd;
    const address = this.#heap.alloc(data.size);
    try {
      const out = yield* this.#call('IOMMU_GET_HW_INFO', uapi.iommu_hw_info, {
        size: uapi.iommu_hw_info.size,
        dev_id: device,
        data_len: data.size,
        data_uptr: BigInt(address),
      });
      if (out.out_data_type !== uapi.IOMMU_HW_INFO_TYPE_INTEL_VTD) {
        throw new RangeError(`IOMMU_GET_HW_INFO: type ${out.out_data_type} is not Intel VT-d`);
      }
      const bytes = new Uint8Array(data.size);
      this.#sys.memory.read(address, bytes);
      const { cap_reg, ecap_reg } = data.read(new DataView(bytes.buffer));
      return {
        cap: cap_reg,
        ecap: ecap_reg,
        maxPasidLog2: out.out_max_pasid_log2,
        capabilities: out.out_capabilities,
      };
    } finally {
      this.#heap.free(address, data.size);
    }
  }

  /** The HWPT of all guest RAM, which nested ones go on top of; PASIDs may be attached beside it. */
  *allocParent(device: number, ioas: number): Task<number> {
    const out = yield* this.#call('IOMMU_HWPT_ALLOC', uapi.iommu_hwpt_alloc, {
      size: uapi.iommu_hwpt_alloc.size,
      flags: uapi.IOMMU_HWPT_ALLOC_NEST_PARENT | uapi.IOMMU_HWPT_ALLOC_PASID,
      dev_id: device,
      pt_id: ioas,
    });
    return out.out_hwpt_id;
  }

  /** A nested HWPT for a guest's table. `fault` is the fault queue's id, 0 for none. */
  *allocNested(device: number, parent: number, stage1: Stage1, fault: number): Task<number> {
    const data = uapi.iommu_hwpt_vtd_s1;
    const address = this.#heap.alloc(data.size);
    try {
      const { flags, pgtbl, width } = stage1;
      const payload = data.encode({ flags, pgtbl_addr: pgtbl, addr_width: width });
      this.#sys.memory.write(address, payload);
      const withFault = fault === 0 ? 0 : uapi.IOMMU_HWPT_FAULT_ID_VALID;
      const out = yield* this.#call('IOMMU_HWPT_ALLOC', uapi.iommu_hwpt_alloc, {
        size: uapi.iommu_hwpt_alloc.size,
        flags: uapi.IOMMU_HWPT_ALLOC_PASID | withFault,
        dev_id: device,
        pt_id: parent,
        data_type: uapi.IOMMU_HWPT_DATA_VTD_S1,
        data_len: data.size,
        data_uptr: BigInt(address),
        fault_id: fault,
      });
      return out.out_hwpt_id;
    } finally {
      this.#heap.free(address, data.size);
    }
  }

  /** Drops cached translations of `pages` 4 KiB pages from `address`; `pages` null: everything. */
  *invalidate(hwpt: number, address: bigint, pages: bigint | null, leaf: boolean): Task {
    const entry = uapi.iommu_hwpt_vtd_s1_invalidate;
    const at = this.#heap.alloc(entry.size);
    try {
      const values = {
        addr: pages === null ? 0n : address,
        npages: pages ?? U64_MAX,
        flags: leaf ? uapi.IOMMU_VTD_INV_FLAGS_LEAF : 0,
      };
      this.#sys.memory.write(at, entry.encode(values));
      yield* this.#call('IOMMU_HWPT_INVALIDATE', uapi.iommu_hwpt_invalidate, {
        size: uapi.iommu_hwpt_invalidate.size,
        hwpt_id: hwpt,
        data_uptr: BigInt(at),
        data_type: uapi.IOMMU_HWPT_INVALIDATE_DATA_VTD_S1,
        entry_len: entry.size,
        entry_num: 1,
      });
    } finally {
      this.#heap.free(at, entry.size);
    }
  }

  *allocFaultQueue(): Task<{ readonly id: number; readonly fd: number }> {
    const type = uapi.iommu_fault_alloc;
    const out = yield* this.#call('IOMMU_FAULT_QUEUE_ALLOC', type, { size: type.size });
    return { id: out.out_fault_id, fd: out.out_fault_fd };
  }

  #call<F extends Fields>(
    name: uapi.IommufdCmdName,
    type: Struct<F>,
    values: Partial<Values<F>>,
  ): Task<Values<F>> {
    return ioctl(this.#sys, this.#heap, this.fd, name, uapi.IOMMUFD_CMD[name], type, values);
  }
}
