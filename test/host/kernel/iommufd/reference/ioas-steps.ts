/** Steps that work on IOASes: the same for every driver. */
import {
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_FAULT_ID_VALID,
  IOMMU_IOAS_MAP_FIXED_IOVA,
  IOMMU_IOAS_MAP_READABLE,
  IOMMU_IOAS_MAP_WRITEABLE,
  IOMMUFD_CMD,
  iommu_hwpt_alloc,
  iommu_ioas_allow_iovas,
  iommu_ioas_change_process,
  iommu_ioas_copy,
  iommu_ioas_iova_ranges,
  iommu_ioas_map,
  iommu_ioas_map_file,
  iommu_iova_range,
  iommu_option,
} from '../../../../../host/uapi/iommufd.ts';
import type { Fields, Struct, Values } from '../../../../../host/uapi/struct.ts';
import type { Client } from '../client.ts';
import { PAGE, READ, WRITE } from './areas.ts';
import type { HwptFlags, Model } from './model.ts';
import type { Meaning } from './script.ts';
import { hex, pick } from './script.ts';

/** Pages of IOVA that programs play with. */
export const PLAYGROUND = 16;
/** The program's file, by page. */
export const FILE_PAGES = 6;

export interface Ground {
  readonly model: Model;
  readonly client: Client;
  readonly base: number;
  /** The memory file and another file. */
  readonly fileFd: number;
  readonly otherFd: number;
  /** Where the program reads the file. */
  readonly file: number;
  /** File descriptors by object. */
  readonly fds: Map<number, number>;
}

export const IOAS_WEIGHTS = {
  ioas: 2,
  map: 10,
  mapFile: 3,
  copy: 5,
  unmap: 5,
  unmapAll: 1,
  allow: 2,
  huge: 1,
  reserve: 1,
  changeProcess: 1,
  rlimit: 1,
  hwpt: 5,
  fault: 1,
  closeFault: 1,
  destroy: 4,
} as const;

const PROTS = [READ | WRITE, READ | WRITE, READ, WRITE, READ | WRITE, READ, 0] as const;

function flagsOf(prot: number, fixed: boolean): number {
  return (
    ((prot & READ) !== 0 ? IOMMU_IOAS_MAP_READABLE : 0) |
    ((prot & WRITE) !== 0 ? IOMMU_IOAS_MAP_WRITEABLE : 0) |
    (fixed ? IOMMU_IOAS_MAP_FIXED_IOVA : 0)
  );
}

/** An ioctl's result: the wanted output, or the error's name. */
export function call<F extends Fields>(
  client: Client,
  request: number,
  struct: Struct<F>,
  values: Partial<Values<F>>,
  output: (out: Values<F>) => unknown = () => undefined,
): unknown {
  const { result, out } = client.user.call(client.fd, request, struct, values);
  return result === 'OK' ? output(out) : result;
}

/** Mostly an object of a kind; else any number. */
export function some(model: Model, kind: Parameters<Model['all']>[0], n: number): number {
  const ids = model.all(kind).map(([id]) => id);
  if (n === 19 || ids.length === 0) return pick([...model.state.things.keys()], n) ?? n;
  return pick(ids, n)!;
}

/** Flags of HWPT_ALLOC from a number. */
export function hwptFlags(model: Model, n: number, m: number): { flags: number; model: HwptFlags } {
  const pasid = (n & 1) !== 0;
  const nestParent = (n & 2) !== 0;
  const dirty = (n & 4) !== 0;
  const fault = n >= 16;
  const faultId = some(model, 'fault', m);
  return {
    flags:
      (pasid ? IOMMU_HWPT_ALLOC_PASID : 0) |
      (nestParent ? IOMMU_HWPT_ALLOC_NEST_PARENT : 0) |
      (dirty ? IOMMU_HWPT_ALLOC_DIRTY_TRACKING : 0) |
      (fault ? IOMMU_HWPT_FAULT_ID_VALID : 0),
    model: { pasid, nestParent, dirty, ...(fault ? { fault: faultId } : {}) },
  };
}

