/** Who pays for pinned pages (iommufd's account modes, drivers/iommu/iommufd/pages.c). */
import { Errno } from '../errno.ts';
import type { Mm } from '../mm.ts';

export type AccountMode = 'none' | 'user' | 'mm';

/** Pages the user of all processes has locked: `user_struct.locked_vm`. */
export interface UserAccount {
  lockedPages: number;
}

/** Charges the pins of one set of pages; the mode is fixed when the set is made. */
export class PinAccount {
  readonly #mm: Mm;
  readonly #user: UserAccount;
  readonly #mode: AccountMode;

  /** @param mode of the context; a process with CAP_IPC_LOCK is charged nothing */
  constructor(mm: Mm, user: UserAccount, mode: 'user' | 'mm') {
    this.#mm = mm;
    this.#user = user;
    this.#mode = mm.lockLimit === Infinity ? 'none' : mode;
  }

  /** @throws Errno ENOMEM: beyond RLIMIT_MEMLOCK */
  charge(pages: number): void {
    const locked = this.#mode === 'user' ? this.#user.lockedPages : this.#mm.lockedVm;
    if (this.#mode !== 'none' && locked + pages > this.#mm.lockLimit) {
      const limit = `RLIMIT_MEMLOCK is ${this.#mm.lockLimit} pages`;
      throw new Errno('ENOMEM', `${locked} + ${pages} pages locked, ${limit}`);
    }
    this.#add(pages);
  }

  uncharge(pages: number): void {
    this.#add(-pages);
  }

  #add(pages: number): void {
    if (this.#mode === 'user') this.#user.lockedPages += pages;
    if (this.#mode === 'mm') this.#mm.lockedVm += pages;
    this.#mm.pinnedVm += pages;
  }
}
