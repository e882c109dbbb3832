/** Programs that use VFIO devices behind the VT-d unit: what the devices' requests really reach. */
import type { AtsReply } from '../../../../../devices/pci/fabric.ts';
import { CPL, NO_PASID } from '../../../../../devices/pci/fabric.ts';
import { MAP_SHARED, PROT_READ, PROT_WRITE } from '../../../../../host/uapi/poll.ts';
import { bootRig, NOTHING, type Rig } from '../../../../vmm/scenario/rig.ts';
import { Client, Device } from '../client.ts';
import type { AreaModel } from './areas.ts';
import { holes, PAGE, WRITE } from './areas.ts';
import type { Ground } from './ioas-steps.ts';
import {
  FILE_PAGES,
  IOAS_WEIGHTS,
  ioasMeanings,
  iovaRanges,
  PLAYGROUND,
  some,
} from './ioas-steps.ts';
import { Model } from './model.ts';
import type { Language, Meaning, Stage } from './script.ts';
import { hex, pick, show } from './script.ts';

const WEIGHTS = {
  ...IOAS_WEIGHTS,
  reserve: 0,
  bind: 2,
  attachRid: 5,
  detachRid: 2,
  attach: 8,
  detach: 3,
  closeDevice: 1,
} as const;

export const INTEL_LANGUAGE: Language = {
  weights: WEIGHTS,
  preamble: [
    ['ioas'],
    ['ioas'],
    ['map', 0, 0, 1, 1, 0, 0],
    ['map', 1, 4, 3, 1, 0, 0],
    ['mapFile', 1, 0, 1, 6, 0, 0],
    ['bind', 0],
    ['hwpt', 0, 0, 1, 0],
    ['hwpt', 0, 1, 1, 0],
    ['attach', 0, 0, 1],
    ['attachRid', 0, 2],
  ],
};

/** The playground lies half before, half in the range that belongs to interrupts. */
const INTERRUPTS = 0xfee0_0000;
const BASE = INTERRUPTS - (PLAYGROUND / 2) * PAGE;
const PASIDS = [1, 2, 64, 2 ** 20 - 1, 2 ** 20];
const DEVICES = 2;
const MEMORY_PAGES = 12;
const HOLE_PAGES = 16;

interface Bound {
  readonly device: Device;
  readonly rid: number;
}

/** Stages for `tryPrograms`. */
export function intelStages(): (spoilt: boolean) => Stage {
  let rig: Rig | null = null;
  return (spoilt) => {
    if (spoilt || rig === null) rig = bootRig({ devices: DEVICES });
    return intelStage(rig);
  };
}

function intelStage(rig: Rig): Stage {
  const user = rig.user();
  const client = new Client(user);
  const { process } = user;
  const address = user.map((MEMORY_PAGES + HOLE_PAGES) * PAGE);
  const fileFd = user.run(process.memfdCreate('file'));
  user.run(process.ftruncate(fileFd, FILE_PAGES * PAGE));
  const shared = PROT_READ | PROT_WRITE;
  const file = user.run(process.mmap(FILE_PAGES * PAGE, shared, MAP_SHARED, fileFd, 0));
  user.run(process.munmap(address + MEMORY_PAGES * PAGE, HOLE_PAGES * PAGE));
  rig.kernel.failpoints.disarm();
  const model = new Model(
    { address, memoryPages: MEMORY_PAGES, filePages: FILE_PAGES },
    {
      aperture: { start: 0, last: 2 ** 48 - 1 },
      pageSize: PAGE,
      reserved: [{ start: INTERRUPTS, last: 0xfeef_ffff }],
      faultyPasid: false,
    },
  );
  const bound = new Map<number, Bound>();
  const ground = { model, client, base: BASE, fileFd, otherFd: client.fd, file, fds: new Map() };
  return {
    model,
    meanings: { ...ioasMeanings(ground), ...intelMeanings(ground, rig, bound) },
    compare: () => compare(ground, rig, bound),
    end: () => {
      process.kill();
      user.run(process.wait());
      same('leftovers', rig.kernel.leftovers(), NOTHING);
    },
    failpoints: rig.kernel.failpoints,
  };
}

