/** Who pays for pinned pages (iommufd's account modes, drivers/iommu/iommufd/pages.c). */
import { Errno } from '../errno.ts';
import type { Caller } from '../file.ts';
import type { Mm } from '../mm.ts';

export type AccountMode = 'none' | 'user' | 'mm';

/** Pages the user of all processes has locked: `user_struct.locked_vm`. */
export interface UserAccount {
  lockedPages: number;
}

/** A process that pins are charged to. */
export interface Payer {
  readonly pid: number;
  readonly mm: Mm;
  readonly user: UserAccount;
}

/**
 * Charges the pins of one set of pages. The mode is fixed when the set is made; VmPin of the
 * process counts in every mode.
 */
export class PinAccount {
  readonly mode: AccountMode;
  #payer: Payer;
  #pages = 0;

  /** @param mode of the context; a process with CAP_IPC_LOCK is charged nothing */
  constructor(caller: Caller, user: UserAccount, mode: 'user' | 'mm') {
    this.#payer = { pid: caller.pid, mm: caller.mm, user };
    this.mode = caller.credentials.ipcLock ? 'none' : mode;
  }

  /** The process charged now. */
  get payer(): Payer {
    return this.#payer;
  }

  /** @throws Errno ENOMEM: beyond RLIMIT_MEMLOCK */
  charge(pages: number): void {
    charge(this.mode, this.#payer, pages);
    this.#pages += pages;
  }

  uncharge(pages: number): void {
    add(this.mode, this.#payer, -pages);
    this.#pages -= pages;
  }

  /** Whether `payer` is another process than the one charged. */
  isForeign(payer: Payer): boolean {
    return this.#payer.mm !== payer.mm || this.#payer.user !== payer.user;
  }

  /**
   * Charges `payer` beside the one charged now, until either function is called: `settle` leaves
   * the new one, `cancel` the old one charged.
   *
   * @throws Errno ENOMEM: beyond its RLIMIT_MEMLOCK
   */
  moveTo(payer: Payer): { settle(): void; cancel(): void } {
    const pages = this.#pages;
    charge(this.mode, payer, pages);
    return {
      settle: () => {
        add(this.mode, this.#payer, -pages);
        this.#payer = payer;
      },
      cancel: () => add(this.mode, payer, -pages),
    };
  }
}

function charge(mode: AccountMode, payer: Payer, pages: number): void {
  const { mm, user } = payer;
  const locked = mode === 'user' ? user.lockedPages : mm.lockedVm;
  if (mode !== 'none' && locked + pages > mm.lockLimit) {
    const whose = mode === 'user' ? 'the user' : `process ${payer.pid}`;
    const limit = `RLIMIT_MEMLOCK is ${mm.lockLimit} pages`;
    throw new Errno('ENOMEM', `${locked} + ${pages} pages locked by ${whose}, ${limit}`);
  }
  add(mode, payer, pages);
}

function add(mode: AccountMode, { mm, user }: Payer, pages: number): void {
  if (mode === 'user') user.lockedPages += pages;
  if (mode === 'mm') mm.lockedVm += pages;
  mm.pinnedVm += pages;
}
