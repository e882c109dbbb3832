/** What tests of IOASes ask of one. */
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMUFD_CMD,
  iommu_ioas_allow_iovas,
  iommu_ioas_copy,
  iommu_ioas_iova_ranges,
  iommu_iova_range,
} from '../../../../host/uapi/iommufd.ts';
import { Client } from './client.ts';
import { MockDomain } from './mock-driver.ts';
import type { User, World } from './world.ts';
import { makeWorld } from './world.ts';

export const ALL = 0xffff_ffff_ffff_ffffn;
export const BASE = 0x100_0000;
export const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };

export const domains = (world: World): MockDomain[] => [...world.driver.live] as MockDomain[];

export function ranges(
  client: Client,
  ioas: number,
  room: number,
): { result: string; list: string[]; n: number; alignment: bigint } {
  const { user, fd, payload } = client;
  user.write(payload, new Uint8Array(0x100).fill(0xee));
  const { result, out } = user.call(
    fd,
    IOMMUFD_CMD.IOMMU_IOAS_IOVA_RANGES,
    iommu_ioas_iova_ranges,
    { ioas_id: ioas, num_iovas: room, allowed_iovas: BigInt(payload) },
  );
  const view = new DataView(user.read(payload, 0x100).buffer);
  const list: string[] = [];
  for (let n = 0; n < Math.min(room, out.num_iovas); n++) {
    const { start, last } = iommu_iova_range.read(view, n * iommu_iova_range.size);
    list.push(`${start.toString(16)}-${last.toString(16)}`);
  }
  const beyond = view.getUint8(list.length * iommu_iova_range.size);
  if (beyond !== 0xee) throw new Error('written beyond the array');
  return { result, list, n: out.num_iovas, alignment: out.out_iova_alignment };
}

export function allow(
  client: Client,
  ioas: number,
  list: readonly (readonly [bigint, bigint])[],
): string {
  const { user, fd, payload } = client;
  list.forEach(([start, last], n) =>
    user.write(payload + n * 16, iommu_iova_range.encode({ start, last })),
  );
  return user.refused(fd, IOMMUFD_CMD.IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, {
    ioas_id: ioas,
    num_iovas: list.length,
    allowed_iovas: BigInt(payload),
  });
}

export function copy(
  client: Client,
  values: { dst: number; src: number; length: bigint; from: bigint; to?: bigint; flags?: number },
): bigint | string {
  const fixed = values.to === undefined ? 0 : IOMMU_IOAS_MAP_FIXED_IOVA;
  const { result, out } = client.user.call(
    client.fd,
    IOMMUFD_CMD.IOMMU_IOAS_COPY,
    iommu_ioas_copy,
    {
      flags: fixed | (values.flags ?? IOMMU_IOAS_MAP_READABLE),
      dst_ioas_id: values.dst,
      src_ioas_id: values.src,
      length: values.length,
      dst_iova: values.to ?? 0n,
      src_iova: values.from,
    },
  );
  return result === 'OK' ? out.dst_iova : result;
}

export function setup(): { world: World; user: User; client: Client; ioas: number } {
  const world = makeWorld();
  const user = world.user();
  const client = new Client(user);
  return { world, user, client, ioas: client.ioas() };
}
