/** The list of mappings of an address space. */

/** One mapping, [start, end) in bytes, page aligned. */
export interface Vma {
  readonly start: number;
  readonly end: number;
  readonly write: boolean;
  /** Device memory behind it (guest physical address of `start`), or null for anonymous memory. */
  readonly device: number | null;
}

export class VmaList {
  #vmas: readonly Vma[] = [];

  get all(): readonly Vma[] {
    return this.#vmas;
  }

  find(address: number): Vma | undefined {
    return this.#vmas.find((vma) => address >= vma.start && address < vma.end);
  }

  overlaps(start: number, end: number): boolean {
    return this.#vmas.some((vma) => vma.start < end && start < vma.end);
  }

  add(vma: Vma): void {
    this.#vmas = [...this.#vmas, vma].sort((a, b) => a.start - b.start);
  }

  /** Lowest gap of `bytes` at or above `base` and below `limit`, or -1. */
  gap(bytes: number, base: number, limit: number): number {
    let at = base;
    for (const vma of this.#vmas) {
      if (vma.end <= at) continue;
      if (vma.start - at >= bytes) break;
      at = vma.end;
    }
    return at + bytes <= limit ? at : -1;
  }

  /** Cuts [start, end) out and returns the parts that were mapped. */
  remove(start: number, end: number): Vma[] {
    const removed: Vma[] = [];
    const kept: Vma[] = [];
    for (const vma of this.#vmas) {
      const from = Math.max(vma.start, start);
      const to = Math.min(vma.end, end);
      if (from >= to) {
        kept.push(vma);
        continue;
      }
      removed.push(part(vma, from, to));
      if (vma.start < from) kept.push(part(vma, vma.start, from));
      if (to < vma.end) kept.push(part(vma, to, vma.end));
    }
    this.#vmas = kept;
    return removed;
  }
}

function part(vma: Vma, start: number, end: number): Vma {
  const device = vma.device === null ? null : vma.device + (start - vma.start);
  return { ...vma, start, end, device };
}
