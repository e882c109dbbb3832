/** Programs that use the selftest's mock devices: PASIDs, nested HWPTs, accesses, dirty tracking. */
import {
  IOMMU_HWPT_DATA_SELFTEST,
  IOMMUFD_CMD,
  iommu_hwpt_alloc,
  iommu_hwpt_get_dirty_bitmap,
  iommu_hwpt_set_dirty_tracking,
} from '../../../../../host/uapi/iommufd.ts';
import * as uapi from '../../../../../host/uapi/iommufd-test.ts';
import { MAP_SHARED, PROT_READ, PROT_WRITE } from '../../../../../host/uapi/poll.ts';
import type { MockWorld, Tester } from '../../mock/world.ts';
import { BASE, makeMockWorld, NOTHING } from '../../mock/world.ts';
import { holes, PAGE, slices } from './areas.ts';
import type { Ground } from './ioas-steps.ts';
import {
  call,
  FILE_PAGES,
  hwptFlags,
  IOAS_WEIGHTS,
  ioasMeanings,
  iovaRanges,
  mappedRange,
  PLAYGROUND,
  some,
} from './ioas-steps.ts';
import { FAULTY_PASID, Model } from './model.ts';
import type { Language, Meaning, Stage } from './script.ts';
import { hex, pick, show } from './script.ts';

const WEIGHTS = {
  ...IOAS_WEIGHTS,
  nested: 3,
  device: 4,
  replaceRid: 4,
  attach: 6,
  replace: 4,
  detach: 3,
  access: 3,
  moveAccess: 2,
  pin: 5,
  unpin: 2,
  rw: 4,
  closeAccess: 1,
  dirtySet: 3,
  dirtyMark: 4,
  dirtyTake: 4,
} as const;

export const MOCK_LANGUAGE: Language = {
  weights: WEIGHTS,
  preamble: [
    ['ioas'],
    ['ioas'],
    ['huge', 0, 0],
    ['map', 0, 0, 1, 1, 0, 0],
    ['map', 0, 4, 3, 5, 0, 0],
    ['mapFile', 1, 0, 1, 3, 0, 0],
    ['device', 0, 1],
    ['hwpt', 0, 0, 5, 0],
    ['hwpt', 0, 0, 3, 0],
    ['hwpt', 0, 1, 1, 0],
    ['replaceRid', 0, 1],
    ['attach', 0, 0, 4],
    ['nested', 0, 0, 1, 0],
    ['access', 0, 1],
    ['dirtySet', 1, 1],
  ],
};

const PASIDS = [1, 2, 300, FAULTY_PASID, 2 ** 20 - 1, 2 ** 20];
/** Room for what an access reads or writes. */
const BUFFER_BYTES = 0x2000;
const MEMORY_PAGES = 12;
const HOLE_PAGES = 16;

/** Stages for `tryPrograms`. */
export function mockStages(faultyPasid: boolean): (spoilt: boolean) => Stage {
  let world: MockWorld | null = null;
  return (spoilt) => {
    if (spoilt || world === null) world = makeMockWorld();
    return mockStage(world, faultyPasid);
  };
}

function mockStage(world: MockWorld, faultyPasid: boolean): Stage {
  const client = world.tester();
  const { user } = client;
  const { process } = user;
  const address = user.map((MEMORY_PAGES + HOLE_PAGES) * PAGE);
  const fileFd = user.run(process.memfdCreate('file'));
  user.run(process.ftruncate(fileFd, FILE_PAGES * PAGE));
  const shared = PROT_READ | PROT_WRITE;
  const file = user.run(process.mmap(FILE_PAGES * PAGE, shared, MAP_SHARED, fileFd, 0));
  // Memory ends with a hole, which nothing comes into any more.
  user.run(process.munmap(address + MEMORY_PAGES * PAGE, HOLE_PAGES * PAGE));
  const model = new Model(
    { address, memoryPages: MEMORY_PAGES, filePages: FILE_PAGES },
    {
      aperture: { start: BASE, last: uapi.MOCK_APERTURE_LAST },
      pageSize: uapi.MOCK_PAGE_SIZE,
      reserved: [],
      faultyPasid: true,
    },
  );
  const fds = new Map<number, number>();
  const ground = { model, client, base: BASE, fileFd, otherFd: client.fd, file, fds };
  return {
    model,
    meanings: { ...ioasMeanings(ground), ...mockMeanings(ground, client, faultyPasid) },
    compare: () => compare(ground, client, world),
    end: () => {
      process.kill();
      user.run(process.wait());
      same('leftovers', world.kernel.leftovers(), NOTHING);
    },
    failpoints: world.kernel.failpoints,
  };
}

