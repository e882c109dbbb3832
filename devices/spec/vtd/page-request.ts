/** Page-request queue entries (VT-d specification, page request descriptor). */

import { bitStruct, hex, type Words } from '../bits.ts';

/** Page request descriptor, 32 bytes; type is 1. */
export const pageRequestDescriptor = bitStruct(4, {
  TYPE: [0, 7, 0],
  PP: [0, 8, 8],
  RID: [0, 31, 16],
  PASID: [0, 51, 32],
  EXR: [0, 52, 52],
  PMR: [0, 53, 53],
  RDR: [1, 0, 0],
  WRR: [1, 1, 1],
  LPIG: [1, 2, 2],
  PRGI: [1, 11, 3],
  ADDR: [1, 63, 12, 'address'],
});

/** Bytes of one entry of the page-request queue. */
export const PAGE_REQUEST_BYTES = 32;

/** Type field of a page request descriptor. */
export const PAGE_REQUEST_TYPE = 1;

/** Response code of a page group response. Hardware itself answers SUCCESS or INVALID only. */
export const RESPONSE = { SUCCESS: 0x0, INVALID: 0x1, FAILURE: 0xf } as const;

/** Name of a response code: `success`, `invalid`, `failure`, or the code in hex. */
export function responseName(code: number): string {
  if (code === RESPONSE.SUCCESS) return 'success';
  if (code === RESPONSE.INVALID) return 'invalid';
  return code === RESPONSE.FAILURE ? 'failure' : hex(code);
}

/** A page request as a device sends it and as the queue records it. */
export interface PageRequest {
  /** Requester id: bus 15:8, device 7:3, function 2:0. */
  readonly rid: number;
  /** 20-bit PASID; meaningful only with `pasidPresent`. */
  readonly pasid: number;
  readonly pasidPresent: boolean;
  readonly exec: boolean;
  /** Privileged-mode request. */
  readonly priv: boolean;
  readonly read: boolean;
  readonly write: boolean;
  /** Last page in group: this request is the one to answer. */
  readonly last: boolean;
  /** 9-bit page request group index. */
  readonly prgi: number;
  /** Page-aligned byte address. */
  readonly address: number;
}

/** Encodes a descriptor; throws RangeError for a value out of range or a misaligned address. */
export function encodePageRequest(request: PageRequest): BigUint64Array<ArrayBuffer> {
  return pageRequestDescriptor.encode({
    TYPE: PAGE_REQUEST_TYPE,
    PP: request.pasidPresent,
    RID: request.rid,
    PASID: request.pasid,
    EXR: request.exec,
    PMR: request.priv,
    RDR: request.read,
    WRR: request.write,
    LPIG: request.last,
    PRGI: request.prgi,
    ADDR: request.address,
  });
}

/** Decodes a descriptor; undefined when its type is not 1. Reserved bits are not looked at. */
export function decodePageRequest(words: Words): PageRequest | undefined {
  const fields = pageRequestDescriptor.decode(words);
  if (fields.TYPE !== PAGE_REQUEST_TYPE) return undefined;
  return {
    rid: fields.RID,
    pasid: fields.PASID,
    pasidPresent: fields.PP === 1,
    exec: fields.EXR === 1,
    priv: fields.PMR === 1,
    read: fields.RDR === 1,
    write: fields.WRR === 1,
    last: fields.LPIG === 1,
    prgi: fields.PRGI,
    address: fields.ADDR,
  };
}

/** Stop marker: a last-in-group request with a PASID that asks for neither read nor write. */
export function isStopMarker(request: PageRequest): boolean {
  return request.pasidPresent && request.last && !request.read && !request.write;
}
