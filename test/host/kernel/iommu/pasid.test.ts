import test from 'ava';
import { FakeDriver, finish, twoDevices } from './fake-driver.ts';

test('the checks of attach and their errnos', (t) => {
  const driver = new FakeDriver();
  const { core, a } = twoDevices(driver);
  const domain = driver.domain('paging');
  const attach = (d: typeof domain, pasid: number, dev = a): void =>
    finish(core.attachDevicePasid(d, dev, pasid, { domain: d }));
  const stranger = { name: 'x', rid: 1, ops: driver, maxPasids: 1, priv: null };
  t.throws(() => attach(domain, 1, stranger), { message: /^ENODEV/ });
  t.throws(() => attach(driver.domain('paging', false), 1), { message: /^EOPNOTSUPP/ });
  t.throws(() => attach(new FakeDriver().domain('paging'), 1), { message: /^EINVAL/ });
  t.throws(() => attach(domain, 0), { message: /^EINVAL/ });
  t.throws(() => attach(domain, 1024), { message: /^EINVAL/ });
  attach(domain, 1);
  t.throws(() => attach(driver.domain('paging'), 1), { message: /^EBUSY/ });
  const poor = new FakeDriver({ blockedPasid: false });
  const other = twoDevices(poor);
  const one = poor.domain('paging');
  const attempt = other.core.attachDevicePasid(one, other.a, 1, { domain: one });
  t.throws(() => finish(attempt), { message: /^EOPNOTSUPP/ });
  t.deepEqual(driver.log, ['a 1 none>paging1', 'b 1 none>paging1']);
  t.false(other.group.mutex.locked);
});

test('the checks of replace and their errnos', (t) => {
  const driver = new FakeDriver();
  const { core, group, a } = twoDevices(driver);
  const [one, two] = [driver.domain('paging'), driver.domain('nested')];
  const handle = { domain: one };
  const replace = (domain: typeof one, pasid: number, h: typeof handle | null): void =>
    finish(core.replaceDevicePasid(domain, a, pasid, h));
  t.throws(() => replace(two, 1, { domain: two }), { message: /^EINVAL.*not attached/ });
  finish(core.attachDevicePasid(one, a, 1, handle));
  t.throws(() => replace(two, 1, null), { message: /^EINVAL/ });
  t.throws(() => replace(two, 0, { domain: two }), { message: /^EINVAL/ });
  t.throws(() => replace(one, 1, handle), { message: /^EINVAL/ });
  t.throws(() => replace(new FakeDriver().domain('paging'), 1, handle), { message: /^EINVAL/ });
  driver.log.length = 0;
  const again = { domain: one };
  replace(one, 1, again);
  t.deepEqual(driver.log, [], 'the same domain: only the handle changes');
  t.is(core.attachHandle(group, 1), again);
  replace(two, 1, { domain: two });
  t.deepEqual(driver.log, ['a 1 paging1>nested2', 'b 1 paging1>nested2']);
  t.is(core.attachHandle(group, 1).domain, two);
});

test('an attach that fails at the second device detaches the first', (t) => {
  const driver = new FakeDriver();
  const { core, group, a } = twoDevices(driver);
  const domain = driver.domain('paging');
  driver.refuse.add('b 7 none>paging1');
  const attempt = core.attachDevicePasid(domain, a, 7, { domain });
  t.throws(() => finish(attempt), { message: /^ENOMEM/ });
  t.deepEqual(driver.log, ['a 7 none>paging1', 'a 7 paging1>blocked']);
  t.throws(() => core.attachHandle(group, 7), { message: /^ENOENT/ });
  t.false(group.mutex.locked);
});

test('a replace that fails at the second device puts the first back, or blocks it', (t) => {
  const driver = new FakeDriver();
  const { core, group, a } = twoDevices(driver);
  const [one, two] = [driver.domain('paging'), driver.domain('paging')];
  finish(core.attachDevicePasid(one, a, 7, { domain: one }));
  for (const backFails of [false, true]) {
    driver.log.length = 0;
    driver.refuse.add('b 7 paging1>paging2');
    if (backFails) driver.refuse.add('a 7 paging2>paging1');
    const attempt = core.replaceDevicePasid(two, a, 7, { domain: two });
    t.throws(() => finish(attempt), { message: /^ENOMEM/ });
    t.deepEqual(driver.log, [
      'a 7 paging1>paging2',
      backFails ? 'a 7 paging2>blocked' : 'a 7 paging2>paging1',
    ]);
    t.is(core.attachHandle(group, 7).domain, one);
  }
});

test('detach blocks every device and forgets; twice is once; devices without PASIDs are left out', (t) => {
  const driver = new FakeDriver();
  const { core, group, a, b } = twoDevices(driver);
  b.maxPasids = 0;
  const domain = driver.domain('paging');
  finish(core.attachDevicePasid(domain, a, 7, { domain }));
  finish(core.detachDevicePasid(domain, a, 7));
  finish(core.detachDevicePasid(domain, a, 7));
  t.deepEqual(driver.log, ['a 7 none>paging1', 'a 7 paging1>blocked']);
  t.is(group.attachments.size, 0);
});
