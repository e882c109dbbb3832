/** A user program on a host with the real unit, that makes many system calls in one go. */
import type { Fields, Struct, Values } from '../../host/uapi/struct.ts';
import { bound, type Client, type Device } from '../host/kernel/iommufd/client.ts';
import type { User } from '../host/kernel/iommufd/world.ts';
import { bootRig, type Rig } from '../vmm/scenario/rig.ts';

export class Program {
  readonly rig: Rig;
  readonly user: User;
  readonly client: Client;
  readonly device: Device;

  constructor(ramBytes: number) {
    this.rig = bootRig({ ramBytes });
    this.user = this.rig.user();
    const { client, device } = bound(this.user);
    this.client = client;
    this.device = device;
  }

  /** The same ioctl with `count` different arguments; every one must succeed. */
  ioctls<F extends Fields>(
    fd: number,
    request: number,
    struct: Struct<F>,
    count: number,
    argument: (n: number) => Partial<Values<F>>,
  ): void {
    const { user } = this;
    const { process, scratch } = user;
    user.run(
      (function* () {
        for (let n = 0; n < count; n++) {
          user.write(scratch, struct.encode(argument(n)));
          const result = yield* process.ioctl(fd, request, scratch);
          if (result < 0) throw new Error(`${struct.name} ${n}: ${result}`);
        }
      })(),
    );
  }
}
