/**
 * Attach, replace and detach of a PASID by VFIO's ioctls, through the intel driver to the table that
 * the unit reads, with ever more PASIDs attached: the cost must not grow with their number.
 */
import { pasidEntry } from '../../devices/spec/vtd/pasid.ts';
import { IOMMU_HWPT_ALLOC_PASID } from '../../host/uapi/iommufd.ts';
import {
  VFIO_DEVICE_ATTACH_PASID,
  VFIO_DEVICE_CMD,
  VFIO_DEVICE_DETACH_PASID,
  vfio_device_attach_iommufd_pt,
  vfio_device_detach_iommufd_pt,
} from '../../host/uapi/vfio.ts';
import { id } from '../host/kernel/iommufd/client.ts';
import type { Case, Figure, Group } from './measure.ts';
import { heapInUse, measure } from './measure.ts';
import { Program } from './program.ts';

const PAGE = 4096;
/** 2^20 PASIDs fill 64 MiB of PASID tables. */
const RAM_BYTES = 256 * 2 ** 20;
const CALLS = 64;
/** PASIDs that the operations work on; those that are attached before are below. */
const FIRST = 2 ** 20 - CALLS;

export const pasid: Group = {
  name: 'pasid',
  about: 'attach, replace and detach of a PASID with ever more attached',
  async run(options) {
    const table = new Table();
    const found: Figure[] = [];
    const first = new Map<string, Figure>();
    // What runs first must not pay for the compiler.
    await measure(table.cases(), { quick: true });
    for (const count of options.quick ? [1, 1000] : [1, 1000, 100_000, 1_000_000]) {
      options.progress(`${count} PASIDs`);
      const more = count - table.attached;
      const [heap, frames] = [heapInUse(), table.freePages];
      table.growTo(count);
      const bytes = (heapInUse() - heap) / more;
      const tables = ((frames - table.freePages) * PAGE) / more;
      for (const [operation, value] of await measure(table.cases(), options)) {
        const name = `${operation}, ${count} attached`;
        const base = first.get(operation) ?? first.values().next().value;
        const [unit, of] = [base?.value ?? value, base?.name ?? name];
        const figure: Figure = { name, ratio: value / unit, of, value, unit: 'ns' };
        if (!first.has(operation)) first.set(operation, figure);
        found.push(figure);
      }
      if (count < 1000) continue;
      const of = 'PASID-table entry';
      for (const [what, value] of [
        ['heap', bytes],
        ['PASID tables', tables],
      ] as const) {
        const name = `memory of a PASID, ${what}, ${count} attached`;
        found.push({ name, ratio: value / pasidEntry.bytes, of, value, unit: 'bytes' });
      }
    }
    return found;
  },
};

class Table {
  attached = 0;
  readonly #program = new Program(RAM_BYTES);
  readonly #hwpts: readonly [number, number];
  #turn = 0;

  constructor() {
    const { client, device } = this.#program;
    const ioas = client.ioas();
    const hwpt = (): number => id(client.hwpt(device.id, ioas, IOMMU_HWPT_ALLOC_PASID));
    this.#hwpts = [hwpt(), hwpt()];
  }

  get freePages(): number {
    return this.#program.rig.kernel.pages.freePages;
  }

  growTo(count: number): void {
    this.#attach(1 + this.attached, count - this.attached, this.#hwpts[0]);
    this.attached = count;
  }

  cases(): Case[] {
    const attach = (): void => this.#attach(FIRST, CALLS, this.#hwpts[0]);
    const detach = (): void => this.#detach();
    const replace = (): void => this.#attach(FIRST, CALLS, this.#hwpts[this.#turn++ & 1]!);
    return [
      { name: 'attach', calls: CALLS, run: attach, after: detach },
      {
        name: 'replace',
        calls: CALLS,
        before: () => {
          attach();
          this.#turn = 1;
        },
        run: replace,
        after: detach,
      },
      { name: 'detach', calls: CALLS, before: attach, run: detach },
    ];
  }

  #attach(first: number, count: number, hwpt: number): void {
    const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_ATTACH_IOMMUFD_PT;
    const { fd } = this.#program.device;
    this.#program.ioctls(fd, cmd, vfio_device_attach_iommufd_pt, count, (n) => ({
      argsz: vfio_device_attach_iommufd_pt.size,
      flags: VFIO_DEVICE_ATTACH_PASID,
      pt_id: hwpt,
      pasid: first + n,
    }));
  }

  #detach(): void {
    const cmd = VFIO_DEVICE_CMD.VFIO_DEVICE_DETACH_IOMMUFD_PT;
    const { fd } = this.#program.device;
    this.#program.ioctls(fd, cmd, vfio_device_detach_iommufd_pt, CALLS, (n) => ({
      argsz: vfio_device_detach_iommufd_pt.size,
      flags: VFIO_DEVICE_DETACH_PASID,
      pasid: FIRST + n,
    }));
  }
}
