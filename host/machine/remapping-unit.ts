import type { AddressType, CompletionStatus } from '../../devices/pci/fabric.ts';

/** What the root complex needs of the remapping unit on its path; `VtdUnit` is one. */
export interface RemappingUnit {
  readonly registerBytes: number;
  readRegister(offset: number, size: 4 | 8): bigint;
  writeRegister(offset: number, size: 4 | 8, value: bigint): void;
  /** True: translated. `result` tells what came out, either way. */
  translate(
    sid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    vpn: number,
    write: boolean,
    noWrite: boolean,
  ): boolean;
  readonly result: {
    readonly pfn: number;
    readonly shift: number;
    readonly read: boolean;
    readonly write: boolean;
    readonly status: CompletionStatus;
    readonly noSnoop: boolean;
    readonly priv: boolean;
    readonly untranslatedOnly: boolean;
  };
  /** Whether a request with a translated address may pass; else `result.status`. */
  translated(sid: number, pfn: number, write: boolean): boolean;
  pageRequest(
    sid: number,
    pasid: number,
    priv: boolean,
    vpn: number,
    read: boolean,
    write: boolean,
    last: boolean,
    prgi: number,
  ): void;
  /** Whether a DWORD write into the interrupt window may go to the interrupt controller. */
  interruptRequest(sid: number, address: number, data: number): boolean;
  invalidateComplete(sid: number, itag: number): void;
}
