/** One ioctl on `/dev/iommu` under way (struct iommufd_ucmd), and the copying rules of its payloads. */
import type { Fields, Struct, Values } from '../../uapi/struct.ts';
import { Errno } from '../errno.ts';
import type { Caller } from '../file.ts';
import type { UserData } from '../iommu/ops.ts';
import type { Mm } from '../mm.ts';
import type { IommufdCtx } from './object.ts';

/** Driver payloads are small structures; a longer one fits none of them. */
const DRIVER_DATA_MAX = 4096;

/** Where arguments are decoded and encoded; a view for each of them would cost more than the rest. */
const scratch = new Uint8Array(4096);
const scratchView = new DataView(scratch.buffer);

export class Ucmd<F extends Fields> {
  readonly ctx: IommufdCtx;
  readonly process: Caller;
  readonly args: Values<F>;
  readonly #struct: Struct<F>;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #address: bigint;
  readonly #replyBytes: number;

  /** @param bytes the argument as the kernel knows it: `struct.size` bytes, a short one zero-filled */
  constructor(
    ctx: IommufdCtx,
    process: Caller,
    struct: Struct<F>,
    bytes: Uint8Array<ArrayBuffer>,
    address: bigint,
    userSize: number,
  ) {
    this.ctx = ctx;
    this.process = process;
    scratch.set(bytes);
    this.args = struct.read(scratchView);
    this.#struct = struct;
    this.#bytes = bytes;
    this.#address = address;
    this.#replyBytes = Math.min(userSize, struct.size);
  }

  /** Writes the argument back with these outputs. @throws Errno EFAULT */
  respond(outputs: Partial<Values<F>>): void {
    const bytes = this.#bytes;
    scratch.set(bytes);
    this.#struct.write(scratchView, 0, outputs);
    for (let i = 0; i < bytes.length; i++) bytes[i] = scratch[i]!;
    const reply = this.#replyBytes === bytes.length ? bytes : bytes.subarray(0, this.#replyBytes);
    this.process.mm.copyTo(this.#address, reply);
  }
}

/** Refuses flag bits outside `known`. @throws Errno EOPNOTSUPP */
export function onlyFlags(flags: number, known: number): void {
  const unknown = (flags & ~known) >>> 0;
  if (unknown === 0) return;
  throw new Errno('EOPNOTSUPP', `flags 0x${flags.toString(16)}: unknown 0x${unknown.toString(16)}`);
}

/** Refuses a reserved field that is not zero. @throws Errno EOPNOTSUPP */
export function reservedZero(value: number, name = '__reserved'): void {
  if (value !== 0) throw new Errno('EOPNOTSUPP', `${name} is 0x${value.toString(16)}, not 0`);
}

/**
 * The driver payload of HWPT_ALLOC, copied when the driver first looks at its bytes: a driver
 * checks the type before it copies.
 */
export function userData(mm: Mm, type: number, address: bigint, length: number): UserData {
  let copy: Uint8Array | null = null;
  return {
    type,
    get bytes(): Uint8Array {
      if (length > DRIVER_DATA_MAX) {
        throw new Errno(
          'EINVAL',
          `data_len ${length} is longer than any structure of type ${type}`,
        );
      }
      copy ??= mm.copyFrom(address, length);
      return copy;
    },
    respond(bytes: Uint8Array, minBytes: number): void {
      if (length < minBytes || length > bytes.length) {
        throw new Errno('EINVAL', `data_len ${length} is not within ${minBytes}..${bytes.length}`);
      }
      mm.copyTo(address, bytes.subarray(0, length));
    },
  };
}
