import { Errno } from '../kernel/errno.ts';

const S_IFCHR = 0o020000;
const MISC_MAJOR = 10;
const VFIO_MINOR = 196;
/** From the ranges that Linux hands out dynamically. */
const IOMMU_MINOR = 126;
const VFIO_CDEV_MAJOR = 511;
const VFIO_GROUP_MAJOR = 510;

/**
 * What stat shows of a device node: struct vsva_stat {mode, major, minor, reserved}. A file without
 * a path is an anonymous inode. Errno ENOENT for a path that is no node.
 */
export function deviceStat(nodes: readonly string[], path: string | undefined): Uint8Array {
  const [mode, major, minor] = numbers(nodes, path);
  return new Uint8Array(Uint32Array.of(mode, major, minor, 0).buffer);
}

/** Major and minor number of a node, as sysfs writes them. Errno as `deviceStat`. */
export function deviceNumber(nodes: readonly string[], path: string): string {
  const [, major, minor] = numbers(nodes, path);
  return `${major}:${minor}`;
}

function numbers(
  nodes: readonly string[],
  path: string | undefined,
): readonly [number, number, number] {
  if (path === undefined) return [0o600, 0, 0];
  if (!nodes.includes(path)) throw new Errno('ENOENT', `there is no ${path}`);
  if (path === '/dev/iommu') return [S_IFCHR | 0o660, MISC_MAJOR, IOMMU_MINOR];
  if (path === '/dev/vfio/vfio') return [S_IFCHR | 0o666, MISC_MAJOR, VFIO_MINOR];
  const major = path.startsWith('/dev/vfio/devices/') ? VFIO_CDEV_MAJOR : VFIO_GROUP_MAJOR;
  return [S_IFCHR | 0o600, major, Number(/\d+$/.exec(path)?.[0] ?? 0)];
}
