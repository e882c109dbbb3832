import { realpathSync, statSync } from 'node:fs';
import { Errno } from '../kernel/errno.ts';
import { O_CREAT } from '../uapi/poll.ts';

const S_IFREG = 0o100000;

/** Whether a path is of sysfs, which programs read by themselves and ask the engine to change. */
export function isAttribute(path: string): boolean {
  return path.startsWith('/sys/') && !path.startsWith('/sys/kernel/debug');
}

/**
 * Refuses to open an attribute for writing: devices stay with vfio-pci as they are. It is refused
 * here, not when it is written, because much is written past the library, by stdio's own calls.
 *
 * @param root of the tree that has the attributes
 * @throws Errno ENOENT; EACCES: a new file, or one that nobody may write, not even root (kernfs);
 *   EISDIR; else EPERM
 */
export function refuseChange(root: string, path: string, flags: number): never {
  const mode = modeOf(root + path);
  if (mode === undefined) {
    if ((flags & O_CREAT) === 0) throw new Errno('ENOENT', `there is no ${path}`);
    throw new Errno('EACCES', `${path}: sysfs makes no files`);
  }
  if ((mode & S_IFREG) === 0) throw new Errno('EISDIR', `${path} is a directory`);
  if ((mode & 0o222) === 0) throw new Errno('EACCES', `${path} cannot be written`);
  throw new Errno('EPERM', `${path} cannot be changed: devices stay with vfio-pci as they are`);
}

function modeOf(place: string): number | undefined {
  try {
    return statSync(realpathSync(place)).mode;
  } catch {
    return undefined;
  }
}
