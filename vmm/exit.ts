/**
 * A VM exit as KVM_RUN would report it: what guest code yields to the VMM. The value sent back is the
 * loaded value of an `mmio-read`, 0n for the others. (The guest declares the same shape for itself:
 * the two sides share no code.)
 */
export type VmExit =
  | { readonly kind: 'mmio-read'; readonly address: number; readonly size: 1 | 2 | 4 | 8 }
  | {
      readonly kind: 'mmio-write';
      readonly address: number;
      readonly size: 1 | 2 | 4 | 8;
      readonly value: bigint;
    }
  /** Wait for an interrupt. */
  | { readonly kind: 'hlt' }
  /** A pause loop of about `ns` nanoseconds. */
  | { readonly kind: 'pause'; readonly ns: number }
  /** The guest powers off. */
  | { readonly kind: 'shutdown'; readonly code: number };

/** #PF as the vCPU hands it to the guest. */
export interface VcpuPageFault {
  /** CR2. */
  readonly address: bigint;
  readonly present: boolean;
  readonly write: boolean;
  readonly user: boolean;
  readonly reserved: boolean;
}

/** All ones of an access of `size` bytes: what a read that nobody answers returns. */
export function allOnes(size: number): bigint {
  return (1n << BigInt(8 * size)) - 1n;
}
