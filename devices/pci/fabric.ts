/**
 * The PCI fabric as a function sees it (upstream) and as the root complex sees a function (downstream).
 * A page is named by its number (address >> 12, at most 52 bits, exact in a double): a virtual page
 * number in untranslated requests, a frame number in translated ones.
 */

/** Address type of a request (PCIe AT field). */
export const AT = { UNTRANSLATED: 0, TRANSLATION: 1, TRANSLATED: 2 } as const;
export type AddressType = (typeof AT)[keyof typeof AT];

/** Where a PASID is asked for: a request without PASID prefix. */
export const NO_PASID = -1;

/** Completion status of a request. */
export const CPL = { SUCCESS: 0, UNSUPPORTED_REQUEST: 1, COMPLETER_ABORT: 2 } as const;
export type CompletionStatus = (typeof CPL)[keyof typeof CPL];

/** Answer to an ATS translation request; the requester owns and reuses the object. */
export interface AtsReply {
  status: CompletionStatus;
  /** Frame number of the 4 KiB page asked for (not of the large page's start). */
  pfn: number;
  /** log2 of the bytes the translation covers, naturally aligned around the page; >= 12. */
  shift: number;
  /** R = W = false with SUCCESS means "no translation": a page request may help. */
  read: boolean;
  write: boolean;
  /** U: the range may only be reached by untranslated requests. */
  untranslatedOnly: boolean;
  noSnoop: boolean;
  priv: boolean;
}

/** Upstream: what a PCI function may do. `rid` is its requester id; `pasid` may be NO_PASID. */
export interface Fabric {
  /** ATS translation request for one 4 KiB page. */
  translate(
    rid: number,
    pasid: number,
    priv: boolean,
    vpn: number,
    noWrite: boolean,
    reply: AtsReply,
  ): void;
  /** Memory read of `length` bytes inside one 4 KiB page into `into` at `at`. */
  read(
    rid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    page: number,
    offset: number,
    into: Uint8Array,
    at: number,
    length: number,
  ): CompletionStatus;
  /** Memory write of `length` bytes inside one 4 KiB page from `from` at `at`. */
  write(
    rid: number,
    pasid: number,
    priv: boolean,
    type: AddressType,
    page: number,
    offset: number,
    from: Uint8Array,
    at: number,
    length: number,
  ): CompletionStatus;
  /**
   * A translated read and a translated write of the same bytes, fused: `length` bytes inside one page
   * at each side, memmove semantics. Status is that of the first side that fails; then nothing moved.
   */
  copy(
    rid: number,
    srcPfn: number,
    srcOffset: number,
    dstPfn: number,
    dstOffset: number,
    length: number,
  ): CompletionStatus;
  /** PRI page request message. `prgi` 0..511. `read` = `write` = false with `last` is a stop marker. */
  pageRequest(
    rid: number,
    pasid: number,
    priv: boolean,
    vpn: number,
    read: boolean,
    write: boolean,
    last: boolean,
    prgi: number,
  ): void;
  /** ATS invalidate completion: the answer to `PciFunction.invalidate` with that tag. */
  invalidateComplete(rid: number, itag: number): void;
  /** A message-signalled interrupt: a DWORD write without PASID to FEEx_xxxx. */
  msi(rid: number, address: number, data: number): void;
}

/** Downstream: a PCI function as the root complex sees it. Offsets and sizes in bytes. */
export interface PciFunction {
  readonly rid: number;
  /** Config space, 4096 bytes; `size` 1, 2 or 4, naturally aligned. */
  configRead(offset: number, size: 1 | 2 | 4): number;
  configWrite(offset: number, size: 1 | 2 | 4, value: number): void;
  /** Size in bytes of BAR `bar` (0..5) when that register starts one, else 0. */
  barSize(bar: number): number;
  /** `size` 1, 2, 4 or 8, naturally aligned, inside the BAR. */
  barRead(bar: number, offset: number, size: number): bigint;
  barWrite(bar: number, offset: number, size: number, value: bigint): void;
  /** A 64-byte posted write (MOVDIR64B). */
  barWrite64(bar: number, offset: number, bytes: Uint8Array): void;
  /** A 64-byte deferrable write (ENQCMD/ENQCMDS). True: accepted (ZF=0); false: retry (ZF=1). */
  barEnqueue(bar: number, offset: number, bytes: Uint8Array): boolean;
  /**
   * ATS invalidate request. `pasid` NO_PASID: mappings made without PASID; `global`: all PASIDs.
   * Covers 2^shift bytes around page `vpn`; shift 64 is everything. The function answers with
   * `Fabric.invalidateComplete(rid, itag)` once no use of the old translation is in flight.
   */
  invalidate(itag: number, pasid: number, global: boolean, vpn: number, shift: number): void;
  /** PRG response. `code` 0 success, 1 invalid request, 15 response failure. */
  pageGroupResponse(pasid: number, prgi: number, code: number): void;
  /** Function level reset. */
  reset(): void;
}
