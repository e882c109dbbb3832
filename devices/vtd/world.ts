import type { Clock } from '../clock.ts';
import type { PhysicalMemory } from '../memory.ts';
import type { Descriptor } from '../spec/vtd/invalidation.ts';
import type { VtdObserver } from './observer.ts';

/**
 * What a VT-d unit needs from the world. One class serves as the host's silicon and, inside the VMM,
 * as the guest's virtual unit: they differ only in this world and in CAP/ECAP.
 */
export interface VtdWorld {
  /** Host physical memory; for a virtual unit, guest physical memory. */
  readonly memory: PhysicalMemory;
  readonly clock: Clock;
  /**
   * Whether the memory at a byte address takes locked read-modify-writes, which accessed and dirty
   * bits need. Absent: all of it does.
   */
  readonly atomics?: (address: number) => boolean;
  /** A message-signalled interrupt of the unit itself: DWORD `data` to `address` (FEEx_xxxx). */
  interrupt(address: number, data: number): void;
  /**
   * An ATS invalidate request to function `sid`; it answers `VtdUnit.invalidateComplete(sid, itag)`.
   * Arguments as in `PciFunction.invalidate`. False: no such function (the unit then times out: ITE).
   */
  deviceInvalidate(
    sid: number,
    itag: number,
    pasid: number,
    global: boolean,
    vpn: number,
    shift: number,
  ): boolean;
  /** A page group response on its way to function `sid`, from a type 9 descriptor or by the unit itself. */
  pageGroupResponse(sid: number, pasid: number, prgi: number, code: number): void;
  /**
   * Present only on a virtual unit. Called for every valid descriptor, in queue order, after the unit
   * dropped its own cached entries and instead of `deviceInvalidate`/`pageGroupResponse` and before a
   * wait completes. True: done. False: the unit stops fetching until `VtdUnit.resume()`.
   */
  readonly forward?: (descriptor: Descriptor) => boolean;
  /** Whoever watches the unit from within; absent when nobody does. */
  readonly observer?: VtdObserver;
  /** Present only on a virtual unit: the set-pointer or TE command just took effect. */
  readonly remapped?: (change: 'root' | 'te') => void;
}
