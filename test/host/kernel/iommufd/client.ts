/** `/dev/iommu` and a vfio device as a test program drives them. */
import {
  IOMMU_HWPT_DATA_VTD_S1,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMUFD_CMD,
  iommu_destroy,
  iommu_fault_alloc,
  iommu_hwpt_alloc,
  iommu_hwpt_vtd_s1,
  iommu_ioas_alloc,
  iommu_ioas_map,
  iommu_ioas_unmap,
} from '../../../../host/uapi/iommufd.ts';
import type { Fields, Struct, Values } from '../../../../host/uapi/struct.ts';
import {
  VFIO_DEVICE_ATTACH_PASID,
  VFIO_DEVICE_CMD,
  VFIO_DEVICE_DETACH_PASID,
  vfio_device_attach_iommufd_pt,
  vfio_device_bind_iommufd,
  vfio_device_detach_iommufd_pt,
} from '../../../../host/uapi/vfio.ts';
import type { User } from './world.ts';

const RW = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;

/** An id, or the error's name. */
export type IdOrError = number | string;

export class Client {
  readonly user: User;
  readonly fd: number;
  /** Where driver payloads are written. */
  readonly payload: number;

  constructor(user: User) {
    this.user = user;
    this.fd = user.open('/dev/iommu');
    this.payload = user.scratch + 0x1000;
  }

  ioas(): number {
    const { fd } = this;
    return this.user.ok(fd, IOMMUFD_CMD.IOMMU_IOAS_ALLOC, iommu_ioas_alloc, {}).out_ioas_id;
  }

  destroy(id: number): string {
    return this.user.refused(this.fd, IOMMUFD_CMD.IOMMU_DESTROY, iommu_destroy, { id });
  }

  /** Maps at a fixed IOVA. */
  map(ioas: number, address: number, length: number, iova: number, flags = RW): string {
    return this.#call(IOMMUFD_CMD.IOMMU_IOAS_MAP, iommu_ioas_map, {
      flags: flags | IOMMU_IOAS_MAP_FIXED_IOVA,
      ioas_id: ioas,
      user_va: BigInt(address),
      length: BigInt(length),
      iova: BigInt(iova),
    }).result;
  }

  /** Maps where the kernel chooses: the IOVA, or the error's name. */
  mapAnywhere(ioas: number, address: number, length: number): bigint | string {
    const { result, out } = this.#call(IOMMUFD_CMD.IOMMU_IOAS_MAP, iommu_ioas_map, {
      flags: RW,
      ioas_id: ioas,
      user_va: BigInt(address),
      length: BigInt(length),
    });
    return result === 'OK' ? out.iova : result;
  }

  unmap(ioas: number, iova: bigint, length: bigint): bigint | string {
    const { result, out } = this.#call(IOMMUFD_CMD.IOMMU_IOAS_UNMAP, iommu_ioas_unmap, {
      ioas_id: ioas,
      iova,
      length,
    });
    return result === 'OK' ? out.length : result;
  }

  hwpt(dev: number, pt: number, flags = 0, more: { fault?: number } = {}): IdOrError {
    return this.#hwpt({ dev_id: dev, pt_id: pt, flags, fault_id: more.fault ?? 0 });
  }

  nested(
    dev: number,
    parent: number,
    flags: number,
    more: { fault?: number; type?: number; length?: number } = {},
  ): IdOrError {
    const data = iommu_hwpt_vtd_s1.encode({ pgtbl_addr: 0x1000n, addr_width: 48 });
    this.user.write(this.payload, data);
    return this.#hwpt({
      dev_id: dev,
      pt_id: parent,
      flags,
      data_type: more.type ?? IOMMU_HWPT_DATA_VTD_S1,
      data_len: more.length ?? data.length,
      data_uptr: BigInt(this.payload),
      fault_id: more.fault ?? 0,
    });
  }

  faultQueue(): { id: number; fd: number } {
    const { fd } = this;
    const out = this.user.ok(fd, IOMMUFD_CMD.IOMMU_FAULT_QUEUE_ALLOC, iommu_fault_alloc, {});
    return { id: out.out_fault_id, fd: out.out_fault_fd };
  }

  #hwpt(values: Partial<Values<typeof iommu_hwpt_alloc.fields>>): IdOrError {
    const { result, out } = this.#call(IOMMUFD_CMD.IOMMU_HWPT_ALLOC, iommu_hwpt_alloc, values);
    return result === 'OK' ? out.out_hwpt_id : result;
  }

  #call<F extends Fields>(
    request: number,
    struct: Struct<F>,
    values: Partial<Values<F>>,
  ): { result: string; out: Values<F> } {
    return this.user.call(this.fd, request, struct, values);
  }
}

/** `/dev/vfio/devices/vfioN`. */
export class Device {
  readonly user: User;
  readonly fd: number;
  /** The DEVICE object. */
  id = 0;

  constructor(user: User, number = 0) {
    this.user = user;
    this.fd = user.open(`/dev/vfio/devices/vfio${number}`);
  }

  bind(iommufd: number): string {
    const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_BIND_IOMMUFD;
    const { result, out } = this.user.call(this.fd, cmd, vfio_device_bind_iommufd, { iommufd });
    this.id = out.out_devid;
    return result;
  }

  /** Attaches or replaces the RID: the HWPT's id, or the error's name. */
  attach(pt: number): IdOrError {
    const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_ATTACH_IOMMUFD_PT;
    const { result, out } = this.user.call(this.fd, cmd, vfio_device_attach_iommufd_pt, {
      pt_id: pt,
    });
    return result === 'OK' ? out.pt_id : result;
  }

  attachPasid(pasid: number, pt: number): IdOrError {
    const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_ATTACH_IOMMUFD_PT;
    const { result, out } = this.user.call(this.fd, cmd, vfio_device_attach_iommufd_pt, {
      flags: VFIO_DEVICE_ATTACH_PASID,
      pt_id: pt,
      pasid,
    });
    return result === 'OK' ? out.pt_id : result;
  }

  detach(): string {
    const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_DETACH_IOMMUFD_PT;
    return this.user.refused(this.fd, cmd, vfio_device_detach_iommufd_pt, {});
  }

  detachPasid(pasid: number): string {
    const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_DETACH_IOMMUFD_PT;
    return this.user.refused(this.fd, cmd, vfio_device_detach_iommufd_pt, {
      flags: VFIO_DEVICE_DETACH_PASID,
      pasid,
    });
  }
}

/** A bound device of a new user program. */
export function bound(user: User): { client: Client; device: Device } {
  const client = new Client(user);
  const device = new Device(user);
  const result = device.bind(client.fd);
  if (result !== 'OK') throw new Error(`bind: ${result}`);
  return { client, device };
}

/** An id where success is expected. */
export function id(value: IdOrError): number {
  if (typeof value === 'string') throw new Error(value);
  return value;
}
