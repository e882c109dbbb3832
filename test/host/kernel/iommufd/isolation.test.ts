/** Interrupts of a device that is given away (iommufd's allow_unsafe_interrupts). */
import test from 'ava';
import { Client, Device } from './client.ts';
import { makeWorld } from './world.ts';

test('a device that could forge interrupts is bound only where that is allowed', (t) => {
  const world = makeWorld({ kernel: { unsafeInterrupts: false } });
  const client = new Client(world.user());
  const device = new Device(client.user);
  t.is(device.bind(client.fd), 'EPERM');
  world.driver.isolated = true;
  t.is(device.bind(client.fd), 'OK');
  for (const { fd } of [device, client]) t.is(client.user.close(fd), 0);
  t.deepEqual(world.kernel.leftovers(), { objects: 0, pins: 0, pasidEntries: 0, fds: 0 });
  const lax = makeWorld();
  const other = new Client(lax.user());
  t.is(new Device(other.user).bind(other.fd), 'OK', 'and by default it is');
});
