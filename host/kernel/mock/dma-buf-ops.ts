/** Operations that export memory as a dma-buf and take it back (drivers/iommu/iommufd/selftest.c). */
import type { Task } from '../../syscall.ts';
import type { iommu_test_dmabuf_get, iommu_test_dmabuf_revoke } from '../../uapi/iommufd-test.ts';
import { O_CLOEXEC, O_RDWR } from '../../uapi/poll.ts';
import type { DmaBufExporter } from '../dma-buf.ts';
import { DmaBuf, dmaBufOf } from '../dma-buf.ts';
import { Errno } from '../errno.ts';
import { PAGE_SIZE } from '../iommufd/pages.ts';
import type { Kernel } from '../kernel.ts';
import type { Cmd } from './command.ts';

const PAGES_MAX = 512;

/** Contiguous pages of the kernel. */
class MockExporter implements DmaBufExporter {
  readonly bytes: number;
  revoked = false;
  readonly #kernel: Kernel;
  readonly #pfn: number;

  /** @throws Errno ENOMEM */
  constructor(kernel: Kernel, pages: number) {
    kernel.failpoints.point('mock:dma_buf_memory');
    this.#kernel = kernel;
    this.#pfn = kernel.pages.allocRun(pages);
    this.bytes = pages * PAGE_SIZE;
  }

  physicalAddress(): number {
    if (this.revoked) throw new Errno('ENODEV', 'the dma-buf is revoked');
    return this.#pfn * PAGE_SIZE;
  }

  release(): void {
    this.#kernel.pages.freeRun(this.#pfn, this.bytes / PAGE_SIZE);
  }
}

/**
 * DMABUF_GET: the ioctl returns the descriptor of a new dma-buf.
 *
 * @throws Errno EINVAL: length 0, or above 2 MiB; ENOMEM; EMFILE
 */
export function* dmabufGet(ucmd: Cmd<typeof iommu_test_dmabuf_get>): Task<number> {
  const { length, open_flags } = ucmd.args;
  const pages = Math.ceil(length / PAGE_SIZE);
  if (pages === 0 || pages > PAGES_MAX) throw new Errno('EINVAL', `length ${length}`);
  const { kernel } = ucmd.ctx;
  kernel.failpoints.point('mock:dma_buf');
  const dmaBuf = new DmaBuf(new MockExporter(kernel, pages));
  try {
    kernel.failpoints.point('mock:dma_buf_file');
    return ucmd.process.files.install(dmaBuf, O_RDWR | (open_flags & O_CLOEXEC));
  } catch (error) {
    yield* dmaBuf.release();
    throw error;
  }
}

/**
 * DMABUF_REVOKE: takes the memory back, or gives it anew. What is mapped goes either way.
 *
 * @throws Errno EBADF; EINVAL: not a dma-buf; EOPNOTSUPP: another driver's
 */
export function* dmabufRevoke(ucmd: Cmd<typeof iommu_test_dmabuf_revoke>): Task {
  const { dmabuf_fd, revoked } = ucmd.args;
  const dmaBuf = dmaBufOf(ucmd.process, dmabuf_fd);
  const { exporter, mutex } = dmaBuf;
  if (!(exporter instanceof MockExporter)) {
    throw new Errno('EOPNOTSUPP', `dma-buf ${dmabuf_fd} is of another driver`);
  }
  yield* mutex.lock();
  try {
    exporter.revoked = revoked !== 0;
    yield* dmaBuf.invalidateMappings();
  } finally {
    mutex.unlock();
  }
}
