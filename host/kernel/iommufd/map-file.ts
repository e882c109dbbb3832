/** Mappings of files, and their hand-over to another process (drivers/iommu/iommufd/ioas.c). */
import type { Task } from '../../syscall.ts';
import type { iommu_ioas_change_process, iommu_ioas_map_file } from '../../uapi/iommufd.ts';
import { IOMMU_IOAS_MAP_FIXED_IOVA } from '../../uapi/iommufd.ts';
import { DmaBuf } from '../dma-buf.ts';
import { Errno } from '../errno.ts';
import { COST } from './cost.ts';
import { dmaBufSource } from './dma-buf-source.ts';
import { Ioas, MAP_FLAGS, mapSource, notWhole, orUnmap, protOf } from './ioas.ts';
import type { IommufdCtx } from './object.ts';
import { fileSource } from './page-source.ts';
import type { IoptPages } from './pages.ts';
import type { Ucmd } from './ucmd.ts';
import { onlyFlags, reservedZero } from './ucmd.ts';

/**
 * IOMMU_IOAS_MAP_FILE: as MAP, with the pages of a memory file or of a dma-buf.
 *
 * @throws Errno as MAP; EBADF: `fd` is not open. That it is no memory file, or ends too soon, is
 *   EINVAL as soon as a domain wants the pages. Of a dma-buf: EINVAL: it ends too soon; ENODEV: it
 *   is revoked; EOPNOTSUPP: another exporter than VFIO
 */
export function* ioasMapFile(ucmd: Ucmd<typeof iommu_ioas_map_file.fields>): Task {
  const { ctx, process } = ucmd;
  const { flags, ioas_id, fd, start, length, iova } = ucmd.args;
  onlyFlags(flags, MAP_FLAGS);
  notWhole('iova', iova);
  notWhole('length', length);
  const prot = protOf(flags);
  using hold = ctx.lookup(ioas_id, Ioas);
  yield COST.IOCTL;
  if (length === 0n) throw new Errno('EINVAL', 'length 0');
  if (start + length > 1n << 64n) {
    throw new Errno('EOVERFLOW', `start 0x${start.toString(16)} + length wraps`);
  }
  const { ops } = process.files.get(fd);
  const source =
    ops instanceof DmaBuf
      ? yield* dmaBufSource(ops, start, length)
      : fileSource(ops.memory, ops.name, start);
  const fixed = (flags & IOMMU_IOAS_MAP_FIXED_IOVA) !== 0;
  const mapping = { source, length, prot, iova: fixed ? iova : null };
  const { iopt } = hold.object;
  const at = yield* mapSource(ctx, process, iopt, mapping);
  yield* orUnmap(() => ucmd.respond({ iova: at }), iopt, at, length);
}

/**
 * IOMMU_IOAS_CHANGE_PROCESS: the caller pays for all pins of the context from now on, as after a
 * live update of its program. Nothing is pinned anew, and nobody else runs in between.
 *
 * @throws Errno EOPNOTSUPP: reserved; EINVAL: something is mapped that is no file, whose pages are
 *   the old process's; ENOMEM: beyond the caller's RLIMIT_MEMLOCK. Then the old one still pays.
 */
export function* ioasChangeProcess(ucmd: Ucmd<typeof iommu_ioas_change_process.fields>): Task {
  const { ctx, process } = ucmd;
  reservedZero(ucmd.args.__reserved);
  yield COST.IOCTL;
  const payer = ctx.payer(process);
  const sets = [...filePages(ctx)].filter(({ account }) => account.isForeign(payer));
  using undo = new DisposableStack();
  const moves = sets.map(({ account }) => {
    ctx.kernel.failpoints.point('iommufd:change_process');
    const move = account.moveTo(payer);
    undo.defer(() => move.cancel());
    return move;
  });
  undo.move();
  for (const move of moves) move.settle();
}

/** Every page set that is mapped in the context, once. @throws Errno EINVAL: one is no file */
function filePages(ctx: IommufdCtx): Set<IoptPages> {
  const found = new Set<IoptPages>();
  for (const ioas of ctx.all(Ioas)) {
    for (const { pages, start } of ioas.iopt.areas) {
      if (pages.source.kind !== 'file') {
        const where = `IOVA 0x${start.toString(16)} of IOAS ${ioas.id}`;
        throw new Errno('EINVAL', `${where} maps memory of process ${pages.pid}, not a file`);
      }
      found.add(pages);
    }
  }
  return found;
}
