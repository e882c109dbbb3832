/** Permission bits of a `perm` field; the bits of struct iommu_hwpt_pgfault too. */
export const PERM = { R: 1, W: 2, X: 4, P: 8 } as const;

/** Permissions in their one spelling: `rw`, `r-`, `--`; `x` and `p` (execute, privileged) only where set. */
export const permText = (bits: number): string =>
  `${bits & PERM.R ? 'r' : '-'}${bits & PERM.W ? 'w' : '-'}` +
  `${bits & PERM.X ? 'x' : ''}${bits & PERM.P ? 'p' : ''}`;

export function permBits(text: string): number {
  let bits = 0;
  if (text.includes('r')) bits |= PERM.R;
  if (text.includes('w')) bits |= PERM.W;
  if (text.includes('x')) bits |= PERM.X;
  if (text.includes('p')) bits |= PERM.P;
  return bits;
}
