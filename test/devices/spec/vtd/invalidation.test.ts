import test from 'ava';

import {
  CC_GRANULARITY,
  ccDesc,
  type Descriptor,
  decodeDescriptor,
  describeDescriptor,
  descriptorType,
  devTlbDesc,
  IEC_GRANULARITY,
  IOTLB_GRANULARITY,
  iecDesc,
  iotlbDesc,
  PASID_CACHE_GRANULARITY,
  PASID_IOTLB_GRANULARITY,
  pageGroupRespDesc,
  pasidCacheDesc,
  pasidDevTlbDesc,
  pasidIotlbDesc,
  waitDesc,
} from '../../../../devices/spec/vtd/invalidation.ts';
import { RESPONSE } from '../../../../devices/spec/vtd/page-request.ts';

const ADDRESS = 0xfee00;

test('encoding test vectors', (t) => {
  const status = { statusData: 2, statusAddress: ADDRESS };
  const vectors: readonly (readonly [string, BigUint64Array, bigint, bigint])[] = [
    ['cc global', ccDesc({ granularity: CC_GRANULARITY.GLOBAL }), 0x11n, 0n],
    ['cc device', ccDesc({ granularity: CC_GRANULARITY.DEVICE, sid: 0x100 }), 0x10000000031n, 0n],
    [
      'iotlb global',
      iotlbDesc({ granularity: IOTLB_GRANULARITY.GLOBAL, drainReads: true, drainWrites: true }),
      0xd2n,
      0n,
    ],
    ['pc global', pasidCacheDesc({ granularity: PASID_CACHE_GRANULARITY.GLOBAL }), 0x37n, 0n],
    [
      'pc PASID 5',
      pasidCacheDesc({ granularity: PASID_CACHE_GRANULARITY.PASID, did: 1, pasid: 5 }),
      0x500010017n,
      0n,
    ],
    [
      'p_iotlb all',
      pasidIotlbDesc({ granularity: PASID_IOTLB_GRANULARITY.ALL, did: 1, pasid: 5 }),
      0x500010026n,
      0n,
    ],
    ['wait SW', waitDesc({ statusWrite: true, ...status }), 0x200000025n, BigInt(ADDRESS)],
    ['wait FN', waitDesc({ fence: true, statusData: 2 }), 0x200000045n, 0n],
    [
      'wait SW+PD',
      waitDesc({ statusWrite: true, drainPageRequests: true, ...status }),
      0x2000000a5n,
      BigInt(ADDRESS),
    ],
    [
      'pgrp',
      pageGroupRespDesc({
        rid: 0x100,
        pasid: 5,
        pasidPresent: true,
        code: RESPONSE.SUCCESS,
        prgi: 3,
        last: true,
      }),
      0x501000019n,
      0x1cn,
    ],
    ['dev_tlb 4K', devTlbDesc({ sid: 0, address: 0x10000, sizeLog2: 12 }), 0x3n, 0x10000n],
    ['dev_tlb 8K', devTlbDesc({ sid: 0, address: 0x10000, sizeLog2: 13 }), 0x3n, 0x10001n],
    ['dev_tlb 16K', devTlbDesc({ sid: 0, address: 0x10000, sizeLog2: 14 }), 0x3n, 0x11001n],
    ['dev_tlb all', devTlbDesc({ sid: 0, sizeLog2: 'all' }), 0x3n, 0x7ffffffffffff001n],
    [
      'p_dev_tlb 4K',
      pasidDevTlbDesc({ sid: 0, pasid: 0, address: 0x10000, sizeLog2: 12 }),
      0x8n,
      0x10000n,
    ],
    [
      'p_dev_tlb 8K',
      pasidDevTlbDesc({ sid: 0, pasid: 0, address: 0x10000, sizeLog2: 13 }),
      0x8n,
      0x10800n,
    ],
    [
      'p_dev_tlb 16K',
      pasidDevTlbDesc({ sid: 0, pasid: 0, address: 0x10000, sizeLog2: 14 }),
      0x8n,
      0x11800n,
    ],
    [
      'p_dev_tlb all',
      pasidDevTlbDesc({ sid: 0, pasid: 0, sizeLog2: 'all' }),
      0x8n,
      0x7ffffffffffff800n,
    ],
  ];
  for (const [name, words, qw0, qw1] of vectors) t.deepEqual([...words], [qw0, qw1, 0n, 0n], name);
});

