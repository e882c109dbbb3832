/** A device that is unplugged while a program has it: the request interrupt, and what then goes. */
import test from 'ava';
import { vfioPciRemove } from '../../../../host/kernel/vfio/vfio-pci.ts';
import { errnoName } from '../../../../host/uapi/errno.ts';
import { IOMMU_HWPT_ALLOC_PASID } from '../../../../host/uapi/iommufd.ts';
import { EFD_NONBLOCK, O_RDWR } from '../../../../host/uapi/poll.ts';
import {
  VFIO_DEVICE_CMD,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_PCI_REQ_IRQ_INDEX,
  vfio_irq_set,
} from '../../../../host/uapi/vfio.ts';
import { bound, id } from '../iommufd/client.ts';
import { makeWorld, type User } from '../iommufd/world.ts';

const NODE = '/dev/vfio/devices/vfio0';
const SECONDS = 1_000_000_000;

/** Makes an eventfd hear that the device is wanted back. */
function askThrough(user: User, device: number): number {
  const fd = user.run(user.process.eventfd(0, EFD_NONBLOCK));
  const bytes = new Uint8Array(vfio_irq_set.size + 4);
  const view = new DataView(bytes.buffer);
  vfio_irq_set.write(view, 0, {
    argsz: bytes.length,
    flags: VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
    index: VFIO_PCI_REQ_IRQ_INDEX,
    count: 1,
  });
  view.setInt32(vfio_irq_set.size, fd, true);
  if (user.raw(device, VFIO_DEVICE_CMD.VFIO_DEVICE_SET_IRQS, bytes) !== 'OK') throw new Error();
  return fd;
}

/** What the eventfd has counted since it was last asked. */
function count(user: User, fd: number): number {
  const result = user.run(user.process.read(fd, user.scratch, 8));
  return result < 0 ? 0 : user.read(user.scratch, 1)[0]!;
}

test('the user is asked every ten seconds; with its file go PASIDs, RID and the device', (t) => {
  const world = makeWorld();
  const { machine, kernel, driver } = world;
  const user = world.user();
  const { client, device } = bound(user);
  const hwpt = id(client.hwpt(device.id, client.ioas(), IOMMU_HWPT_ALLOC_PASID));
  for (const pasid of [3, 7]) t.is(device.attachPasid(pasid, hwpt), hwpt);
  t.is(device.attach(hwpt), hwpt);
  const asked = askThrough(user, device.fd);
  t.is(count(user, asked), 0);
  const [dev, vfio] = [world.devs[0]!, world.vfio[0]!];
  const removal = machine.scheduler.spawn('removal', vfioPciRemove(kernel, vfio));
  const until = (ns: number): void => {
    const end = machine.clock.now + ns;
    machine.clock.after(ns, () => undefined);
    machine.clock.run(() => machine.clock.now >= end);
  };
  until(1 * SECONDS);
  t.is(count(user, asked), 1);
  until(30 * SECONDS);
  t.is(count(user, asked), 3);
  t.false(removal.done, 'nobody takes it from the user');
  t.is(driver.at(dev, 7), driver.at(dev, 0));
  t.is(errnoName(user.run(user.process.open(NODE, O_RDWR))), 'ENODEV');
  t.is(user.close(device.fd), 0);
  world.settle();
  t.true(removal.done);
  t.is(kernel.iommu.deviceOf(world.pdevs[0]!), undefined);
  t.deepEqual(
    [...(driver.places.get(dev)?.keys() ?? [])].filter((pasid) => pasid > 0),
    [],
  );
  t.is(client.destroy(device.id), 'ENOENT');
  t.is(client.destroy(hwpt), 'OK', 'HWPTs stay');
  t.is(user.close(asked), 0);
  t.is(user.close(client.fd), 0);
  t.deepEqual(kernel.leftovers(), { objects: 0, pins: 0, pasidEntries: 0, fds: 0 });
});

test('nobody has it open: it goes at once; a file that was never bound is waited for, too', (t) => {
  const world = makeWorld({ functions: [{}, {}] });
  const [one, two] = world.vfio;
  world.run(vfioPciRemove(world.kernel, one!));
  const user = world.user();
  t.is(errnoName(user.run(user.process.open(NODE, O_RDWR))), 'ENODEV');
  const fd = user.open('/dev/vfio/devices/vfio1');
  const removal = world.machine.scheduler.spawn('removal', vfioPciRemove(world.kernel, two!));
  world.machine.clock.step();
  t.false(removal.done);
  t.is(user.close(fd), 0);
  world.settle();
  t.true(removal.done);
});