function intelMeanings(
  ground: Ground,
  rig: Rig,
  bound: Map<number, Bound>,
): Record<Exclude<keyof typeof WEIGHTS, keyof typeof IOAS_WEIGHTS>, Meaning> {
  const { model, client } = ground;
  const ptOf = (n: number): number => some(model, n % 3 === 0 ? 'ioas' : 'hwpt', n);
  const pasidOf = (n: number): number => pick(PASIDS, n > 15 ? n : n % 3)!;
  const boundOf = (n: number): (Bound & { readonly id: number }) | undefined => {
    const [id, found] = pick([...bound], n) ?? [];
    return found === undefined ? undefined : { ...found, id: id! };
  };
  const done = (result: string): string | undefined => (result === 'OK' ? undefined : result);

  return {
    bind: ([a = 0]) => {
      const number = a % DEVICES;
      const pdev = rig.kernel.pciDevices[number]!;
      const { rid } = pdev;
      if ([...bound.values()].some((one) => one.rid === rid)) return null;
      let id = 0;
      return {
        text: `VFIO_DEVICE_BIND_IOMMUFD vfio${number}`,
        expect: () => {
          id = model.bind(2 ** 20, true);
        },
        run: () => {
          const device = new Device(client.user, number);
          const result = device.bind(client.fd);
          if (result === 'OK') {
            pdev.enableBusMaster();
            bound.set(id, { device, rid });
          } else {
            client.user.close(device.fd);
          }
          return done(result);
        },
      };
    },

    attachRid: ([a = 0, b = 0]) => {
      const dev = boundOf(a);
      if (dev === undefined) return null;
      const pt = ptOf(b);
      const there = model.get(dev.id, 'device').slots[0] !== undefined;
      return {
        text: `VFIO_DEVICE_ATTACH_IOMMUFD_PT device ${dev.id}, pt ${pt}`,
        expect: () => (there ? model.replace(dev.id, 0, pt) : model.attach(dev.id, 0, pt)),
        run: () => dev.device.attach(pt),
        stays: true,
        lost: () => model.detach(dev.id, 0),
      };
    },

    detachRid: ([a = 0]) => {
      const dev = boundOf(a);
      if (dev === undefined) return null;
      return {
        text: `VFIO_DEVICE_DETACH_IOMMUFD_PT device ${dev.id}`,
        expect: () => model.detach(dev.id, 0),
        run: () => done(dev.device.detach()),
      };
    },

    attach: ([a = 0, b = 0, c = 0]) => {
      const dev = boundOf(a);
      if (dev === undefined) return null;
      const [pasid, pt] = [pasidOf(b), ptOf(c)];
      const there = model.get(dev.id, 'device').slots[pasid] !== undefined;
      return {
        text: `VFIO_DEVICE_ATTACH_IOMMUFD_PT device ${dev.id}, pasid ${pasid}, pt ${pt}`,
        expect: () => (there ? model.replace(dev.id, pasid, pt) : model.attach(dev.id, pasid, pt)),
        run: () => dev.device.attachPasid(pasid, pt),
        // As upstream: the RID goes when the answer is lost, whatever was attached.
        stays: true,
        lost: () => model.detach(dev.id, 0),
      };
    },

    detach: ([a = 0, b = 0]) => {
      const dev = boundOf(a);
      if (dev === undefined) return null;
      const pasid = pasidOf(b);
      return {
        text: `VFIO_DEVICE_DETACH_IOMMUFD_PT device ${dev.id}, pasid ${pasid}`,
        expect: () => model.detach(dev.id, pasid),
        run: () => done(dev.device.detachPasid(pasid)),
      };
    },

    closeDevice: ([a = 0]) => {
      const dev = boundOf(a);
      if (dev === undefined) return null;
      return {
        text: `close(device ${dev.id})`,
        expect: () => model.unbind(dev.id),
        run: () => {
          client.user.close(dev.device.fd);
          bound.delete(dev.id);
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
function compare(ground: Ground, rig: Rig, bound: ReadonlyMap<number, Bound>): void {
  const { model, client } = ground;
  const slots = [...bound.keys()].map((id) => model.get(id, 'device').slots);
  const faults = model.all('fault').filter(([, fault]) => fault.open);
  same('leftovers', rig.kernel.leftovers(), {
    objects: model.state.things.size,
    pins: model.pinned().size,
    pasidEntries: slots.flatMap((one) => Object.keys(one).filter((slot) => slot !== '0')).length,
    fds: 2 + faults.length + bound.size,
  });
  for (const [id, ioas] of model.all('ioas')) {
    const expected = { ranges: holes(ioas), alignment: model.alignment(id) };
    same(`IOVA_RANGES of ioas ${id}`, iovaRanges(client, id), expected);
  }
  for (const [id, { rid }] of bound) {
    const { slots: own } = model.get(id, 'device');
    for (const pasid of [0, 1, 2, 64, 2 ** 20 - 1]) requests(ground, rig, { id, rid, pasid }, own);
  }
}

/** What each page of the playground is for requests of a device with a PASID; 0: without. */
function requests(
  ground: Ground,
  rig: Rig,
  from: { readonly id: number; readonly rid: number; readonly pasid: number },
  slots: Readonly<Record<number, number>>,
): void {
  const { model, base } = ground;
  const hwpt = slots[from.pasid];
  const areas = hwpt === undefined ? [] : model.get(model.get(hwpt, 'hwpt').ioas, 'ioas').areas;
  const last = base + PLAYGROUND * PAGE;
  for (let iova = base - PAGE; iova < last; iova += PAGE) {
    // Nobody translates requests to where interrupts go.
    if (iova >= INTERRUPTS) break;
    const area = areas.find((one) => one.start <= iova && iova <= one.last);
    const reply = ask(rig, from.rid, from.pasid, iova / PAGE);
    const found = reply.read || reply.write ? [reply.pfn, reply.read, reply.write] : null;
    const who = `device ${from.id}, pasid ${from.pasid} at ${hex(iova)}`;
    same(who, found, area === undefined ? null : expected(ground, area, iova));
  }
}

function expected(ground: Ground, area: AreaModel, iova: number): unknown {
  const { model, client, file } = ground;
  const { mm } = client.user.process;
  const at = (area.kind === 'memory' ? model.backing.address : file) + area.from;
  const pfns = mm.pin(BigInt(at + (iova - area.start)), 1, false);
  mm.unpin(pfns);
  return [pfns[0], (area.prot & 1) !== 0, (area.prot & WRITE) !== 0];
}

function ask(rig: Rig, rid: number, pasid: number, vpn: number): AtsReply {
  const reply: AtsReply = {
    status: CPL.SUCCESS,
    pfn: 0,
    shift: 0,
    read: false,
    write: false,
    untranslatedOnly: false,
    noSnoop: false,
    priv: false,
  };
  const { fabric } = rig.machine.root;
  fabric.translate(rid, pasid === 0 ? NO_PASID : pasid, false, vpn, false, reply);
  return reply;
}