/** One descriptor of each type with every field set, its encoding and its printed form. */
const EXAMPLES: readonly (readonly [Descriptor, BigUint64Array, string])[] = (() => {
  const cc = { granularity: 3, did: 7, sid: 0x1234, fm: 2 };
  const iotlb = {
    granularity: 3,
    did: 7,
    drainWrites: true,
    drainReads: false,
    am: 9,
    ih: true,
    address: 0x200000,
  };
  const devTlb = { sid: 0x1234, pfsid: 0xabc5, mip: 17, address: 0x10000, sizeLog2: 14 };
  const iec = { granularity: IEC_GRANULARITY.INDEX, im: 3, index: 0x4321 };
  const wait = {
    interrupt: true,
    statusWrite: true,
    fence: true,
    drainPageRequests: true,
    statusData: 0xdeadbeef,
    statusAddress: 0x1004,
  };
  const pIotlb = { granularity: 3, did: 7, pasid: 0xfffff, am: 0, ih: false, address: 0x5000 };
  const pc = { granularity: 1, did: 7, pasid: 0xfffff };
  const pDevTlb = { ...devTlb, pasid: 0xfffff, global: false };
  const pgrp = { rid: 0x100, pasid: 5, pasidPresent: true, code: 15, prgi: 0x1ff, last: false };
  return [
    [{ type: 'cc', ...cc }, ccDesc(cc), 'cc_inv device did=7 sid=12:06.4'],
    [{ type: 'iotlb', ...iotlb }, iotlbDesc(iotlb), 'iotlb_inv page did=7 0x200000 am=9 IH DW'],
    [{ type: 'dev_tlb', ...devTlb }, devTlbDesc(devTlb), 'dev_tlb_inv sid=12:06.4 0x10000+0x4000'],
    [{ type: 'iec', ...iec }, iecDesc(iec), 'iec_inv index=17185 im=3'],
    [{ type: 'inv_wait', ...wait }, waitDesc(wait), 'inv_wait IF SW FN PD 0xdeadbeef -> 0x1004'],
    [
      { type: 'p_iotlb', ...pIotlb },
      pasidIotlbDesc(pIotlb),
      'p_iotlb_inv page did=7 pasid=1048575 0x5000 am=0',
    ],
    [{ type: 'pc', ...pc }, pasidCacheDesc(pc), 'pc_inv pasid did=7 pasid=1048575'],
    [
      { type: 'p_dev_tlb', ...pDevTlb },
      pasidDevTlbDesc(pDevTlb),
      'p_dev_tlb_inv sid=12:06.4 pasid=1048575 0x10000+0x4000',
    ],
    [
      { type: 'pgrp', ...pgrp },
      pageGroupRespDesc(pgrp),
      'page_grp_resp failure rid=01:00.0 pasid=5 prgi=511',
    ],
  ];
})();

test('every type decodes to what was encoded and prints under the kernel name', (t) => {
  for (const [descriptor, words, text] of EXAMPLES) {
    t.deepEqual(decodeDescriptor(words), descriptor);
    t.is(describeDescriptor(descriptor), text);
  }
});

