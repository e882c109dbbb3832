import test from 'ava';
import { EFD_NONBLOCK } from '../../../../host/uapi/poll.ts';
import {
  VFIO_DEVICE_CMD,
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
  vfio_irq_set,
} from '../../../../host/uapi/vfio.ts';
import { bound } from '../iommufd/client.ts';
import { VECTORS } from '../iommufd/function.ts';
import type { User, World } from '../iommufd/world.ts';
import { makeWorld } from '../iommufd/world.ts';

const TRIGGER = VFIO_IRQ_SET_ACTION_TRIGGER;
const NONE = TRIGGER | VFIO_IRQ_SET_DATA_NONE;
const BOOL = TRIGGER | VFIO_IRQ_SET_DATA_BOOL;
const EVENTFD = TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;

interface Setup {
  readonly world: World;
  readonly user: User;
  readonly fd: number;
  /** SET_IRQS on MSI-X unless told otherwise; `data` are bytes. */
  readonly set: (
    values: Partial<Record<'argsz' | 'flags' | 'index' | 'start' | 'count', number>>,
    data?: readonly number[],
  ) => string;
  readonly eventfds: (start: number, fds: readonly number[]) => string;
  readonly eventfd: () => number;
  /** What an eventfd has counted since it was last asked. */
  readonly count: (fd: number) => number;
}

function setup(): Setup {
  const world = makeWorld();
  const user = world.user();
  const { device } = bound(user);
  world.pdevs[0]!.enableBusMaster();
  const set: Setup['set'] = (values, data = []) => {
    const bytes = new Uint8Array(20 + data.length);
    bytes.set(
      vfio_irq_set.encode({ argsz: bytes.length, index: VFIO_PCI_MSIX_IRQ_INDEX, ...values }),
    );
    bytes.set(data, 20);
    return user.raw(device.fd, VFIO_DEVICE_CMD.VFIO_DEVICE_SET_IRQS, bytes);
  };
  return {
    world,
    user,
    fd: device.fd,
    set,
    eventfds: (start, fds) =>
      set({ flags: EVENTFD, start, count: fds.length }, [
        ...new Uint8Array(Int32Array.from(fds).buffer),
      ]),
    eventfd: () => user.run(user.process.eventfd(0, EFD_NONBLOCK)),
    count: (fd) => {
      const n = user.run(user.process.read(fd, user.scratch + 0x2000, 8));
      return n < 0 ? 0 : Number(user.process.memory.load(user.scratch + 0x2000, 8));
    },
  };
}

test('SET_IRQS validation', (t) => {
  const { set, world } = setup();
  t.is(set({ argsz: 19, flags: NONE, count: 1 }), 'EINVAL');
  t.is(set({ flags: NONE, index: 5, count: 1 }), 'EINVAL');
  t.is(set({ flags: NONE | 64, count: 1 }), 'EINVAL');
  t.is(set({ flags: TRIGGER, count: 1 }), 'EINVAL', 'no data type');
  t.is(set({ flags: NONE | BOOL, count: 1 }, [1]), 'EINVAL', 'two data types');
  t.is(set({ flags: NONE, start: VECTORS, count: 0 }), 'EINVAL');
  t.is(set({ flags: NONE, start: 1, count: VECTORS }), 'EINVAL');
  t.is(set({ flags: NONE, start: 1, count: 0xffff_ffff }), 'EINVAL');
  t.is(set({ flags: EVENTFD, count: 2 }, [0, 0, 0, 0]), 'EINVAL', 'data too short');
  t.is(set({ flags: NONE, index: VFIO_PCI_INTX_IRQ_INDEX, count: 1 }), 'EINVAL', 'no INTx');
  t.is(set({ flags: VFIO_IRQ_SET_DATA_NONE, count: 1 }), 'ENOTTY', 'no action');
  t.is(set({ flags: NONE | VFIO_IRQ_SET_ACTION_MASK, count: 1 }), 'ENOTTY', 'two actions');
  const mask = VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_DATA_NONE;
  t.is(set({ flags: mask, count: 1 }), 'ENOTTY');
  t.is(set({ flags: NONE, count: 1 }), 'EINVAL', 'MSI-X is not enabled');
  t.is(set({ flags: NONE }), 'OK', 'disabling what is off');
  t.is(world.machine.interrupts.allocated, 0);
});

