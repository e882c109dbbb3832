/** The layout check must be able to fail: it is run here on a header made for the purpose. */
import test from 'ava';
import type { Struct } from '../../../host/uapi/struct.ts';
import { struct } from '../../../host/uapi/struct.ts';
import { bitFieldClaims } from './layouts/bit-fields.ts';
import type { Checked } from './layouts/claims.ts';
import {
  constantClaims,
  definesOf,
  header,
  merge,
  renderC,
  structClaims,
} from './layouts/claims.ts';
import { compileErrors } from './layouts/compile.ts';
import { KernelSourceError, kernelSource } from './layouts/kernel-source.ts';
import { fieldClaims } from './layouts/macro-fields.ts';

const TEXT = `
/* struct commented { int a; }; #define GONE 1 */
struct demo {
  unsigned int size;
  int fd; // s32
  unsigned long long addr;
  struct { unsigned short id; } header;
  unsigned char __reserved[6];
};
#define DEMO_FLAG (1 << 4)
enum { DEMO_A, DEMO_B = 7 };
#define demo_width(r) ((((r) >> 8) & 0xf) + 1)
#define DEMO_PLACE(v) (((unsigned long long)(v)) << 8)
`;
const source = header('demo.h', TEXT, TEXT);
const DEMO = {
  size: 'u32',
  fd: 's32',
  addr: 'u64',
  id: 'u16',
  __reserved: ['u8', 6],
} as const;
const C_NAMES = { cNames: { id: 'header.id' } };

const errorsOf = (checked: Checked): string | null =>
  compileErrors(renderC(source, checked.claims), []);
const errorsOfStruct = (type: Struct): string | null => errorsOf(structClaims(source, type));

test('a declaration that matches the header compiles', (t) => {
  const checked = structClaims(source, struct('demo', DEMO, C_NAMES));
  t.is(errorsOf(checked), null);
  t.is(checked.claims.length, 4 * 3 + 2 + 1);
  t.deepEqual(checked.absent, []);
});

test('a wrong width fails and names the field', (t) => {
  const wrong = struct('demo', { ...DEMO, fd: 's64' }, C_NAMES);
  t.regex(errorsOfStruct(wrong) ?? '', /static assertion failed: "demo\.h: struct demo\.fd: size/);
});

test('a wrong sign fails', (t) => {
  const wrong = struct('demo', { ...DEMO, fd: 'u32' }, C_NAMES);
  t.regex(errorsOfStruct(wrong) ?? '', /struct demo\.fd: signed is not 0/);
});

test('swapped fields fail', (t) => {
  const { size, fd, ...rest } = DEMO;
  const wrong = struct('demo', { fd, size, ...rest }, C_NAMES);
  t.regex(errorsOfStruct(wrong) ?? '', /struct demo\.fd: offset is not 0/);
});

test('a missing last field fails by the size', (t) => {
  const { size, fd, addr } = DEMO;
  t.regex(errorsOfStruct(struct('demo', { size, fd, addr })) ?? '', /struct demo: size is not 16/);
});

test('a field newer than the header is absent, and so is the reserve it was carved from', (t) => {
  const { size, fd, addr, id } = DEMO;
  const newer = struct('demo', { size, fd, addr, id, pasid: 'u8', __reserved: ['u8', 5] }, C_NAMES);
  const { absent } = structClaims(source, newer);
  t.deepEqual(
    absent.map((entry) => entry.what),
    ['struct demo.pasid', 'struct demo.__reserved'],
  );
});

test('fields newer than the header at its end leave the older size to hold', (t) => {
  const newer = struct('demo', { ...DEMO, uuid_ptr: 'u64' }, C_NAMES);
  t.is(newer.size, 32);
  const checked = structClaims(source, newer);
  t.is(errorsOf(checked), null);
  t.deepEqual(checked.absent, [{ what: 'struct demo.uuid_ptr', claims: 3 }]);
});

test('a structure the header lacks is absent, even if a comment mentions it', (t) => {
  const checked = structClaims(source, struct('commented', { a: 'u32' }));
  t.deepEqual(checked, { claims: [], absent: [{ what: 'struct commented', claims: 4 }] });
});

test('constants: right, wrong, and absent', (t) => {
  const right = constantClaims(source, [
    ['DEMO_FLAG', 16],
    ['DEMO_A', 0],
    ['DEMO_B', 7],
  ]);
  t.is(right.claims.length, 3);
  t.is(errorsOf(right), null);
  const wrong = constantClaims(source, [['DEMO_B', 8]]);
  t.regex(errorsOf(wrong) ?? '', /demo\.h: DEMO_B is not 8/);
  t.deepEqual(constantClaims(source, [['GONE', 1]]).absent, [{ what: 'GONE', claims: 1 }]);
});

test('macros that extract or place a field: right, too wide, shifted', (t) => {
  const how = { extract: { W: 'demo_width' }, place: { P: 'DEMO_PLACE' } };
  const check = (w: readonly [number, number], p: readonly [number, number]): string | null =>
    errorsOf(fieldClaims(source, 'R', { W: [0, ...w], P: [0, ...p] }, how));
  t.is(check([11, 8], [15, 8]), null);
  t.regex(check([12, 8], [15, 8]) ?? '', /R\.W by demo_width: reads bit 12 is not 1/);
  t.regex(check([10, 8], [15, 8]) ?? '', /R\.W by demo_width: reads only 10:8 is not 1/);
  t.regex(check([11, 8], [16, 9]) ?? '', /R\.P by DEMO_PLACE: lowest bit is not 512/);
});

test('bit fields: right and wrong', (t) => {
  const text = 'union reg { struct { u64 a:3; u64 rsvd:5; u64 b:8; u32 c; }; u64 bits; };';
  const bits = header('bits.h', '', text);
  const right = bitFieldClaims(bits, 'reg', { a: [2, 0], b: [15, 8], c: [47, 16] });
  t.is(errorsOf(right), null);
  const wrong = bitFieldClaims(bits, 'reg', { b: [14, 8] });
  t.regex(errorsOf(wrong) ?? '', /width of the field at bit 8 \(b\) is not 7/);
  const reserved = bitFieldClaims(bits, 'reg', { a: [7, 3] });
  t.not(errorsOf(merge(right, reserved)), null);
});

test('macro lines keep their continuations', (t) => {
  const text = '#define KEEP(x) \\\n  ((x) + 1)\n#define DROP 2\n#define KEEP_TOO 3 /* three */\n';
  t.is(definesOf(text, /^KEEP/), '#define KEEP(x) \\\n  ((x) + 1)\n#define KEEP_TOO 3  ');
});

test('a missing kernel source names the package to install', (t) => {
  t.throws(() => kernelSource('/nonexistent/linux.tar.xz'), {
    instanceOf: KernelSourceError,
    message: /apt-get install .*linux-source-6\.12/,
  });
});
