import test from 'ava';
import { AtsCapability, PasidCapability, PriCapability } from '../../../devices/pci/ats.ts';
import { ConfigSpace } from '../../../devices/pci/config-space.ts';
import { AtsCap, PasidCap, PriCap } from '../../../devices/spec/pci.ts';

const ATS = 0x100;
const PRI = 0x108;
const PASID = 0x118;

function setup() {
  const config = new ConfigSpace({ vendor: 1, device: 2, revision: 0, classCode: 0, bars: [] });
  const log: string[] = [];
  const state = { outstanding: 0 };
  const ats = new AtsCapability(config, ATS, () => log.push('ats'));
  const pri = new PriCapability(config, PRI, 32, {
    outstanding: () => state.outstanding,
    changed: () => log.push('pri'),
    reset: () => log.push('reset'),
  });
  const pasid = new PasidCapability(config, PASID, 20, () => log.push('pasid'));
  return { config, log, state, ats, pri, pasid };
}

test('ATS: capability word, STU only together with enabling', (t) => {
  const { config, ats, log } = setup();
  t.is(config.read(ATS + AtsCap.CAPABILITY, 2), 0x0060);
  const control = ATS + AtsCap.CONTROL;
  config.write(control, 2, AtsCap.CONTROL_ENABLE | 2);
  t.true(ats.enabled);
  t.is(config.read(control, 2), AtsCap.CONTROL_ENABLE | 2);
  config.write(control, 2, AtsCap.CONTROL_ENABLE | 5);
  t.is(config.read(control, 2), AtsCap.CONTROL_ENABLE | 2, 'ignored while on');
  config.write(control, 2, 5);
  t.false(ats.enabled);
  t.is(config.read(control, 2), 5);
  t.deepEqual(log, ['ats', 'ats']);
});

test('PASID: 20 bits, execute and privileged chosen together with enabling', (t) => {
  const { config, pasid, log } = setup();
  t.is(config.read(PASID + PasidCap.CAPABILITY, 2), 0x1406);
  const control = PASID + PasidCap.CONTROL;
  config.write(control, 2, PasidCap.CONTROL_PRIVILEGED);
  t.false(pasid.privilegedEnabled, 'not without PASID');
  config.write(control, 2, PasidCap.CONTROL_ENABLE);
  t.true(pasid.enabled);
  config.write(control, 2, 0xffff);
  t.false(pasid.privilegedEnabled, 'ignored while on');
  config.write(control, 2, 0);
  config.write(control, 2, 0xffff);
  t.true(pasid.privilegedEnabled);
  t.is(config.read(control, 2), 7);
  t.deepEqual(log, ['pasid', 'pasid', 'pasid']);
});

test('PRI: stopped, enable, allocation and reset', (t) => {
  const { config, pri, state, log } = setup();
  const status = (): number => config.read(PRI + PriCap.STATUS, 2);
  const control = (bits: number): void => config.write(PRI + PriCap.CONTROL, 2, bits);
  t.is(status(), 0x8100);
  t.is(config.read(PRI + PriCap.MAX_REQUESTS, 4), 32);
  config.write(PRI + PriCap.ALLOCATION, 4, 8);
  control(PriCap.CONTROL_ENABLE);
  t.true(pri.running);
  t.is(status(), 0x8000);
  config.write(PRI + PriCap.ALLOCATION, 4, 16);
  t.is(pri.limit, 8, 'fixed while on');
  control(PriCap.CONTROL_ENABLE | PriCap.CONTROL_RESET);
  t.is(config.read(PRI + PriCap.CONTROL, 2), PriCap.CONTROL_ENABLE);
  t.false(log.includes('reset'), 'no reset while on');
  state.outstanding = 1;
  control(0);
  t.is(status(), 0x8000, 'something is outstanding');
  state.outstanding = 0;
  pri.update();
  t.is(status(), 0x8100);
  control(PriCap.CONTROL_RESET);
  t.true(log.includes('reset'));
  t.is(config.read(PRI + PriCap.CONTROL, 2), 0);
  config.write(PRI + PriCap.ALLOCATION, 4, 1000);
  t.is(pri.limit, 32);
});

test('PRI: failures stop it until cleared; unexpected responses are noted', (t) => {
  const { config, pri } = setup();
  const status = (): number => config.read(PRI + PriCap.STATUS, 2);
  config.write(PRI + PriCap.CONTROL, 2, PriCap.CONTROL_ENABLE);
  pri.responseFailure();
  t.false(pri.running);
  t.is(status(), 0x8101);
  pri.unexpectedResponse();
  t.is(status(), 0x8103);
  config.write(PRI + PriCap.STATUS, 2, 0xffff);
  t.is(status(), 0x8000);
  t.true(pri.running);
});
