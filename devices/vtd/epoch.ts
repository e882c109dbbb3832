/** A number that changes with everything that a remembered look-up depends on. */
export class Epoch {
  value = 0;

  /** What was remembered counts no more. */
  end(): void {
    this.value = (this.value + 1) | 0;
  }
}
