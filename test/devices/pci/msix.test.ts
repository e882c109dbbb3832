import test from 'ava';
import { ConfigSpace } from '../../../devices/pci/config-space.ts';
import { MsixTable } from '../../../devices/pci/msix.ts';
import { MsixCap, MsixEntry, PciCommand, PciHeader } from '../../../devices/spec/pci.ts';

const CAP = 0x80;
const TABLE = 0xf000;
const PBA = 0xf800;

function setup(vectors = 9) {
  const config = new ConfigSpace({ vendor: 1, device: 2, revision: 0, classCode: 0, bars: [] });
  const sent: string[] = [];
  const msix = new MsixTable({
    config,
    capOffset: CAP,
    vectors,
    bar: 0,
    tableOffset: TABLE,
    pbaOffset: PBA,
    send: (vector, address, data) => sent.push(`${vector} ${address.toString(16)} ${data}`),
  });
  const control = (bits: number): void => config.write(CAP + MsixCap.CONTROL, 2, bits);
  const entry = (vector: number, field: number): number => TABLE + vector * MsixEntry.BYTES + field;
  config.write(PciHeader.COMMAND, 2, PciCommand.BUS_MASTER);
  return { config, msix, sent, control, entry };
}

test('the capability says where table and pending bits are', (t) => {
  const { config } = setup();
  t.is(config.read(CAP + MsixCap.CONTROL, 2), 8);
  t.is(config.read(CAP + MsixCap.TABLE, 4), TABLE);
  t.is(config.read(CAP + MsixCap.PBA, 4), PBA);
});

test('disabled: lost. Masked: pending, and sent once when unmasked', (t) => {
  const { msix, sent, control, entry } = setup();
  msix.writeDword(entry(1, MsixEntry.ADDRESS_LOW), 0xfee0_1003);
  msix.writeDword(entry(1, MsixEntry.ADDRESS_HIGH), 1);
  msix.writeDword(entry(1, MsixEntry.DATA), 77);
  msix.raise(1);
  t.false(msix.isPending(1));
  control(MsixCap.CONTROL_ENABLE);
  t.is(msix.readDword(entry(1, MsixEntry.VECTOR_CONTROL)), 1, 'entries start masked');
  msix.raise(1);
  msix.raise(1);
  t.deepEqual(sent, []);
  t.is(msix.readDword(PBA), 2);
  msix.writeDword(entry(1, MsixEntry.VECTOR_CONTROL), 0xffff_fffe);
  t.deepEqual(sent, ['1 1fee01000 77']);
  t.is(msix.readDword(PBA), 0);
  msix.raise(1);
  t.is(sent.length, 2);
});

test('the function mask and bus mastering hold messages back too', (t) => {
  const { config, msix, sent, control, entry } = setup();
  for (const vector of [0, 8]) msix.writeDword(entry(vector, MsixEntry.VECTOR_CONTROL), 0);
  control(MsixCap.CONTROL_ENABLE | MsixCap.CONTROL_FUNCTION_MASK);
  msix.raise(8);
  msix.raise(0);
  t.deepEqual(sent, []);
  control(MsixCap.CONTROL_ENABLE);
  t.deepEqual(sent, ['0 0 0', '8 0 0']);
  config.write(PciHeader.COMMAND, 2, 0);
  msix.raise(8);
  t.true(msix.isPending(8));
  config.write(PciHeader.COMMAND, 2, PciCommand.BUS_MASTER);
  msix.flush();
  t.is(sent.length, 3);
});

test('pending bits are read only, other vectors and places are ignored', (t) => {
  const { msix, sent, control } = setup(65);
  control(MsixCap.CONTROL_ENABLE);
  msix.writeDword(PBA, 0xffff_ffff);
  t.is(msix.readDword(PBA), 0);
  msix.raise(64);
  t.is(msix.readDword(PBA + 8), 1);
  msix.raise(65);
  msix.raise(-1);
  t.true(msix.owns(PBA + 12));
  t.false(msix.owns(PBA + 16));
  t.false(msix.owns(TABLE - 4));
  t.false(msix.owns(TABLE + 65 * 16));
  t.is(msix.readDword(0), 0);
  msix.reset();
  t.is(msix.readDword(PBA + 8), 0);
  t.deepEqual(sent, []);
});
