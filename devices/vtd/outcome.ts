/** What a walk came to; one object per unit, filled again by every walk. */
export class Outcome {
  /** Host frame of the 4 KiB page asked for. */
  frame = 0;
  /** log2 of the bytes that the translation covers. */
  shift = 12;
  /** TLB.R, TLB.W (only once dirty bits are set) and TLB.SNOOP. */
  flags = 0;
}