test("a device's MSI-X message adds one to its eventfd", (t) => {
  const { world, eventfds, eventfd, count, set, user } = setup();
  const [one, two] = [eventfd(), eventfd()];
  const { msix } = world.functions[0]!;
  t.is(eventfds(1, [one, two]), 'OK');
  t.true(world.pdevs[0]!.msix!.enabled);
  t.is(world.machine.interrupts.allocated, 2);
  msix.raise(1);
  msix.raise(1);
  msix.raise(2);
  msix.raise(0);
  world.settle();
  t.deepEqual([count(one), count(two)], [2, 1]);
  t.is(eventfds(1, [-1]), 'OK', 'only that vector is released');
  t.is(world.machine.interrupts.allocated, 1);
  msix.raise(1);
  msix.raise(2);
  world.settle();
  t.deepEqual([count(one), count(two)], [0, 1]);
  t.is(eventfds(2, [one]), 'OK', 'another eventfd for the vector');
  msix.raise(2);
  world.settle();
  t.deepEqual([count(one), count(two)], [1, 0]);
  t.is(user.close(one), 0);
  msix.raise(2);
  world.settle();
  const signals = world.events.filter(({ def }) => def.name === 'vfio:eventfd_signal');
  t.is(signals.length, 6, 'the vector keeps the eventfd open');
  t.is(set({ flags: NONE }), 'OK');
  t.is(world.machine.interrupts.allocated, 0);
  t.false(world.pdevs[0]!.msix!.enabled);
});

test('vectors survive a reset', (t) => {
  const { world, user, fd, eventfds, eventfd, count } = setup();
  const one = eventfd();
  t.is(eventfds(0, [one]), 'OK');
  t.is(user.raw(fd, VFIO_DEVICE_CMD.VFIO_DEVICE_RESET, new Uint8Array(0)), 'OK');
  world.functions[0]!.msix.raise(0);
  world.settle();
  t.is(count(one), 1);
});

test('loopback signals assigned vectors', (t) => {
  const { set, eventfds, eventfd, count } = setup();
  const [one, two] = [eventfd(), eventfd()];
  t.is(eventfds(0, [one, -1, two]), 'OK');
  t.is(set({ flags: NONE, start: 0, count: 4 }), 'OK');
  t.deepEqual([count(one), count(two)], [1, 1]);
  t.is(set({ flags: BOOL, start: 0, count: 3 }, [0, 1, 1]), 'OK');
  t.deepEqual([count(one), count(two)], [0, 1]);
});

test('a bad eventfd takes back what the call gave', (t) => {
  const { world, fd, eventfds, eventfd } = setup();
  const one = eventfd();
  t.is(eventfds(0, [one, 77]), 'EBADF');
  t.is(world.machine.interrupts.allocated, 0);
  t.false(world.pdevs[0]!.msix!.enabled);
  t.is(eventfds(0, [one, fd]), 'EINVAL', 'not an eventfd');
  t.is(eventfds(3, [one]), 'OK');
  world.kernel.failpoints.failAt('vfio:request_irq', 2);
  t.is(eventfds(0, [one, one]), 'ENOMEM');
  t.is(world.machine.interrupts.allocated, 1, 'vector 3 stays');
  t.true(world.pdevs[0]!.msix!.enabled);
});

test('error and request interrupts: one eventfd each', (t) => {
  const { set, eventfd, count, user, fd, world } = setup();
  for (const index of [VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX]) {
    const one = eventfd();
    t.is(set({ flags: NONE, index, count: 1 }), 'EINVAL', 'nothing assigned');
    t.is(set({ flags: EVENTFD, index, count: 1 }, [77, 0, 0, 0]), 'EBADF');
    t.is(set({ flags: EVENTFD, index, count: 1 }, [one, 0, 0, 0]), 'OK');
    t.is(set({ flags: NONE, index, count: 1 }), 'OK');
    t.is(set({ flags: BOOL, index, count: 1 }, [0]), 'OK');
    t.is(set({ flags: BOOL, index, count: 1 }, [1]), 'OK');
    t.is(count(one), 2);
    t.is(set({ flags: BOOL, index, count: 0 }), 'EINVAL');
    t.is(set({ flags: NONE, index, count: 0 }), 'OK', 'taken away');
    t.is(set({ flags: NONE, index, count: 1 }), 'EINVAL');
    t.is(set({ flags: EVENTFD, index, count: 1 }, [one, 0, 0, 0]), 'OK');
  }
  t.is(user.close(fd), 0);
  t.is(world.kernel.leftovers().objects, 0);
});

test('closing the device frees its interrupts and eventfds', (t) => {
  const { world, user, eventfds, eventfd } = setup();
  t.is(eventfds(0, [eventfd(), eventfd()]), 'OK');
  user.process.kill();
  world.settle();
  t.is(world.machine.interrupts.allocated, 0);
  t.deepEqual(world.kernel.leftovers(), { objects: 0, pins: 0, pasidEntries: 0, fds: 0 });
});

test('a vector released while memory decoding is off sends nothing afterwards', (t) => {
  const { world, eventfds, eventfd, count } = setup();
  const [one, two] = [eventfd(), eventfd()];
  const [pdev, { msix }] = [world.pdevs[0]!, world.functions[0]!];
  t.is(eventfds(1, [one]), 'OK');
  pdev.disableMemory();
  t.is(eventfds(1, [-1]), 'OK');
  t.is(eventfds(2, [two]), 'OK', 'it gets the interrupt that vector 1 had');
  t.false(pdev.memoryEnabled, 'as the user left it');
  pdev.enableMemory();
  msix.raise(1);
  world.settle();
  t.deepEqual([count(one), count(two)], [0, 0]);
  msix.raise(2);
  world.settle();
  t.is(count(two), 1);
});
