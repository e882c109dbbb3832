import { Ram } from './ram.ts';

/** RAM whose stores, all but those of devices, somebody hears of after they are done. */
export class WatchedRam extends Ram {
  readonly #stored: (address: number, bytes: number) => void;

  /** @param stored is told of each store by its byte address and length */
  constructor(bytes: number, stored: (address: number, bytes: number) => void) {
    super(bytes);
    this.#stored = stored;
  }

  override write32(address: number, value: number): void {
    super.write32(address, value);
    this.#stored(address, 4);
  }

  override write64(address: number, value: bigint): void {
    super.write64(address, value);
    this.#stored(address, 8);
  }

  override touched(address: number, length: number): void {
    this.#stored(address, length);
  }

  override write(address: number, from: Uint8Array): void {
    super.write(address, from);
    this.#stored(address, from.length);
  }
}