export function ioasMeanings(ground: Ground): Record<keyof typeof IOAS_WEIGHTS, Meaning> {
  const { model, client, base, fds } = ground;
  const { user } = client;
  const ioasOf = (n: number): number => some(model, 'ioas', n);
  /** Mostly whole pages; sometimes half of one, or not even that. */
  const odd = (n: number): number => (n === 17 ? PAGE / 2 : n === 18 ? 1 : 0);
  const iovaOf = (n: number): number => base + ((n % (PLAYGROUND + 1)) - 1) * PAGE;
  const lengthOf = (n: number): number => (n === 19 ? 0 : (1 + (n % 4)) * PAGE);
  return {
    ioas: () => ({
      text: 'IOAS_ALLOC',
      expect: () => model.ioasAlloc(),
      run: () => {
        try {
          return client.ioas();
        } catch (error) {
          return (error as Error).message.replace(/^.*: /, '');
        }
      },
    }),

    map: ([a = 0, b = 0, c = 0, d = 0, e = 0, f = 0]) => {
      const id = ioasOf(a);
      const iova = d === 19 ? null : iovaOf(d) + odd(f);
      const from = b * PAGE + (f === 16 || f === 17 ? PAGE / 2 : 0);
      const length = lengthOf(c) - (f === 15 ? PAGE / 2 : f === 14 ? 1 : 0);
      const prot = PROTS[e % PROTS.length]!;
      const at = iova === null ? 'anywhere' : hex(iova);
      return {
        text: `IOAS_MAP ioas ${id}, memory+${hex(from)}, ${hex(length)} bytes, at ${at}, prot ${prot}`,
        expect: () =>
          model.map(id, { kind: 'memory', from, length: Math.max(0, length) }, prot, iova),
        run: () =>
          call(
            client,
            IOMMUFD_CMD.IOMMU_IOAS_MAP,
            iommu_ioas_map,
            {
              flags: flagsOf(prot, iova !== null),
              ioas_id: id,
              user_va: BigInt(model.backing.address + from),
              length: BigInt(Math.max(0, length)),
              iova: BigInt(iova ?? 0),
            },
            (out) => Number(out.iova),
          ),
      };
    },

    mapFile: ([a = 0, b = 0, c = 0, d = 0, e = 0, f = 0]) => {
      const id = ioasOf(a);
      const iova = d === 19 ? null : iovaOf(d);
      const start = (b % 8) * PAGE;
      const length = lengthOf(c);
      const prot = PROTS[e % PROTS.length]!;
      const fd = f === 19 ? ground.otherFd : ground.fileFd;
      // A file without pages is one whose pages are all beyond the end.
      const from = fd === ground.fileFd ? start : start + FILE_PAGES * PAGE;
      const at = iova === null ? 'anywhere' : hex(iova);
      if (fd !== ground.fileFd && iova === null) return null;
      return {
        text: `IOAS_MAP_FILE ioas ${id}, fd ${fd}+${hex(start)}, ${hex(length)} bytes, at ${at}, prot ${prot}`,
        expect: () => model.map(id, { kind: 'file', from, length }, prot, iova),
        run: () =>
          call(
            client,
            IOMMUFD_CMD.IOMMU_IOAS_MAP_FILE,
            iommu_ioas_map_file,
            {
              flags: flagsOf(prot, iova !== null),
              ioas_id: id,
              fd,
              start: BigInt(start),
              length: BigInt(length),
              iova: BigInt(iova ?? 0),
            },
            (out) => Number(out.iova),
          ),
      };
    },

    copy: ([a = 0, b = 0, c = 0, d = 0, e = 0, f = 0]) => {
      const [from, to] = [ioasOf(a), ioasOf(b)];
      const found = mappedRange(ground, from, c, d);
      const source = { ...found, iova: found.iova + (f === 17 ? PAGE / 2 : 0) };
      const iova = e === 19 ? null : iovaOf(e) + odd(f);
      const prot = PROTS[f % PROTS.length]!;
      const range = `${hex(source.iova)}, ${hex(source.length)} bytes`;
      const at = iova === null ? 'anywhere' : hex(iova);
      return {
        text: `IOAS_COPY ioas ${from} ${range}, to ioas ${to} at ${at}, prot ${prot}`,
        expect: () => model.copy(to, from, source, prot, iova),
        run: () =>
          call(
            client,
            IOMMUFD_CMD.IOMMU_IOAS_COPY,
            iommu_ioas_copy,
            {
              flags: flagsOf(prot, iova !== null),
              dst_ioas_id: to,
              src_ioas_id: from,
              length: BigInt(source.length),
              dst_iova: BigInt(iova ?? 0),
              src_iova: BigInt(source.iova),
            },
            (out) => Number(out.dst_iova),
          ),
      };
    },

    unmap: ([a = 0, b = 0, c = 0, d = 0]) => {
      const id = ioasOf(a);
      const { iova, length } = mappedRange(ground, id, b, c);
      const start = iova + odd(d);
      return {
        text: `IOAS_UNMAP ioas ${id}, ${hex(start)}, ${hex(length)} bytes`,
        expect: () => model.unmap(id, { start, last: start + length - 1 }),
        run: () => numeric(client.unmap(id, BigInt(start), BigInt(length))),
        stays: true,
      };
    },

    unmapAll: ([a = 0]) => {
      const id = ioasOf(a);
      return {
        text: `IOAS_UNMAP ioas ${id}, everything`,
        expect: () => model.unmap(id, 'all'),
        run: () => numeric(client.unmap(id, 0n, 0xffff_ffff_ffff_ffffn)),
        stays: true,
      };
    },

    allow: ([a = 0, b = 0, c = 0, d = 0, e = 0, f = 0]) => {
      const id = ioasOf(a);
      const ranges = [
        { start: iovaOf(b), last: iovaOf(b) + lengthOf(c) - 1 },
        { start: iovaOf(d), last: iovaOf(d) + lengthOf(e) - 1 },
      ].slice(0, f % 3);
      return {
        text: `IOAS_ALLOW_IOVAS ioas ${id}, ${ranges.map((r) => `${hex(r.start)}..${hex(r.last)}`).join(' ')}`,
        expect: () => model.allow(id, ranges),
        run: () => {
          ranges.forEach(({ start, last }, n) => {
            const bytes = iommu_iova_range.encode({ start: BigInt(start), last: BigInt(last) });
            user.write(client.payload + n * bytes.length, bytes);
          });
          return call(client, IOMMUFD_CMD.IOMMU_IOAS_ALLOW_IOVAS, iommu_ioas_allow_iovas, {
            ioas_id: id,
            num_iovas: ranges.length,
            allowed_iovas: BigInt(client.payload),
          });
        },
      };
    },

    huge: ([a = 0, b = 0]) => {
      const id = ioasOf(a);
      const value = b % 3;
      return {
        text: `OPTION HUGE_PAGES ioas ${id} = ${value}`,
        expect: () => model.hugePages(id, value),
        run: () =>
          call(client, IOMMUFD_CMD.IOMMU_OPTION, iommu_option, {
            option_id: 1,
            object_id: id,
            val64: BigInt(value),
          }),
        stays: true,
      };
    },

    rlimit: ([a = 0]) => ({
      text: `OPTION RLIMIT_MODE = ${a % 3}`,
      expect: () => model.rlimitMode(a % 3),
      run: () =>
        call(client, IOMMUFD_CMD.IOMMU_OPTION, iommu_option, {
          option_id: 0,
          val64: BigInt(a % 3),
        }),
      stays: true,
    }),

    changeProcess: () => ({
      text: 'IOAS_CHANGE_PROCESS',
      expect: () => model.changeProcess(),
      run: () => call(client, IOMMUFD_CMD.IOMMU_IOAS_CHANGE_PROCESS, iommu_ioas_change_process, {}),
      stays: true,
    }),

    reserve: () => null,

    hwpt: ([a = 0, b = 0, c = 0, d = 0]) => {
      const device = some(model, 'device', a);
      const pt = some(model, 'ioas', b);
      const { flags, model: wanted } = hwptFlags(model, c, d);
      if (model.state.things.get(pt)?.kind === 'hwpt') return null;
      return {
        text: `HWPT_ALLOC device ${device}, ioas ${pt}, ${JSON.stringify(wanted)}`,
        expect: () => model.hwpt(device, pt, wanted),
        run: () =>
          call(
            client,
            IOMMUFD_CMD.IOMMU_HWPT_ALLOC,
            iommu_hwpt_alloc,
            { flags, dev_id: device, pt_id: pt, fault_id: wanted.fault ?? 0 },
            (out) => out.out_hwpt_id,
          ),
      };
    },

    fault: () => ({
      text: 'FAULT_QUEUE_ALLOC',
      expect: () => model.faultQueue(),
      run: () => {
        try {
          const { id, fd } = client.faultQueue();
          fds.set(id, fd);
          return id;
        } catch (error) {
          return (error as Error).message.replace(/^.*: /, '');
        }
      },
    }),

    closeFault: ([a = 0]) => {
      const open = model.all('fault').filter(([id]) => fds.has(id));
      const id = pick(open, a)?.[0];
      if (id === undefined) return null;
      return {
        text: `close(fault queue ${id})`,
        expect: () => model.closeFaultQueue(id),
        run: () => {
          user.close(fds.get(id)!);
          fds.delete(id);
        },
        stays: true,
      };
    },

    destroy: ([a = 0]) => {
      const id = a === 19 ? 77 : (pick([...model.state.things.keys()], a) ?? 1);
      return {
        text: `DESTROY ${id}`,
        expect: () => model.destroy(id),
        run: () => {
          const result = client.destroy(id);
          return result === 'OK' ? undefined : result;
        },
      };
    },
  };
}

