import test from 'ava';
import fc from 'fast-check';
import * as iommufd from '../../../host/uapi/iommufd.ts';
import { pollfd } from '../../../host/uapi/poll.ts';
import type { FieldType, Scalar, Struct, StructValues } from '../../../host/uapi/struct.ts';
import { struct } from '../../../host/uapi/struct.ts';
import * as vfio from '../../../host/uapi/vfio.ts';

const every = [iommufd, vfio, { pollfd }].flatMap((module) =>
  Object.values<unknown>(module).filter(
    (value): value is Struct => typeof value === 'object' && value !== null && 'offsets' in value,
  ),
);

test('fields take their natural alignment and the end is padded to the widest', (t) => {
  const padded = struct('padded', { a: 'u8', b: 'u16', c: 'u8', d: 'u64', e: ['u16', 3], f: 'u8' });
  t.deepEqual(padded.offsets, { a: 0, b: 2, c: 4, d: 8, e: 16, f: 22 });
  t.is(padded.size, 24);
  t.is(padded.align, 8);
  t.is(struct('tail', { wide: 'u32', narrow: 'u8' }).size, 8);
});

test('a flexible array aligns what comes before it and adds no bytes', (t) => {
  const list = struct('list', { count: 'u32', items: ['u64', 0] });
  t.is(list.offsets.items, 8);
  t.is(list.size, 8);
  t.is(vfio.vfio_irq_set.size, 20);
  t.is(vfio.vfio_irq_set.offsets.data, 20);
});

test('little-endian bytes at the declared offsets', (t) => {
  const sample = struct('sample', { half: 'u16', word: 's32', quad: 'u64', tail: ['u8', 3] });
  const bytes = sample.encode({ half: 0x1234, word: -2, quad: 0x1122_3344_5566_7788n });
  t.is(
    Buffer.from(bytes).toString('hex'),
    '34120000' + 'feffffff' + '8877665544332211' + '000000' + '0000000000',
  );
});

test('u64 is bigint over its whole range, narrower types are numbers', (t) => {
  const top = 0xffff_ffff_ffff_ffffn;
  const bytes = iommufd.iommu_ioas_unmap.encode({ ioas_id: 0xffff_ffff, iova: top });
  const values = iommufd.iommu_ioas_unmap.read(new DataView(bytes.buffer));
  t.deepEqual(values, { size: 0, ioas_id: 0xffff_ffff, iova: top, length: 0n });
});

test('signed fields keep their sign', (t) => {
  const bytes = vfio.vfio_device_bind_iommufd.encode({ iommufd: -1, out_devid: 7 });
  t.is(vfio.vfio_device_bind_iommufd.read(new DataView(bytes.buffer)).iommufd, -1);
  const event = pollfd.encode({ fd: -5, events: -32768 });
  t.deepEqual(pollfd.read(new DataView(event.buffer)), { fd: -5, events: -32768, revents: 0 });
});

test('write touches the given fields only, at any place in a larger buffer', (t) => {
  const memory = new Uint8Array(64).fill(0xaa);
  const view = new DataView(memory.buffer, 8);
  iommufd.iommu_vfio_ioas.write(view, 16, { ioas_id: 1, op: 2 });
  t.is(
    Buffer.from(memory.subarray(24, 36)).toString('hex'),
    'aaaaaaaa' + '01000000' + '0200' + 'aaaa',
  );
  t.true(memory.subarray(0, 24).every((byte) => byte === 0xaa));
  t.true(memory.subarray(36).every((byte) => byte === 0xaa));
  t.is(iommufd.iommu_vfio_ioas.read(view, 16).op, 2);
});

test('values wrap to the width of their field as in C', (t) => {
  const narrow = struct('narrow', { a: 'u8', b: 'u32', c: 'u64' });
  const bytes = narrow.encode({ a: 0x1ff, b: -1, c: -1n });
  const read = narrow.read(new DataView(bytes.buffer));
  t.deepEqual(read, { a: 0xff, b: 0xffff_ffff, c: 0xffff_ffff_ffff_ffffn });
});

