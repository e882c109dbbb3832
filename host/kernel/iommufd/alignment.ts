/** What mappings of an IOAS must be aligned to (iopt_calculate_iova_alignment, io_pagetable.c). */
import { Errno } from '../errno.ts';
import type { IommuDomain } from '../iommu/ops.ts';
import type { Area } from './area.ts';
import { rangeText } from './iova-space.ts';
import { hex, PAGE_SIZE } from './page-source.ts';

const PAGE = BigInt(PAGE_SIZE);

/** What has a say in it. */
export interface AlignmentParts {
  readonly hugePages: boolean;
  readonly domains: Iterable<IommuDomain>;
  readonly accesses: Iterable<{ readonly alignment: bigint }>;
}

/** @throws Errno EINVAL: the smallest page of a domain is above 4 KiB */
export function alignmentOf({ hugePages, domains, accesses }: AlignmentParts): bigint {
  let alignment = hugePages ? 1n : PAGE;
  for (const access of accesses) {
    if (access.alignment > alignment) alignment = access.alignment;
  }
  for (const domain of domains) {
    const sizes = BigInt(domain.pageSizes);
    const smallest = sizes & -sizes;
    if (smallest > PAGE) {
      throw new Errno('EINVAL', `smallest page of the domain is 0x${hex(smallest)} bytes`);
    }
    if (smallest > alignment) alignment = smallest;
  }
  return alignment;
}

/** @throws Errno EADDRINUSE: an area is not aligned like that */
export function checkAligned(areas: Iterable<Area>, alignment: bigint): void {
  for (const area of areas) {
    if (((area.start | area.length | area.pageOffset) & (alignment - 1n)) === 0n) continue;
    throw new Errno(
      'EADDRINUSE',
      `area ${rangeText(area)} is not aligned to ${alignment.toString()}`,
    );
  }
}