function mockMeanings(
  ground: Ground,
  it: Tester,
  faultyPasid: boolean,
): Record<Exclude<keyof typeof WEIGHTS, keyof typeof IOAS_WEIGHTS> | 'reserve', Meaning> {
  const { model, base, fds, file } = ground;
  const { user } = it;
  const stdevOf = (n: number): { stdev: number; device: number } | undefined => {
    const [stdev, thing] = pick(model.all('stdev'), n) ?? [];
    return thing === undefined ? undefined : { stdev: stdev!, device: thing.device };
  };
  const ptOf = (n: number): number => some(model, n % 3 === 0 ? 'ioas' : 'hwpt', n);
  const pasids = faultyPasid ? PASIDS : PASIDS.filter((pasid) => pasid !== FAULTY_PASID);
  const pasidOf = (n: number): number => pasids[Math.floor(n * n * 0.01 * 1.5) % pasids.length]!;
  const accessOf = (n: number): { id: number; fd: number } | undefined => {
    const id = pick(model.all('access'), n)?.[0];
    return id === undefined ? undefined : { id, fd: fds.get(id)! };
  };
  const iovaOf = (n: number): number => base + (n % PLAYGROUND) * PAGE;
  const done = (result: string): string | undefined => (result === 'OK' ? undefined : result);

  return {
    reserve: ([a = 0, b = 0, c = 0]) => {
      const id = some(model, 'ioas', a);
      const start = iovaOf(b);
      const length = (1 + (c % 2)) * PAGE;
      return {
        text: `ADD_RESERVED ioas ${id}, ${hex(start)}, ${hex(length)} bytes`,
        expect: () => model.addReserved(id, { start, last: start + length - 1 }),
        run: () => done(it.reserve(id, BigInt(start), BigInt(length))),
      };
    },

    nested: ([a = 0, b = 0, c = 0, d = 0]) => {
      const device = some(model, 'device', a);
      const parents = model.all('hwpt').filter(([, hwpt]) => hwpt.nestParent);
      const pt = b === 19 ? some(model, 'hwpt', a) : (pick(parents, b)?.[0] ?? 3);
      if (model.state.things.get(pt)?.kind === 'ioas') return null;
      const { flags, model: wanted } = hwptFlags(model, c >= 12 ? c & 17 : c & 1, d);
      return {
        text: `HWPT_ALLOC nested, device ${device}, parent ${pt}, ${JSON.stringify(wanted)}`,
        expect: () => model.nested(device, pt, wanted),
        run: () => {
          const data = uapi.iommu_hwpt_selftest.encode({ iotlb: uapi.IOMMU_TEST_IOTLB_DEFAULT });
          user.write(it.payload, data);
          return call(
            it,
            IOMMUFD_CMD.IOMMU_HWPT_ALLOC,
            iommu_hwpt_alloc,
            {
              flags,
              dev_id: device,
              pt_id: pt,
              data_type: IOMMU_HWPT_DATA_SELFTEST,
              data_len: data.length,
              data_uptr: BigInt(it.payload),
              fault_id: wanted.fault ?? 0,
            },
            (out) => out.out_hwpt_id,
          );
        },
      };
    },

    device: ([a = 0, b = 0]) => {
      const pt = ptOf(a);
      const withPasids = b % 4 !== 0;
      const dirty = b % 5 !== 0;
      const flags =
        (withPasids ? uapi.MOCK_FLAGS_DEVICE_PASID : 0) |
        (dirty ? 0 : uapi.MOCK_FLAGS_DEVICE_NO_DIRTY);
      return {
        text: `MOCK_DOMAIN_FLAGS pt ${pt}, flags ${flags}`,
        expect: () => model.mockDevice(pt, { pasids: withPasids, dirty }),
        run: () => {
          const made = it.tryMock(pt, flags);
          if (typeof made === 'string') return made;
          return { stdev: made.stdev, device: made.idev, hwpt: made.hwpt };
        },
      };
    },

    replaceRid: ([a = 0, b = 0]) => {
      const dev = stdevOf(a);
      if (dev === undefined) return null;
      const pt = ptOf(b);
      return {
        text: `MOCK_DOMAIN_REPLACE stdev ${dev.stdev}, pt ${pt}`,
        expect: () => model.replace(dev.device, 0, pt),
        run: () => it.replace(dev.stdev, pt),
        stays: true,
      };
    },

    attach: ([a = 0, b = 0, c = 0]) => {
      const dev = stdevOf(a);
      if (dev === undefined) return null;
      const [pasid, pt] = [pasidOf(b), ptOf(c)];
      return {
        text: `PASID_ATTACH stdev ${dev.stdev}, pasid ${pasid}, pt ${pt}`,
        expect: () => model.attach(dev.device, pasid, pt),
        run: () => it.pasidAttach(dev.stdev, pasid, pt),
      };
    },

    replace: ([a = 0, b = 0, c = 0]) => {
      const dev = stdevOf(a);
      if (dev === undefined) return null;
      const [pasid, pt] = [pasidOf(b), ptOf(c)];
      return {
        text: `PASID_REPLACE stdev ${dev.stdev}, pasid ${pasid}, pt ${pt}`,
        expect: () => model.replace(dev.device, pasid, pt),
        run: () => it.pasidReplace(dev.stdev, pasid, pt),
        stays: true,
      };
    },

    detach: ([a = 0, b = 0]) => {
      const dev = stdevOf(a);
      if (dev === undefined) return null;
      const pasid = pasidOf(b);
      return {
        text: `PASID_DETACH stdev ${dev.stdev}, pasid ${pasid}`,
        expect: () => model.detach(dev.device, pasid),
        run: () => done(it.pasidDetach(dev.stdev, pasid)),
      };
    },

    access: ([a = 0, b = 0]) => {
      const ioas = some(model, 'ioas', a);
      const pins = b % 4 !== 0;
      let made = 0;
      return {
        text: `CREATE_ACCESS ioas ${ioas}${pins ? ', pins pages' : ''}`,
        expect: () => {
          made = model.access(ioas, pins);
        },
        run: () => {
          const fd = it.access(ioas, pins);
          if (typeof fd === 'string') return fd;
          fds.set(made, fd);
          return undefined;
        },
      };
    },

    moveAccess: ([a = 0, b = 0]) => {
      const access = accessOf(a);
      if (access === undefined) return null;
      const ioas = some(model, 'ioas', b);
      return {
        text: `ACCESS_REPLACE_IOAS access ${access.id}, ioas ${ioas}`,
        expect: () => model.moveAccess(access.id, ioas),
        run: () => done(it.accessReplace(access.fd, ioas)),
      };
    },

    pin: ([a = 0, b = 0, c = 0, d = 0]) => {
      const access = accessOf(a);
      if (access === undefined) return null;
      const range = mappedRange(ground, model.get(access.id, 'access').ioas, b, c);
      const iova = range.iova + (d === 18 ? PAGE / 2 : d === 17 ? 1 : 0);
      const length = c === 19 ? 0 : range.length - (d === 16 ? 1 : 0);
      const write = d % 2 === 1;
      return {
        text: `ACCESS_PAGES access ${access.id}, ${hex(iova)}, ${hex(length)} bytes${write ? ', write' : ''}`,
        expect: () => model.pin(access.id, { iova, length }, write),
        run: () => it.pin(access.fd, iova, length, 0, write ? uapi.MOCK_FLAGS_ACCESS_WRITE : 0),
        lost: () => {
          model.get(access.id, 'access').nextItem++;
        },
      };
    },

    unpin: ([a = 0, b = 0]) => {
      const access = accessOf(a);
      if (access === undefined) return null;
      const { items } = model.get(access.id, 'access');
      const item = b === 19 ? 7 : (pick(items, b)?.id ?? 0);
      return {
        text: `DESTROY_ACCESS_PAGES access ${access.id}, pages ${item}`,
        expect: () => model.unpin(access.id, item),
        run: () => done(it.unpin(access.fd, item)),
      };
    },

    rw: ([a = 0, b = 0, c = 0, d = 0, e = 0]) => {
      const access = accessOf(a);
      if (access === undefined) return null;
      const found = mappedRange(ground, model.get(access.id, 'access').ioas, b, c);
      const iova = found.iova + d * 100;
      const length = Math.max(1, Math.min(found.length - d * 150, BUFFER_BYTES));
      const write = e % 2 === 1;
      const flags =
        (write ? uapi.MOCK_ACCESS_RW_WRITE : 0) | (e % 3 === 0 ? uapi.MOCK_ACCESS_RW_SLOW_PATH : 0);
      const range = { start: iova, last: iova + length - 1 };
      const buffer = it.payload + 0x1000;
      const pattern = Uint8Array.from({ length }, (_, n) => (n * 7 + b * 31 + c) & 0xff);
      const there = (areas: ReturnType<Model['readWrite']>): Uint8Array => {
        const bytes = new Uint8Array(length);
        for (const { kind, from, start, last } of areas) {
          const at = (kind === 'memory' ? model.backing.address : file) + from;
          bytes.set(user.read(at, last - start + 1), start - iova);
        }
        return bytes;
      };
      return {
        text: `ACCESS_RW access ${access.id}, ${hex(iova)}, ${length} bytes, ${write ? 'write' : 'read'}, flags ${flags}`,
        expect: () => {
          model.readWrite(access.id, range, write);
        },
        run: () => {
          user.write(buffer, write ? pattern : new Uint8Array(length));
          const result = it.rw(access.fd, iova, length, buffer, flags);
          if (result !== 'OK') return result;
          const ioas = model.get(model.get(access.id, 'access').ioas, 'ioas');
          const now = there(slices(ioas, range).list);
          const moved = write ? pattern : user.read(buffer, length);
          return now.every((byte, n) => byte === moved[n]) ? undefined : 'other bytes';
        },
      };
    },

    closeAccess: ([a = 0]) => {
      const access = accessOf(a);
      if (access === undefined) return null;
      return {
        text: `close(access ${access.id})`,
        expect: () => model.closeAccess(access.id),
        run: () => {
          user.close(access.fd);
          fds.delete(access.id);
        },
        stays: true,
      };
    },

    dirtySet: ([a = 0, b = 0]) => {
      const hwpt = some(model, 'hwpt', a);
      const on = b % 3 !== 0;
      return {
        text: `HWPT_SET_DIRTY_TRACKING hwpt ${hwpt} ${on ? 'on' : 'off'}`,
        expect: () => model.setDirtyTracking(hwpt, on),
        run: () =>
          call(it, IOMMUFD_CMD.IOMMU_HWPT_SET_DIRTY_TRACKING, iommu_hwpt_set_dirty_tracking, {
            hwpt_id: hwpt,
            flags: on ? 1 : 0,
          }),
      };
    },

    dirtyMark: ([a = 0, b = 0, c = 0, d = 0]) => {
      const hwpt = some(model, 'hwpt', a);
      // What large leaves tell of is more than what was written.
      const thing = model.state.things.get(hwpt);
      if (thing?.kind === 'hwpt' && model.get(thing.ioas, 'ioas').huge) return null;
      const pages = [b, c, d].map((n) => n % PLAYGROUND);
      return {
        text: `DIRTY hwpt ${hwpt}, ${pages.map((page) => hex(base + page * PAGE)).join(' ')}`,
        expect: () => {
          const iovas = [...new Set(pages)].map((page) => base + page * PAGE);
          return model.makeDirty(hwpt, iovas);
        },
        run: () => {
          const bits = pages.reduce((sum, page) => sum | (1 << page), 0);
          user.write(it.payload, Uint8Array.of(bits & 0xff, bits >> 8));
          const { result, out } = it.op(uapi.IOMMU_TEST_OP_DIRTY, uapi.iommu_test_dirty, {
            id: hwpt,
            iova: BigInt(base),
            length: BigInt(PLAYGROUND * PAGE),
            page_size: BigInt(PAGE),
            uptr: BigInt(it.payload),
          });
          return result === 'OK' ? Number(out.out_nr_dirty) : result;
        },
        stays: true,
      };
    },

    dirtyTake: ([a = 0, b = 0, c = 0, d = 0]) => {
      const hwpt = some(model, 'hwpt', a);
      const first = b % PLAYGROUND;
      const count = Math.min(1 + c, PLAYGROUND - first);
      const clear = d % 2 === 0;
      const start = base + first * PAGE;
      const range = { start, last: start + count * PAGE - 1 };
      return {
        text: `HWPT_GET_DIRTY_BITMAP hwpt ${hwpt}, ${hex(start)}, ${count} pages${clear ? '' : ', NO_CLEAR'}`,
        expect: () => model.takeDirty(hwpt, range, clear).sort((x, y) => x - y),
        run: () => {
          user.write(it.payload, new Uint8Array(8));
          return call(
            it,
            IOMMUFD_CMD.IOMMU_HWPT_GET_DIRTY_BITMAP,
            iommu_hwpt_get_dirty_bitmap,
            {
              hwpt_id: hwpt,
              flags: clear ? 0 : 1,
              iova: BigInt(start),
              length: BigInt(count * PAGE),
              page_size: BigInt(PAGE),
              data: BigInt(it.payload),
            },
            () => {
              const bytes = user.read(it.payload, 8);
              return Array.from({ length: 64 }, (_, n) => n).filter(
                (n) => (bytes[n >> 3]! & (1 << (n & 7))) !== 0,
              );
            },
          );
        },
        stays: true,
      };
    },
  };
}

