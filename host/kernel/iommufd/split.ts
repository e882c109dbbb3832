/** Areas cut in two, for VFIO type1 programs that unmap in the middle of mappings (iopt_cut_iova). */
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import { Area } from './area.ts';
import type { IoPagetable } from './io-pagetable.ts';
import type { IommufdCtx } from './object.ts';
import { hex } from './pages.ts';

/**
 * Makes every IOVA of `lasts` the last one of its area, where something is mapped there.
 *
 * @throws Errno EBUSY: the area is on its way; EOPNOTSUPP: it maps a dma-buf; EINVAL: misaligned, an access has it, or a domain may
 *   have large pages there; ENOMEM. What was cut before stays cut.
 */
export function* cut(ctx: IommufdCtx, iopt: IoPagetable, lasts: readonly bigint[]): Task {
  yield* iopt.locked(
    (function* () {
      for (const last of lasts) {
        const area = iopt.areas.firstIn(last, last);
        if (area !== undefined) split(ctx, iopt, area, last);
      }
    })(),
  );
}

function split(ctx: IommufdCtx, iopt: IoPagetable, area: Area, last: bigint): void {
  if (last === area.start || last === area.last) return;
  const what = `area [0x${hex(area.start)}, 0x${hex(area.last)}]`;
  if (!area.ready || area.preventAccess) throw new Errno('EBUSY', `${what} is on its way`);
  if (area.pages.source.exported !== undefined) {
    throw new Errno('EOPNOTSUPP', `${what} maps a dma-buf, and cannot be cut`);
  }
  const next = last + 1n;
  const nextByte = area.pagesByte + (next - area.start);
  if (next % iopt.alignment !== 0n || nextByte % iopt.alignment !== 0n) {
    throw new Errno('EINVAL', `a cut at 0x${hex(next)} against alignment ${iopt.alignment}`);
  }
  const { failpoints } = ctx.kernel;
  failpoints.point('iommufd:iopt_area');
  const low = new Area(area.start, next - area.start, area.pages, area.pagesByte, area.prot);
  failpoints.point('iommufd:iopt_area');
  const high = new Area(next, area.last - last, area.pages, nextByte, area.prot);
  if (area.accessPins > 0) throw new Errno('EINVAL', `${what} is pinned by an access`);
  if (area.domains > 0 && iopt.hugePages) {
    throw new Errno('EINVAL', `${what} may be mapped with large pages`);
  }
  for (const part of [low, high]) {
    part.domains = area.domains;
    part.ready = true;
  }
  iopt.exchange(area, [low, high]);
}
