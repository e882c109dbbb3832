/** Physical memory that users may map through their iommufd (iommufd_fops_mmap, main.c). */
import { MAP_PRIVATE, MAP_TYPE, PROT_EXEC } from '../../uapi/poll.ts';
import { Errno } from '../errno.ts';
import type { MmapRequest, MmapResult, OpenFile } from '../file.ts';

/** Memory of an object, which lives as long as it is mapped. */
export interface MmapRange {
  readonly owner: { users: number };
  readonly physicalAddress: number;
  readonly bytes: number;
}

/** What can be mapped through one iommufd, by file offset. */
export class MmapTable {
  readonly #ranges = new Map<number, MmapRange>();

  /** Offers a range at the lowest offset that has room for it. @returns the offset */
  add(range: MmapRange): number {
    let offset = 0;
    for (const [start, { bytes }] of [...this.#ranges].sort(([a], [b]) => a - b)) {
      if (start - offset >= range.bytes) break;
      offset = start + bytes;
    }
    this.#ranges.set(offset, range);
    return offset;
  }

  remove(offset: number): void {
    this.#ranges.delete(offset);
  }

  get(offset: number): MmapRange | undefined {
    return this.#ranges.get(offset);
  }
}

/**
 * Maps a range whole. Its owner cannot be destroyed until it is unmapped.
 *
 * @throws Errno EINVAL: not shared; EPERM: executable; ENXIO: not exactly one range
 */
export function mapRange(table: MmapTable, file: OpenFile, request: MmapRequest): MmapResult {
  if ((request.flags & MAP_TYPE) === MAP_PRIVATE) {
    throw new Errno('EINVAL', 'a private mapping of an iommufd');
  }
  if ((request.prot & PROT_EXEC) !== 0) throw new Errno('EPERM', 'an executable mapping');
  const range = table.get(request.offset);
  if (range?.bytes !== request.length) {
    const what = `${request.length} bytes at offset 0x${request.offset.toString(16)}`;
    throw new Errno('ENXIO', `${what} are not what an object offers`);
  }
  const { owner, physicalAddress } = range;
  const keeper = {
    get: () => {
      owner.users++;
      return file.get();
    },
    *put() {
      owner.users--;
      yield* file.put();
    },
  };
  return { physicalAddress, keeper };
}
