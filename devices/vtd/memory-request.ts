import type { AddressType } from '../pci/fabric.ts';

/** What a memory request does. An AtomicOp reads and writes; a zero-length read moves no byte. */
export type Access = 'read' | 'write' | 'atomic' | 'zero-length read';

/** A memory request with all its attributes (VT-d spec 3.2). */
export interface MemoryRequest {
  /** Source id: bus 15:8, device 7:3, function 2:0. */
  readonly sid: number;
  /** -1: without PASID. */
  readonly pasid: number;
  /** Privileged mode requested; counts with a PASID only. */
  readonly priv: boolean;
  /** Execute requested; counts with a PASID only. */
  readonly exec: boolean;
  readonly type: AddressType;
  /** Page number, 52 bits; of a translated request, the frame number. */
  readonly page: number;
  /** Not of translation requests. */
  readonly access: Access;
  /** NW of a translation request. */
  readonly noWrite: boolean;
}