function same(what: string, found: unknown, wanted: unknown): void {
  if (show(found) === show(wanted)) return;
  throw new Error(`${what}: ${show(found)}, not ${show(wanted)}`);
}

/** Everything a program and a device can see. */
function compare(ground: Ground, it: Tester, world: MockWorld): void {
  const { model } = ground;
  const devices = model.all('device');
  const pasids = devices.flatMap(([, { slots }]) =>
    Object.keys(slots).filter((slot) => slot !== '0'),
  );
  const faults = model.all('fault').filter(([, fault]) => fault.open);
  same('leftovers', world.kernel.leftovers(), {
    objects: model.state.things.size,
    pins: model.pinned().size,
    pasidEntries: pasids.length,
    fds: 2 + faults.length + model.all('access').length,
  });
  for (const [id, ioas] of model.all('ioas')) {
    const expected = { ranges: holes(ioas), alignment: model.alignment(id) };
    same(`IOVA_RANGES of ioas ${id}`, iovaRanges(it, id), expected);
    for (const hwpt of model.domains(id)) translations(ground, it, hwpt);
  }
  for (const [stdev, { device }] of model.all('stdev')) {
    const { slots } = model.get(device, 'device');
    for (const pasid of [0, 1, 2, FAULTY_PASID, ...Object.keys(slots).map(Number)]) {
      const expected = slots[pasid] ?? 0;
      same(
        `domain of stdev ${stdev}, pasid ${pasid} is hwpt ${expected}`,
        it.pasidCheck(stdev, pasid, expected),
        'OK',
      );
    }
  }
}

/** The playground: the very pages that the model has there, or nothing. */
function translations(ground: Ground, it: Tester, hwpt: number): void {
  const { model, base, file } = ground;
  const { areas } = model.get(model.get(hwpt, 'hwpt').ioas, 'ioas');
  const odd = areas.some(({ start, last }) => start % PAGE !== 0 || (last + 1) % PAGE !== 0);
  const step = odd ? PAGE / 2 : PAGE;
  for (const { kind, start, last, from } of areas) {
    const address = (kind === 'memory' ? model.backing.address : file) + from;
    const result = it.checkMap(hwpt, start, last - start + 1, address);
    same(`hwpt ${hwpt} at ${hex(start)} has ${kind}+${hex(from)}`, result, 'OK');
  }
  for (let iova = base; iova < base + PLAYGROUND * PAGE; iova += step) {
    if (areas.some(({ start, last }) => start <= iova && iova <= last)) continue;
    const result = it.checkMap(hwpt, iova, PAGE / 2, model.backing.address);
    same(`hwpt ${hwpt} at ${hex(iova)} has nothing`, result, 'EINVAL');
  }
}