test('an array shorter than declared leaves its rest alone, a longer one is cut', (t) => {
  const triple = struct('triple', { items: ['u8', 3], after: 'u8' });
  const bytes = triple.encode({ items: [1, 2, 3], after: 9 });
  const view = new DataView(bytes.buffer);
  triple.write(view, 0, { items: [7] });
  t.deepEqual(triple.read(view), { items: [7, 2, 3], after: 9 });
  triple.write(view, 0, { items: [1, 1, 1, 1] });
  t.is(triple.read(view).after, 9);
});

test('reading past the end is a RangeError', (t) => {
  t.throws(() => iommufd.iommu_destroy.read(new DataView(new ArrayBuffer(7))), {
    instanceOf: RangeError,
  });
});

test('the smallest size defaults to the whole', (t) => {
  t.is(iommufd.iommu_ioas_map.minSize, 40);
  t.is(iommufd.iommu_hwpt_alloc.minSize, 24);
});

test('types follow the declaration', (t) => {
  const values: StructValues<typeof iommufd.iommu_hw_info> = {
    size: 40,
    flags: 0,
    dev_id: 1,
    data_len: 24,
    data_uptr: 0x1000n,
    out_data_type: iommufd.IOMMU_HW_INFO_TYPE_INTEL_VTD,
    out_max_pasid_log2: 20,
    __reserved: [0, 0, 0],
    out_capabilities: 6n,
  };
  const bytes = iommufd.iommu_hw_info.encode(values);
  t.deepEqual(iommufd.iommu_hw_info.read(new DataView(bytes.buffer)), values);
});

const RANGES: Readonly<Record<Scalar, fc.Arbitrary<number | bigint>>> = {
  u8: fc.integer({ min: 0, max: 0xff }),
  s8: fc.integer({ min: -0x80, max: 0x7f }),
  u16: fc.integer({ min: 0, max: 0xffff }),
  s16: fc.integer({ min: -0x8000, max: 0x7fff }),
  u32: fc.integer({ min: 0, max: 0xffff_ffff }),
  s32: fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
  u64: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  s64: fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n }),
};

type Value = StructValues<Struct>[string];

function valueOf(type: FieldType): fc.Arbitrary<Value> {
  if (typeof type === 'string') return RANGES[type];
  return fc.array(RANGES[type[0]], { minLength: type[1], maxLength: type[1] });
}

function valuesOf(type: Struct): fc.Arbitrary<Record<string, Value>> {
  const arbitraries: Record<string, fc.Arbitrary<Value>> = {};
  for (const [name, field] of Object.entries(type.fields)) arbitraries[name] = valueOf(field);
  return fc.record(arbitraries);
}

test('every declared structure reads back what was written, at any offset', (t) => {
  t.true(every.length > 45);
  for (const type of every) {
    fc.assert(
      fc.property(valuesOf(type), fc.integer({ min: 0, max: 9 }), (values, at) => {
        const view = new DataView(new ArrayBuffer(type.size + 9));
        type.write(view, at, values);
        t.deepEqual({ ...type.read(view, at) }, { ...values });
      }),
      { numRuns: 20, seed: 1 },
    );
  }
});

test('fields of a structure never overlap and fill it up to its alignment', (t) => {
  const width = { u8: 1, s8: 1, u16: 2, s16: 2, u32: 4, s32: 4, u64: 8, s64: 8 };
  for (const type of every) {
    let end = 0;
    for (const [name, field] of Object.entries(type.fields)) {
      t.true(type.offsets[name]! >= end, `${type.name}.${name}`);
      const bytes = typeof field === 'string' ? width[field] : width[field[0]] * field[1];
      end = type.offsets[name]! + bytes;
    }
    t.true(type.size >= end && type.size < end + type.align, type.name);
  }
});
