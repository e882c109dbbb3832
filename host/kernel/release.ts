/**
 * What differs between Linux releases, in one place: the kernel has every feature whatever the
 * release, and only where two releases answer the same call differently does the release choose.
 */

/** The release that is modelled unless another is named; the newest one known here is 7.3. */
export const DEFAULT_RELEASE = '7.0';

/** Where releases answer differently. */
export interface Behaviour {
  /**
   * IOMMU_HWPT_INVALIDATE of an object that has no caches: before vIOMMUs (6.13) the look-up asks
   * for a nested HWPT (ENOENT), since then for any object (EINVAL) (iommufd/hw_pagetable.c).
   */
  readonly invalidateUncached: 'ENOENT' | 'EINVAL';
  /**
   * What a mock page table tells of a leaf that a device wrote to. Up to 6.18 it consists of single
   * items. Since 6.19 a leaf may be a run of them, and is told of without its last item; since 7.3
   * it is told of whole (iommufd/selftest.c, generic_pt/iommu_pt.h).
   */
  readonly dirtyLeaf: 'item' | 'all but the last item' | 'whole';
}

/** `6.12`, `6.12.3` or `7.0-rc1` as a pair of numbers; null if it is none. */
export function parseRelease(text: string): readonly [number, number] | null {
  const match = /^(\d{1,3})\.(\d{1,3})(?:[.-][\w.+-]*)?$/.exec(text);
  return match === null ? null : [Number(match[1]), Number(match[2])];
}

/** Whether the release has `/dev/iommu` at all: since 6.2. */
export function hasIommufd([version, patchlevel]: readonly [number, number]): boolean {
  return version > 6 || (version === 6 && patchlevel >= 2);
}

/**
 * A release newer than all that are known answers as the newest that is. RangeError for what is no
 * release.
 */
export function behaviourOf(release: string): Behaviour {
  const parsed = parseRelease(release);
  if (parsed === null) throw new RangeError(`${release} is not a kernel release`);
  const [version, patchlevel] = parsed;
  const since = (major: number, minor: number): boolean =>
    version > major || (version === major && patchlevel >= minor);
  return {
    invalidateUncached: since(6, 13) ? 'EINVAL' : 'ENOENT',
    dirtyLeaf: since(7, 3) ? 'whole' : since(6, 19) ? 'all but the last item' : 'item',
  };
}
