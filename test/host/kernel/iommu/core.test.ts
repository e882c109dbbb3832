import test from 'ava';
import { FakeDriver, finish, twoDevices } from './fake-driver.ts';

test('a device starts in the identity domain, and blocked without one', (t) => {
  const { group } = twoDevices(new FakeDriver());
  t.is(group.domain.type, 'identity');
  t.is(group.devices.length, 2);
  const strict = new FakeDriver();
  strict.identityDomain = null;
  t.is(twoDevices(strict).group.domain, strict.blockedDomain);
});

test('ownership: counted for one owner, EPERM for another, EBUSY while attached', (t) => {
  const driver = new FakeDriver();
  const { core, group, a } = twoDevices(driver);
  const [me, you] = [{}, {}];
  const domain = driver.domain('paging');
  finish(core.attachDevicePasid(domain, a, 1, { domain }));
  t.throws(() => finish(core.claimDmaOwner(group, me)), { message: /^EBUSY/ });
  finish(core.detachDevicePasid(domain, a, 1));
  finish(core.claimDmaOwner(group, me));
  finish(core.claimDmaOwner(group, me));
  t.is(group.domain, driver.blockedDomain);
  t.throws(() => finish(core.claimDmaOwner(group, you)), { message: /^EPERM/ });
  finish(core.releaseDmaOwner(group));
  t.is(group.domain, driver.blockedDomain);
  finish(core.releaseDmaOwner(group));
  t.is(group.domain.type, 'identity');
  finish(core.claimDmaOwner(group, you));
  t.is(group.owner, you);
});

test('RID attach: EBUSY twice, EINVAL for a foreign domain, back to blocked on detach', (t) => {
  const driver = new FakeDriver();
  const { core, group } = twoDevices(driver);
  const [one, two] = [driver.domain('paging'), driver.domain('paging')];
  finish(core.claimDmaOwner(group, {}));
  const foreign = new FakeDriver().domain('paging');
  const attempt = core.attachGroupHandle(foreign, group, { domain: foreign });
  t.throws(() => finish(attempt), { message: /^EINVAL/ });
  finish(core.attachGroupHandle(one, group, { domain: one }));
  const again = core.attachGroupHandle(two, group, { domain: two });
  t.throws(() => finish(again), { message: /^EBUSY/ });
  driver.log.length = 0;
  finish(core.replaceGroupHandle(group, two, { domain: two }));
  t.is(core.attachHandle(group, 0).domain, two);
  finish(core.detachGroupHandle(two, group));
  t.deepEqual(driver.log, [
    'a 0 paging1>paging2',
    'b 0 paging1>paging2',
    'a 0 paging2>blocked',
    'b 0 paging2>blocked',
  ]);
  t.throws(() => core.attachHandle(group, 0), { message: /^ENOENT/ });
});

test('a RID move that fails at the second device puts the first back, or blocks it', (t) => {
  const driver = new FakeDriver();
  const { core, group } = twoDevices(driver);
  const [one, two] = [driver.domain('paging'), driver.domain('paging')];
  finish(core.attachGroupHandle(one, group, { domain: one }));
  for (const backFails of [false, true]) {
    driver.log.length = 0;
    driver.refuse.add('b 0 paging1>paging2');
    if (backFails) driver.refuse.add('a 0 paging2>paging1');
    const attempt = core.replaceGroupHandle(group, two, { domain: two });
    t.throws(() => finish(attempt), { message: /^ENOMEM/ });
    t.deepEqual(driver.log, [
      'a 0 paging1>paging2',
      backFails ? 'a 0 paging2>blocked' : 'a 0 paging2>paging1',
    ]);
    t.is(group.domain, one);
    t.is(core.attachHandle(group, 0).domain, one);
  }
});

test('handle lookup: ENOENT for a bare domain, EBUSY for another type', (t) => {
  const driver = new FakeDriver();
  const { core, group, a } = twoDevices(driver);
  const domain = driver.domain('nested');
  finish(core.attachDevicePasid(domain, a, 1, null));
  t.throws(() => core.attachHandle(group, 1), { message: /^ENOENT/ });
  finish(core.attachDevicePasid(domain, a, 2, { domain }));
  t.throws(() => core.attachHandle(group, 2, 'paging'), { message: /^EBUSY/ });
  t.is(core.attachHandle(group, 2, 'nested').domain, domain);
});

test('ownership ends even if a device cannot go to its default domain', (t) => {
  const driver = new FakeDriver();
  const { core, group } = twoDevices(driver);
  finish(core.claimDmaOwner(group, {}));
  driver.refuse.add('a 0 blocked>identity');
  driver.log.length = 0;
  finish(core.releaseDmaOwner(group));
  t.deepEqual(driver.log, ['b 0 blocked>identity']);
  t.is(group.owner, null);
  const next = {};
  finish(core.claimDmaOwner(group, next));
  t.is(group.owner, next);
});
