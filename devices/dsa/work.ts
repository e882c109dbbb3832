import { NO_PASID } from '../pci/fabric.ts';
import type { Descriptor } from '../spec/dsa/descriptor.ts';
import { DescriptorFlag as F, Opcode } from '../spec/dsa/opcodes.ts';
import type { WqConfig } from '../spec/dsa/tables.ts';

/** As whom a descriptor's requests travel, and what its work queue grants it. */
export interface Client {
  readonly wq: number;
  /** NO_PASID when the queue's requests carry none. */
  readonly pasid: number;
  readonly privileged: boolean;
  /** May name completion interrupts whatever GENCFG says about users. */
  readonly supervisor: boolean;
  /** Submitted through a portal whose interrupt handles name interrupt message storage. */
  readonly ims: boolean;
  readonly config: WqConfig;
}

/** The identity rules of dedicated and shared queues (DSA: PASID and privilege of a descriptor). */
export function clientOf(
  wq: number,
  config: WqConfig,
  descriptor: Descriptor,
  ims: boolean,
): Client {
  const withPasid = config.pasidEnable !== 0;
  if (config.dedicated !== 0 || !withPasid) {
    const privileged = config.privileged !== 0;
    return {
      wq,
      pasid: withPasid ? config.pasid : NO_PASID,
      privileged,
      // Without a PASID there is no user to keep from interrupts: the submitter says what it is.
      supervisor: privileged || (!withPasid && descriptor.privileged),
      ims,
      config,
    };
  }
  const { pasid, privileged } = descriptor;
  return { wq, pasid, privileged, supervisor: privileged, ims, config };
}

/** A descriptor on its way through the device, with what will be in its completion record. */
export class Work {
  readonly client: Client;
  readonly descriptor: Descriptor;
  /** Reserved fields of the raw descriptor are not zero. */
  readonly reserved: boolean;
  /** Order of acceptance, over the whole device; members have their batch's. */
  readonly sequence: number;
  /** Index in its batch; -1 for a descriptor that was submitted itself. */
  readonly batchIndex: number;
  /** Trace cause of its submission. */
  readonly cause: number;
  status = 0;
  result = 0;
  /** Bytes, or descriptors of a batch. */
  completed = 0;
  crc = 0;
  invalidFlags = 0;
  faultAddress = 0n;
  faultOnWrite = false;

  constructor(
    client: Client,
    descriptor: Descriptor,
    reserved: boolean,
    order: { sequence: number; batchIndex: number; cause: number },
  ) {
    this.client = client;
    this.descriptor = descriptor;
    this.reserved = reserved;
    this.sequence = order.sequence;
    this.batchIndex = order.batchIndex;
    this.cause = order.cause;
  }

  has(flag: number): boolean {
    return (this.descriptor.flags & flag) !== 0;
  }

  get isCrc(): boolean {
    const { opcode } = this.descriptor;
    return opcode === Opcode.CRCGEN || opcode === Opcode.COPY_CRC;
  }

  /** Whether its queue and flags let a data fault wait for the page. */
  get blocksOnFault(): boolean {
    return this.client.config.blockOnFault !== 0 && this.has(F.BLOCK_ON_FAULT);
  }

  failAt(status: number, page: number, offset: number, onWrite: boolean): void {
    this.status = status;
    this.faultAddress = (BigInt(page) << 12n) | BigInt(offset);
    this.faultOnWrite = onWrite;
  }
}

/** A 64-bit address as page number (exact) and offset. */
export function pageOf(address: bigint): number {
  return Number(address >> 12n);
}

export function offsetOf(address: bigint): number {
  return Number(address & 0xfffn);
}
