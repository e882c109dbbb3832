import { DEVICE_BUGS } from '../../devices/dsa/bugs.ts';
import { GUEST_BUGS } from '../../guest/bugs.ts';
import { HOST_BUGS } from '../../host/kernel/bugs.ts';
import { VMM_BUGS } from '../bugs.ts';

/** Every mistake that can be switched on, with what it does. */
export const BUGS = { ...HOST_BUGS, ...GUEST_BUGS, ...VMM_BUGS, ...DEVICE_BUGS } as const;
export type Bug = keyof typeof BUGS;

export function isBug(name: string): name is Bug {
  return Object.hasOwn(BUGS, name);
}

/** Of some mistakes, those that one part of the world can make. */
export function bugsOf<Name extends Bug>(
  bugs: ReadonlySet<Bug>,
  part: Readonly<Record<Name, string>>,
): ReadonlySet<Name> {
  return new Set([...bugs].filter((bug): bug is Name => Object.hasOwn(part, bug)));
}
