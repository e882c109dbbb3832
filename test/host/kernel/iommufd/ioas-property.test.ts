/** Random sequences of IOAS ioctls against a simple model of areas. */
import test from 'ava';
import fc from 'fast-check';
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMUFD_CMD,
  iommu_ioas_copy,
} from '../../../../host/uapi/iommufd.ts';
import { bound, type IdOrError, id } from './client.ts';
import type { MockDomain } from './mock-driver.ts';
import { makeWorld } from './world.ts';

const BASE = 0x100_0000;
const PAGE = 0x1000;
/** Pages of IOVA, and of memory, that a script plays with. */
const PAGES = 12;
const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };

type Step =
  | { readonly do: 'map'; readonly at: number; readonly from: number; readonly pages: number }
  | { readonly do: 'copy'; readonly at: number; readonly from: number; readonly pages: number }
  | { readonly do: 'unmap'; readonly at: number; readonly pages: number }
  | { readonly do: 'unmap all' | 'domain' | 'no domain' };

const page = fc.integer({ min: 0, max: PAGES - 1 });
const pages = fc.integer({ min: 1, max: 4 });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({ do: fc.constant('map' as const), at: page, from: page, pages }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('copy' as const), at: page, from: page, pages }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('unmap' as const), at: page, pages }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constantFrom('unmap all', 'domain', 'no domain') }),
    },
  ),
  { maxLength: 25 },
);

/** Areas as the reference has them: memory page of each IOVA page, and where areas begin and end. */
class Model {
  areas: { at: number; memory: number[] }[] = [];

  overlap(at: number, count: number): boolean {
    return this.areas.some((a) => a.at < at + count && at < a.at + a.memory.length);
  }

  /** Memory behind a range, cut where areas end; null for a hole. */
  slices(at: number, count: number): number[][] | null {
    const slices: number[][] = [];
    for (let next = at; next < at + count; ) {
      const area = this.areas.find((a) => a.at <= next && next < a.at + a.memory.length);
      if (area === undefined) return null;
      const memory = area.memory.slice(next - area.at, at + count - area.at);
      slices.push(memory);
      next += memory.length;
    }
    return slices;
  }

  add(at: number, slices: readonly number[][]): void {
    for (const memory of slices) {
      this.areas.push({ at, memory });
      at += memory.length;
    }
    this.areas.sort((a, b) => a.at - b.at);
  }

  /** Bytes unmapped, or the error. */
  unmap(at: number, count: number): bigint | string {
    let bytes = 0n;
    for (const area of [...this.areas]) {
      const end = area.at + area.memory.length;
      if (end <= at || area.at >= at + count) continue;
      if (area.at < at || end > at + count) return 'ENOENT';
      this.areas.splice(this.areas.indexOf(area), 1);
      bytes += BigInt(area.memory.length * PAGE);
    }
    return bytes === 0n ? 'ENOENT' : bytes;
  }

  get pinned(): number {
    return new Set(this.areas.flatMap(({ memory }) => memory)).size;
  }
}

test('any sequence of maps, copies and unmaps, with a domain coming and going', (t) => {
  fc.assert(
    fc.property(steps, (script) => {
      const world = makeWorld();
      const user = world.user();
      const { client, device } = bound(user);
      const ioas = client.ioas();
      // Pages touched by nobody else: each page set pins its own.
      const memory = user.map(2 * PAGES * PAGE);
      const model = new Model();
      let hwpt: IdOrError = 0;
      const iova = (at: number): number => BASE + at * PAGE;
      for (const step of script) {
        switch (step.do) {
          case 'map': {
            const result = client.map(
              ioas,
              memory + step.from * PAGE,
              step.pages * PAGE,
              iova(step.at),
            );
            const free = !model.overlap(step.at, step.pages);
            if (result !== (free ? 'OK' : 'EEXIST')) throw new Error(`map: ${result}`);
            const sources = Array.from({ length: step.pages }, (_, n) => step.from + n);
            if (free) model.add(step.at, [sources]);
            break;
          }
          case 'copy': {
            const slices = model.slices(step.from, step.pages);
            const free = !model.overlap(step.at, step.pages);
            const expected = slices === null ? 'ENOENT' : free ? 'OK' : 'EEXIST';
            const result = user.refused(client.fd, IOMMUFD_CMD.IOMMU_IOAS_COPY, iommu_ioas_copy, {
              flags: IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE,
              dst_ioas_id: ioas,
              src_ioas_id: ioas,
              length: BigInt(step.pages * PAGE),
              dst_iova: BigInt(iova(step.at)),
              src_iova: BigInt(iova(step.from)),
            });
            if (result !== expected) throw new Error(`copy: ${result}, not ${expected}`);
            if (slices !== null && free) model.add(step.at, slices);
            break;
          }
          case 'unmap': {
            const expected = model.unmap(step.at, step.pages);
            const length = BigInt(step.pages * PAGE);
            const result = client.unmap(ioas, BigInt(iova(step.at)), length);
            if (result !== expected) throw new Error(`unmap: ${result}, not ${expected}`);
            break;
          }
          case 'unmap all':
            model.areas = [];
            client.unmap(ioas, 0n, 0xffff_ffff_ffff_ffffn);
            break;
          case 'domain':
            if (hwpt === 0) hwpt = id(client.hwpt(device.id, ioas));
            break;
          case 'no domain':
            if (hwpt !== 0) client.destroy(id(hwpt));
            hwpt = 0;
        }
        const pins = world.kernel.leftovers().pins;
        const wanted = hwpt === 0 ? 0 : model.pinned;
        if (pins !== wanted) throw new Error(`${pins} frames pinned, not ${wanted}`);
        if (hwpt === 0) continue;
        const domain = [...world.driver.live].at(-1) as MockDomain;
        const mapped = [...domain.mapped.keys()].map((at) => Number(at)).sort((a, b) => a - b);
        const expected = model.areas.flatMap((a) => a.memory.map((_, n) => iova(a.at + n)));
        t.deepEqual(mapped, expected);
      }
      user.close(device.fd);
      user.close(client.fd);
      t.deepEqual(world.kernel.leftovers(), NOTHING);
    }),
    { numRuns: 60, seed: 1 },
  );
});
