/** Claims of `host/uapi/` against the headers they are named after. */
import * as errno from '../../../../host/uapi/errno.ts';
import * as iommufd from '../../../../host/uapi/iommufd.ts';
import * as iommufdTest from '../../../../host/uapi/iommufd-test.ts';
import * as poll from '../../../../host/uapi/poll.ts';
import type { Struct } from '../../../../host/uapi/struct.ts';
import * as vfio from '../../../../host/uapi/vfio.ts';
import type { Checked, Claim, Header } from './claims.ts';
import { constantClaims, definesOf, header, merge, structBody, structClaims } from './claims.ts';
import type { KernelSource } from './kernel-source.ts';

export interface Check {
  readonly source: Header;
  readonly checked: Checked;
}

/** Every check of `host/uapi/`. */
export function uapiChecks(kernel: KernelSource): Check[] {
  return [iommufdCheck(kernel), vfioCheck(kernel), ...fileChecks(kernel)];
}

function iommufdCheck(kernel: KernelSource): Check {
  const selftest = 'drivers/iommu/iommufd/iommufd_test.h';
  const prelude = `#include <linux/iommufd.h>\n#include "${kernel.path(selftest)}"`;
  const texts = [kernel.text('include/uapi/linux/iommufd.h'), kernel.text(selftest)];
  const source = header('iommufd.h', prelude, ...texts);
  const commands = constantClaims(source, Object.entries(iommufd.IOMMUFD_CMD));
  const minSizes = iommufdMinSizes(source, kernel.text('drivers/iommu/iommufd/main.c'));
  const selftestClaims = iommufdTestClaims(source);
  const checked = merge(moduleClaims(source, iommufd), commands, minSizes, selftestClaims);
  return { source, checked };
}

/** The selftest's header: a variant of the command's union ends before the command does. */
function iommufdTestClaims(source: Header): Checked {
  const { IOMMU_TEST_VARIANTS, ...rest } = iommufdTest;
  const variants = new Set<unknown>(IOMMU_TEST_VARIANTS);
  const whole = Object.entries(rest).filter(([, value]) => !variants.has(value));
  const parts = IOMMU_TEST_VARIANTS.map((variant) => {
    const { claims, absent } = structClaims(source, variant);
    return { claims: claims.filter(({ what }) => what !== `struct ${variant.name}: size`), absent };
  });
  return merge(moduleClaims(source, Object.fromEntries(whole)), ...parts);
}

/**
 * The smallest argument of each ioctl: main.c's table names the last member that the first version
 * of the structure had.
 */
function iommufdMinSizes(source: Header, main: string): Checked {
  const slots = main.matchAll(/\bIOCTL_OP\(\s*(\w+),\s*\w+,\s*struct (\w+),\s*(\w+)\s*\)/g);
  const lastOf = new Map(
    [...slots].map(([, cmd, tag, last]) => [cmd!, { tag: tag!, last: last! }]),
  );
  const claims: Claim[] = [];
  const absent: { what: string; claims: number }[] = [];
  for (const { name, minSize } of iommufd.IOMMUFD_IOCTLS) {
    const slot = lastOf.get(name);
    if (slot === undefined || structBody(source, slot.tag) === null) {
      absent.push({ what: `${name}: smallest size`, claims: 1 });
      continue;
    }
    const { tag, last } = slot;
    const end = `__builtin_offsetof(struct ${tag}, ${last}) + sizeof(((struct ${tag} *)0)->${last})`;
    claims.push({ what: `${name}: smallest size`, expr: end, value: minSize });
  }
  return { claims, absent };
}

function vfioCheck(kernel: KernelSource): Check {
  const offsets = definesOf(
    kernel.text('include/linux/vfio_pci_core.h'),
    /^VFIO_PCI_OFFSET_SHIFT$/,
  );
  const text = kernel.text('include/uapi/linux/vfio.h');
  const source = header('vfio.h', `#include <linux/vfio.h>\n${offsets}`, text, offsets);
  const commands = constantClaims(source, [
    ...Object.entries(vfio.VFIO_DEVICE_CMD),
    ...Object.entries(vfio.VFIO_CONTAINER_CMD),
    ...Object.entries(vfio.VFIO_GROUP_CMD),
  ]);
  return { source, checked: merge(moduleClaims(source, vfio), commands) };
}

function fileChecks(kernel: KernelSource): Check[] {
  const generic = (name: string): string => kernel.text(`include/uapi/asm-generic/${name}`);
  const errnoHeader = header(
    'errno.h',
    '#include <asm/errno.h>',
    generic('errno-base.h'),
    generic('errno.h'),
  );
  const fileHeader = header(
    'poll.h, fcntl.h, eventfd.h, mman.h',
    ['asm/poll.h', 'asm/fcntl.h', 'linux/eventfd.h', 'linux/mman.h']
      .map((name) => `#include <${name}>`)
      .join('\n'),
    ...['poll.h', 'fcntl.h', 'mman-common.h', 'mman.h'].map(generic),
    kernel.text('include/uapi/linux/eventfd.h'),
    kernel.text('include/uapi/linux/mman.h'),
  );
  const errnos = constantClaims(errnoHeader, Object.entries(errno.ERRNO));
  return [
    { source: errnoHeader, checked: errnos },
    { source: fileHeader, checked: moduleClaims(fileHeader, poll) },
  ];
}

/** Every structure and every number a module exports, under the exported name. */
function moduleClaims(source: Header, module: Readonly<Record<string, unknown>>): Checked {
  const parts = Object.entries(module).map(([name, value]) => {
    if (typeof value === 'number') return constantClaims(source, [[name, value]]);
    if (isStruct(value)) return structClaims(source, value);
    return { claims: [], absent: [] };
  });
  return merge(...parts);
}

function isStruct(value: unknown): value is Struct {
  return typeof value === 'object' && value !== null && 'offsets' in value && 'fields' in value;
}
