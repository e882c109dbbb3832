/** Two devices of one IOMMU group: they go together, and each has to ask. */
import test from 'ava';
import { IOMMU_HWPT_ALLOC_PASID } from '../../../../host/uapi/iommufd.ts';
import { Client, Device, id } from './client.ts';
import { makeWorld } from './world.ts';

const PASID = IOMMU_HWPT_ALLOC_PASID;
const NOTHING = { objects: 0, pins: 0, pasidEntries: 0, fds: 0 };

function setup() {
  const world = makeWorld({ functions: [{}, {}], oneGroup: true });
  const client = new Client(world.user());
  const [one, two] = [new Device(client.user, 0), new Device(client.user, 1)];
  for (const device of [one, two]) {
    if (device.bind(client.fd) !== 'OK') throw new Error('bind');
  }
  const ioas = client.ioas();
  const hwpt = (): number => id(client.hwpt(one.id, ioas, PASID));
  const at = (pasid: number): string[] => world.devs.map((dev) => world.driver.at(dev, pasid));
  const closeAll = (): void => {
    for (const { fd } of [one, two, client]) client.user.close(fd);
  };
  return { world, client, one, two, ioas, hwpt, at, closeAll };
}

for (const pasid of [0, 5]) {
  const name = pasid === 0 ? 'the RID' : `PASID ${pasid}`;
  const attach = (device: Device, pt: number): number | string =>
    pasid === 0 ? device.attach(pt) : device.attachPasid(pasid, pt);
  const detach = (device: Device): string =>
    pasid === 0 ? device.detach() : device.detachPasid(pasid);

  test(`${name}: the first device takes the group along; the second joins the same HWPT only`, (t) => {
    const { client, one, two, hwpt, at, closeAll, world } = setup();
    const [a, b] = [hwpt(), hwpt()];
    t.is(attach(one, a), a);
    const [first, second] = at(pasid);
    t.is(first, second);
    t.not(first, 'none');
    t.is(attach(two, b), 'EINVAL');
    t.deepEqual(at(pasid), [first, second]);
    t.is(attach(two, a), a);
    t.is(attach(two, b), b, 'a replace moves both');
    const moved = at(pasid);
    t.is(moved[0], moved[1]);
    t.not(moved[0], first);
    t.is(client.destroy(a), 'OK');
    t.is(client.destroy(b), 'EBUSY');
    t.is(detach(one), 'OK');
    t.deepEqual(at(pasid), moved, 'the other still wants it');
    t.is(client.destroy(b), 'EBUSY');
    t.is(detach(one), 'OK', 'twice is silent');
    t.is(detach(two), 'OK');
    t.true(at(pasid).every((place) => place === 'none' || place === 'blocked#0'));
    t.is(client.destroy(b), 'OK');
    closeAll();
    t.deepEqual(world.kernel.leftovers(), NOTHING);
  });

  test(`${name}: every failure of an attach, a join or a replace leaves both devices alike`, (t) => {
    const { client, one, two, hwpt, at, world } = setup();
    const [a, b] = [hwpt(), hwpt()];
    const { failpoints } = world.kernel;
    const eachFails = (step: () => number | string, wanted: number): number => {
      for (let n = 1; ; n++) {
        const before = at(pasid);
        failpoints.failNth(n);
        const result = step();
        const { armed } = failpoints;
        failpoints.disarm();
        if (armed) {
          t.is(result, wanted);
          return n - 1;
        }
        // What fails after the attach itself (the copy of the id) does not undo it.
        if (at(pasid)[0] !== before[0]) return n;
        t.deepEqual(at(pasid), before);
      }
    };
    t.true(eachFails(() => attach(one, a), a) > 0);
    if (pasid === 0) id(attach(one, a));
    t.is(at(pasid)[0], at(pasid)[1]);
    eachFails(() => attach(two, a), a);
    t.true(eachFails(() => attach(one, b), b) > 0);
    t.is(at(pasid)[0], at(pasid)[1]);
    client.user.close(one.fd);
    client.user.close(two.fd);
    client.user.close(client.fd);
    t.deepEqual(world.kernel.leftovers(), NOTHING);
  });
}

test('a PASID needs its flag on the RID of the group, whichever device asks', (t) => {
  const { client, one, two, ioas, hwpt } = setup();
  const plain = id(client.hwpt(one.id, ioas));
  const a = hwpt();
  t.is(one.attach(plain), plain);
  t.is(two.attachPasid(5, a), 'EINVAL');
  t.is(one.detach(), 'OK');
  t.is(two.attachPasid(5, a), a);
  t.is(one.attach(plain), 'EINVAL');
  t.is(one.attach(a), a);
});

test('a group belongs to one iommufd', (t) => {
  const world = makeWorld({ functions: [{}, {}], oneGroup: true });
  const { user, fd } = new Client(world.user());
  const [one, two] = [new Device(user, 0), new Device(user, 1)];
  t.is(one.bind(fd), 'OK');
  const other = new Client(user);
  t.is(two.bind(other.fd), 'EPERM');
  t.is(two.bind(fd), 'OK');
});