/** IOVA_RANGES of an IOAS: its holes and its alignment. */
export function iovaRanges(client: Client, ioas: number): unknown {
  const { user, payload } = client;
  return call(
    client,
    IOMMUFD_CMD.IOMMU_IOAS_IOVA_RANGES,
    iommu_ioas_iova_ranges,
    { ioas_id: ioas, num_iovas: 64, allowed_iovas: BigInt(payload) },
    (out) => {
      const { size } = iommu_iova_range;
      const view = new DataView(user.read(payload, out.num_iovas * size).buffer);
      const ranges = Array.from({ length: out.num_iovas }, (_, n) => {
        const { start, last } = iommu_iova_range.read(view, n * size);
        return { start, last };
      });
      return { ranges, alignment: Number(out.out_iova_alignment) };
    },
  );
}

/** Mostly what is mapped in an IOAS, or nearly so; else any place. */
export function mappedRange(
  { model, base }: Ground,
  ioas: number,
  n: number,
  m: number,
): { iova: number; length: number } {
  const thing = model.state.things.get(ioas);
  const area = thing?.kind === 'ioas' ? pick(thing.areas, n) : undefined;
  if (area === undefined || m >= 17) {
    return { iova: base + (n % PLAYGROUND) * PAGE, length: (1 + (m % 4)) * PAGE };
  }
  const length = area.last - area.start + 1;
  if (m < 8) return { iova: area.start, length };
  if (m < 12) return { iova: area.start + Math.floor(length / PAGE / 2) * PAGE, length: PAGE };
  if (m < 14) return { iova: area.start, length: length + PAGE };
  if (m < 16) return { iova: area.start, length: 6 * PAGE };
  return { iova: area.start - PAGE, length: length + PAGE };
}

function numeric(value: bigint | string): number | string {
  return typeof value === 'bigint' ? Number(value) : value;
}