test('a reserved bit anywhere makes any descriptor invalid', (t) => {
  // Bits that no listed field of the type covers, in qw0 and qw1.
  const firstReserved: Readonly<Record<string, readonly [bigint, bigint]>> = {
    cc: [6n, 0n],
    iotlb: [8n, 7n],
    dev_tlb: [4n, 1n],
    iec: [5n, 0n],
    inv_wait: [8n, 0n],
    p_iotlb: [6n, 7n],
    pc: [6n, 0n],
    p_dev_tlb: [52n, 1n],
    pgrp: [5n, 0n],
  };
  for (const [descriptor, words] of EXAMPLES) {
    const [bit0, bit1] = firstReserved[descriptor.type]!;
    const spoiled = [1, 2, 3].map((word) => {
      const copy = [...words];
      copy[word] = copy[word]! | (1n << (word === 1 ? bit1 : 0n));
      return copy;
    });
    if (descriptor.type !== 'p_dev_tlb') {
      spoiled.push([words[0]! | (1n << bit0), ...words.slice(1)]);
    }
    for (const bad of spoiled) {
      t.deepEqual(
        decodeDescriptor(bad),
        { type: 'invalid', reason: 'reserved' },
        `${descriptor.type} ${bad.map((w) => w.toString(16)).join(' ')}`,
      );
    }
  }
});

test('invalid granularities are refused', (t) => {
  const reserved = { type: 'invalid', reason: 'reserved' } as const;
  for (const qw0 of [0x01n, 0x02n, 0x27n, 0x06n, 0x16n]) {
    t.deepEqual(decodeDescriptor([qw0, 0n, 0n, 0n]), reserved, qw0.toString(16));
  }
  t.is(describeDescriptor(reserved), 'invalid reserved');
});

test('unknown types are refused; the upper type bits count', (t) => {
  for (const qw0 of [0x0n, 0xan, 0xfn, 0x211n]) {
    t.deepEqual(decodeDescriptor([qw0, 0n]), { type: 'invalid', reason: 'type' });
  }
  t.is(descriptorType([0xe05n]), 0x75);
});

test('what the unit does not support is refused', (t) => {
  const full = { PSI: 1, MAMV: 18, DT: 1, DIT: 1, PRS: 1, PDS: 1 };
  const reason = (type: string, support: typeof full): string | undefined => {
    const words = EXAMPLES.find(([descriptor]) => descriptor.type === type)![1];
    const decoded = decodeDescriptor(words, support);
    return decoded.type === 'invalid' ? decoded.reason : undefined;
  };
  for (const [descriptor] of EXAMPLES) t.is(reason(descriptor.type, full), undefined);
  t.is(reason('iotlb', { ...full, PSI: 0 }), 'reserved');
  t.is(reason('iotlb', { ...full, MAMV: 8 }), 'reserved');
  t.is(reason('p_iotlb', { ...full, PSI: 0, MAMV: 0 }), undefined);
  t.is(reason('dev_tlb', { ...full, DT: 0 }), 'type');
  t.is(reason('p_dev_tlb', { ...full, DT: 0 }), 'type');
  t.is(reason('dev_tlb', { ...full, DIT: 0 }), 'reserved');
  t.is(reason('p_dev_tlb', { ...full, DIT: 0 }), 'reserved');
  t.is(reason('inv_wait', { ...full, PDS: 0 }), 'reserved');
  t.is(reason('pgrp', { ...full, PRS: 0 }), 'type');
});

test('a 128-bit descriptor decodes like its zero-padded form', (t) => {
  t.deepEqual(decodeDescriptor([0x500010017n, 0n]), decodeDescriptor([0x500010017n, 0n, 0n, 0n]));
});

test('encoders name the field that does not fit', (t) => {
  t.throws(() => pasidIotlbDesc({ granularity: 2, did: 0x10000, pasid: 1 }), { message: /DID/ });
  t.throws(() => waitDesc({ statusAddress: 2 }), { message: /ADDR/ });
  t.throws(() => devTlbDesc({ sid: 0, sizeLog2: 12, pfsid: 0x10000 }), { message: /PFSID/ });
});
