/** What the operations of IOMMU_TEST_CMD share. */
import type { Task } from '../../syscall.ts';
import type { Fields, Struct } from '../../uapi/struct.ts';
import type { Caller } from '../file.ts';
import type { IommufdCtx } from '../iommufd/object.ts';
import { Ucmd } from '../iommufd/ucmd.ts';
import type { MockDriver } from './driver.ts';

/** IOMMU_TEST_CMD as it came in: the bytes as the kernel knows them, and where they are from. */
export interface RawCommand {
  readonly ctx: IommufdCtx;
  readonly caller: Caller;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly address: bigint;
  readonly userSize: number;
  readonly driver: MockDriver;
}

/** What it returns is what the ioctl returns; nothing is 0. */
export interface Operation {
  readonly struct: Struct;
  run(raw: RawCommand): Task<number | undefined> | Task;
}

/** Binds an operation to the variant it reads. */
export function operation<F extends Fields>(
  variant: Struct<F>,
  run: (ucmd: Ucmd<F>, driver: MockDriver) => Task<number | undefined> | Task,
): Operation {
  return {
    struct: variant,
    run: ({ ctx, caller, bytes, address, userSize, driver }) =>
      run(new Ucmd(ctx, caller, variant, bytes, address, userSize), driver),
  };
}

/** The command with a variant's fields. */
export type Cmd<S extends Struct> = S extends Struct<infer F> ? Ucmd<F> : never;
