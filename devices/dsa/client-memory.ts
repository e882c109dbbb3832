import type { Fabric } from '../pci/fabric.ts';
import { AT, CPL } from '../pci/fabric.ts';
import { COMPLETION_BYTES } from '../spec/dsa/completion.ts';
import { Reach, Run, type Translator } from './translator.ts';
import { type Client, offsetOf, pageOf } from './work.ts';

/** Small accesses of a descriptor that are not its data: lists, seeds, readbacks and records. */
export class ClientMemory {
  readonly #rid: number;
  readonly #fabric: Fabric;
  readonly #translator: Translator;
  readonly #run = new Run();

  constructor(parts: { rid: number; fabric: Fabric; translator: Translator }) {
    this.#rid = parts.rid;
    this.#fabric = parts.fabric;
    this.#translator = parts.translator;
  }

  /** Reads `length` bytes inside one page into `into` at 0. */
  read(client: Client, address: bigint, length: number, into: Uint8Array): Reach {
    const reach = this.#resolve(client, address, false);
    if (reach !== Reach.OK) return reach;
    const { type, page } = this.#translator;
    const { pasid, privileged } = client;
    const at = offsetOf(address);
    const rid = this.#rid;
    const status = this.#fabric.read(rid, pasid, privileged, type, page, at, into, 0, length);
    return status === CPL.SUCCESS ? Reach.OK : this.#refusal();
  }

  /**
   * Writes a completion record (32-byte aligned). Everything but the status byte goes first, since
   * software polls that byte.
   */
  writeRecord(client: Client, address: bigint, bytes: Uint8Array): Reach {
    const reach = this.#resolve(client, address, true);
    if (reach !== Reach.OK) return reach;
    const { type, page } = this.#translator;
    const { pasid, privileged } = client;
    const at = offsetOf(address);
    const rid = this.#rid;
    const rest = COMPLETION_BYTES - 1;
    const fabric = this.#fabric;
    const body = fabric.write(rid, pasid, privileged, type, page, at + 1, bytes, 1, rest);
    if (body !== CPL.SUCCESS) return this.#refusal();
    const status = fabric.write(rid, pasid, privileged, type, page, at, bytes, 0, 1);
    return status === CPL.SUCCESS ? Reach.OK : this.#refusal();
  }

  #resolve(client: Client, address: bigint, write: boolean): Reach {
    this.#run.forget();
    return this.#translator.resolve(client, pageOf(address), write, this.#run);
  }

  /** An untranslated request that is refused met a fault in the IOMMU. */
  #refusal(): Reach {
    return this.#translator.type === AT.TRANSLATED ? Reach.REFUSED : Reach.ABSENT;
  }
}
