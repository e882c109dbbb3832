/**
 * MAP and UNMAP in an IOAS that holds more and more areas: the cost must grow no faster than the
 * logarithm of their number.
 *
 * What is mapped is a file whose pages cost nothing: frames far above the machine's RAM, contiguous
 * in blocks of 2 MiB as a process's memory with large pages is, so that 1 GiB can be mapped without
 * 1 GiB of RAM. Nobody does DMA to them. The areas that are there before are 4 KiB each, of one page
 * of the process. Half of them lie below the place of the operations and half above it, so that a
 * search goes all the way down.
 */
import type { FileMemory, FileOps } from '../../host/kernel/file.ts';
import {
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMUFD_CMD,
  iommu_ioas_map,
  iommu_ioas_map_file,
  iommu_ioas_unmap,
} from '../../host/uapi/iommufd.ts';
import { O_RDWR } from '../../host/uapi/poll.ts';
import { id } from '../host/kernel/iommufd/client.ts';
import type { BenchOptions, Case, Figure, Group } from './measure.ts';
import { heapInUse, measure } from './measure.ts';
import { Program } from './program.ts';

const PAGE = 4096;
const KIB = 2n ** 10n;
const GIB = 2n ** 30n;
const RAM_BYTES = 128 * 2 ** 20;
const RW = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE;
const FIXED = RW | IOMMU_IOAS_MAP_FIXED_IOVA;
/** Where the operations are, and the areas below and above. */
const HOLE = 64n * GIB;
const HOLE_BYTES = 64n * GIB;

const SIZES = [
  { name: '4 KiB', bytes: 4n * KIB, calls: 64 },
  { name: '2 MiB', bytes: 2048n * KIB, calls: 32 },
  { name: '1 GiB', bytes: GIB, calls: 1 },
] as const;

export const ioas: Group = {
  name: 'ioas',
  about: 'IOMMU_IOAS_MAP and UNMAP in an IOAS of ever more areas',
  async run(options) {
    return [...(await grow(options, false)), ...(await grow(options, true))];
  },
};

async function grow(options: BenchOptions, domain: boolean): Promise<Figure[]> {
  const table = new Table(domain);
  const found: Figure[] = [];
  const first = new Map<string, Figure>();
  // What runs first must not pay for the compiler.
  await measure(table.cases(), { quick: true });
  const where = domain ? 'in a domain' : 'no domain';
  for (const count of options.quick ? [10, 1000] : [10, 10_000, 1_000_000]) {
    options.progress(`${where}, ${count} areas`);
    const before = heapInUse();
    const had = table.areas;
    table.growTo(count);
    const bytes = (heapInUse() - before) / (count - had);
    const times = await measure(table.cases(), options);
    for (const [operation, value] of times) {
      const name = `${operation}, ${where}, ${count} areas`;
      const base = first.get(operation) ?? first.values().next().value;
      const figure: Figure = {
        name,
        ratio: value / (base?.value ?? value),
        of: base?.name ?? name,
        value,
        unit: 'ns',
      };
      if (!first.has(operation)) first.set(operation, figure);
      found.push(figure);
    }
    if (count < 1000) continue;
    const name = `memory of an area, ${where}, ${count} areas`;
    const ratio = bytes / iommu_ioas_map.size;
    found.push({ name, ratio, of: 'struct iommu_ioas_map', value: bytes, unit: 'bytes' });
  }
  return found;
}

/** An IOAS with 4 KiB areas around a hole. */
class Table {
  areas = 0;
  readonly #program = new Program(RAM_BYTES);
  readonly #ioas: number;
  readonly #page: number;
  readonly #file: number;

  constructor(domain: boolean) {
    const { client, device, user } = this.#program;
    this.#ioas = client.ioas();
    if (domain) id(client.hwpt(device.id, this.#ioas));
    this.#page = user.map(PAGE);
    this.#file = user.process.files.install(new CheapFile(), O_RDWR);
  }

  growTo(count: number): void {
    const half = Math.ceil(count / 2);
    const had = Math.ceil(this.areas / 2);
    for (const base of [HOLE - BigInt(PAGE) * BigInt(half), HOLE + HOLE_BYTES]) {
      // New areas below go below those that are there, new ones above go above.
      const from = base < HOLE ? base : base + BigInt(PAGE) * BigInt(had);
      const { client } = this.#program;
      const cmd = IOMMUFD_CMD.IOMMU_IOAS_MAP;
      this.#program.ioctls(client.fd, cmd, iommu_ioas_map, half - had, (n) => ({
        size: iommu_ioas_map.size,
        flags: FIXED,
        ioas_id: this.#ioas,
        user_va: BigInt(this.#page),
        length: BigInt(PAGE),
        iova: from + BigInt(PAGE) * BigInt(n),
      }));
    }
    this.areas = count;
  }

  cases(): Case[] {
    const cases: Case[] = [];
    for (const { name, bytes, calls } of SIZES) {
      const map = (): void => this.#map(bytes, calls);
      const unmap = (): void => this.#unmap(bytes, calls);
      cases.push({ name: `map ${name}`, calls, run: map, after: unmap });
      cases.push({ name: `unmap ${name}`, calls, before: map, run: unmap });
    }
    const anywhere: bigint[] = [];
    cases.push({
      name: 'map 4 KiB anywhere',
      calls: 1,
      run: () => {
        const { client } = this.#program;
        const iova = client.mapAnywhere(this.#ioas, this.#page, PAGE);
        if (typeof iova === 'string') throw new Error(iova);
        anywhere.push(iova);
      },
      after: () => {
        this.#program.client.unmap(this.#ioas, anywhere.pop()!, BigInt(PAGE));
      },
    });
    return cases;
  }

  #map(bytes: bigint, count: number): void {
    const { client } = this.#program;
    const cmd = IOMMUFD_CMD.IOMMU_IOAS_MAP_FILE;
    this.#program.ioctls(client.fd, cmd, iommu_ioas_map_file, count, (n) => ({
      size: iommu_ioas_map_file.size,
      flags: FIXED,
      ioas_id: this.#ioas,
      fd: this.#file,
      start: 0n,
      length: bytes,
      iova: HOLE + GIB + bytes * BigInt(n),
    }));
  }

  #unmap(bytes: bigint, count: number): void {
    const { client } = this.#program;
    const cmd = IOMMUFD_CMD.IOMMU_IOAS_UNMAP;
    this.#program.ioctls(client.fd, cmd, iommu_ioas_unmap, count, (n) => ({
      size: iommu_ioas_unmap.size,
      ioas_id: this.#ioas,
      iova: HOLE + GIB + bytes * BigInt(n),
      length: bytes,
    }));
  }
}

/** A memory file of 1 GiB without memory. */
class CheapFile implements FileOps {
  readonly name = 'cheap file';
  readonly memory: FileMemory = {
    bytes: Number(GIB),
    hold: () => undefined,
    release: () => undefined,
    frame: () => -1,
    pin: (page, count) => Float64Array.from({ length: count }, (_, n) => frameOf(page + n)),
    unpin: () => undefined,
    read: (_offset, length) => new Uint8Array(length),
    write: () => undefined,
  };
}

/** Blocks of 512 frames, which are not in the order of the file; from 64 GiB on. */
function frameOf(page: number): number {
  const block = Math.floor(page / 512);
  return 2 ** 24 + ((block * 77) % 512) * 512 + (page % 512);
}
