/** The shortest list that still goes wrong: ever smaller parts are left out. */
export function minimise<T>(
  list: readonly T[],
  bad: (list: readonly T[]) => boolean,
  attempts = 400,
): T[] {
  let kept = [...list];
  for (let part = Math.ceil(kept.length / 2); part >= 1; ) {
    let shorter = false;
    for (let at = 0; at < kept.length && attempts > 0; ) {
      const rest = [...kept.slice(0, at), ...kept.slice(at + part)];
      attempts--;
      if (bad(rest)) {
        kept = rest;
        shorter = true;
      } else {
        at += part;
      }
    }
    if (attempts <= 0) break;
    if (part === 1 && !shorter) break;
    part = Math.max(1, part >> 1);
  }
  return kept;
}
