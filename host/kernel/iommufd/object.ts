/**
 * iommufd objects, their ids and who holds them (struct iommufd_object and iommufd_ctx,
 * drivers/iommu/iommufd/main.c).
 */

import { host } from '../../../trace/catalogue/host.ts';
import { WaitQueue } from '../../machine/scheduler.ts';
import type { Task } from '../../syscall.ts';
import { Errno } from '../errno.ts';
import type { Caller } from '../file.ts';
import type { Kernel } from '../kernel.ts';
import type { Payer, UserAccount } from './accounting.ts';
import { MmapTable } from './mmap.ts';

const ID_MAX = 0x7fff_ffff;

/** The names that error texts and the trace use. */
export type ObjectType =
  | 'DEVICE'
  | 'HWPT_PAGING'
  | 'HWPT_NESTED'
  | 'IOAS'
  | 'ACCESS'
  | 'FAULT'
  | 'VIOMMU'
  | 'VDEVICE'
  | 'VEVENTQ'
  | 'HW_QUEUE'
  | 'SELFTEST';

/** A class of objects to look up, e.g. `Ioas`. */
export type Kind<T extends IommufdObject> = abstract new (...args: never[]) => T;

export abstract class IommufdObject {
  abstract readonly type: ObjectType;
  readonly ctx: IommufdCtx;
  /** 0 until it is reserved. */
  id = 0;
  /** One for the id table and one for every holder; DESTROY needs exactly 1. */
  users = 1;
  /** Look-ups under way (`wait_cnt` without its bias); unbind waits for them. */
  inFlight = 0;

  constructor(ctx: IommufdCtx) {
    this.ctx = ctx;
  }

  /** Keeps a driver from giving it up, though not a user from destroying it. */
  enter(): void {
    this.inFlight++;
  }

  leave(): void {
    if (--this.inFlight === 0) this.ctx.lookupsDone.wake();
  }

  /** What it is, in a few words, for the trace. */
  abstract describe(): string;

  /** The object that it is of or on, for traces; 0: none. */
  get parentId(): number {
    return 0;
  }

  /** Before a driver's object goes: lets go of what would make `destroyOwned` wait for ever. */
  *preDestroy(): Task {
    // Most objects are waited for by nobody.
  }

  /** Gives back what it holds. Called once, when it is out of the table; must not fail. */
  abstract destroy(): Task;
}

/** A looked-up object, kept alive until disposed: `using hold = ctx.lookup(id, Ioas)`. */
export class Hold<T extends IommufdObject> implements Disposable {
  readonly object: T;

  constructor(object: T) {
    object.users++;
    object.enter();
    this.object = object;
  }

  [Symbol.dispose](): void {
    this.object.users--;
    this.object.leave();
  }
}

/** Bytes of a batch's temporary memory at most, unless a test makes it less. */
const TEMP_MEMORY_LIMIT = 65536;

/** What all open `/dev/iommu` files of a kernel share. */
export class IommufdGlobal {
  /** Objects alive in all contexts. */
  objects = 0;
  /** Bytes of temporary memory that pinning may take at once; never below 12. */
  tempMemoryLimit = TEMP_MEMORY_LIMIT;
  readonly #users = new Map<number, UserAccount>();

  /** What the user of that number has locked, in all processes. */
  userAccount(uid: number): UserAccount {
    const known = this.#users.get(uid);
    if (known !== undefined) return known;
    const account = { lockedPages: 0 };
    this.#users.set(uid, account);
    return account;
  }
}

export class IommufdCtx {
  readonly kernel: Kernel;
  /** Of the process that opened it. */
  readonly pid: number;
  /** IOMMU_OPTION_RLIMIT_MODE. */
  accounting: 'user' | 'mm' = 'user';
  /** Woken when an object's last look-up under way ends. */
  readonly lookupsDone = new WaitQueue();
  /** Per iommu group, what the devices bound through this file share. Owned by device.ts. */
  readonly groups = new Map<object, unknown>();
  readonly global: IommufdGlobal;
  /** What users may map. */
  readonly mmaps = new MmapTable();
  /** What the VFIO container calls work on; it goes with the IOAS. */
  vfioIoas: IommufdObject | null = null;
  /** By id; null where an object is being made, or has left a tombstone. */
  readonly #objects = new Map<number, IommufdObject | null>();
  #lowestFree = 1;
  #references = 1;

  constructor(kernel: Kernel, pid: number, global: IommufdGlobal) {
    this.kernel = kernel;
    this.pid = pid;
    this.global = global;
  }

  get empty(): boolean {
    return this.#objects.size === 0;
  }

  /** The process as one that pins can be charged to. */
  payer(caller: Caller): Payer {
    const { pid, mm, credentials } = caller;
    return { pid, mm, user: this.global.userAccount(credentials.uid) };
  }

  /** The file, every bound device and every fault fd keep the context. */
  reference(): void {
    this.#references++;
  }

  /** The last one to go destroys what is left: passes in ascending id over what nobody holds. */
  *unreference(): Task {
    if (--this.#references > 0) return;
    for (let progress = true; progress; ) {
      progress = false;
      for (const id of [...this.#objects.keys()].sort((a, b) => a - b)) {
        const object = this.#objects.get(id);
        if (object?.users !== 1) continue;
        yield* this.#remove(object);
        progress = true;
      }
    }
    // The tombstones.
    for (const object of this.#objects.values()) if (object === null) this.kernel.memory.give(1);
  }

  /** Reserves the lowest free id for an object that is being made. @throws Errno ENOMEM, ENOSPC */
  reserve(object: IommufdObject): void {
    this.kernel.failpoints.point(`iommufd:object_alloc:${object.type}`);
    this.kernel.failpoints.point('iommufd:object_id');
    while (this.#objects.has(this.#lowestFree)) this.#lowestFree++;
    if (this.#lowestFree > ID_MAX) throw new Errno('ENOSPC', 'no object id is left');
    this.kernel.memory.take(1, object.type);
    object.id = this.#lowestFree;
    this.#objects.set(object.id, null);
    this.global.objects++;
  }

  /** Lets look-ups find it. */
  publish(object: IommufdObject): void {
    this.#objects.set(object.id, object);
    const { trace } = this.kernel;
    if (!trace.on) return;
    const { id, type, parentId: parent } = object;
    trace.emit(host.objectNew, { pid: this.pid, id, type, parent, detail: object.describe() });
  }

  /** Undoes `reserve` of an object that was never published, without destroying it. */
  abandon(object: IommufdObject): void {
    this.#free(object);
  }

  /** Destroys an object that was never published. */
  *abort(object: IommufdObject): Task {
    this.#free(object);
    yield* object.destroy();
  }

  /**
   * Finds an object and keeps it until the hold is disposed.
   *
   * @throws Errno ENOENT: no such id, still being made, or another kind of object
   */
  lookup<T extends IommufdObject>(id: number, kind: Kind<T>): Hold<T> {
    this.kernel.failpoints.point('iommufd:object_lookup', 'ENOENT');
    const object = this.#objects.get(id);
    if (object === undefined || object === null) {
      throw new Errno('ENOENT', `no object has id ${id}`);
    }
    if (!(object instanceof kind)) {
      throw new Errno('ENOENT', `object ${id} is of type ${object.type}`);
    }
    return new Hold(object);
  }

  /** IOMMU_DESTROY. @throws Errno ENOENT, EBUSY */
  *destroy(id: number): Task {
    const object = this.#objects.get(id);
    if (object === undefined || object === null) {
      throw new Errno('ENOENT', `no object has id ${id}`);
    }
    if (object.users !== 1) {
      const holders = object.users - 1;
      throw new Errno('EBUSY', `${object.type} ${id} is held by ${holders} others`);
    }
    yield* this.#remove(object);
  }

  /** Destroys it if nobody else holds it: what detach does with an auto-domain. */
  *destroyIfUnused(object: IommufdObject): Task {
    if (object.users === 1 && this.#objects.get(object.id) === object) yield* this.#remove(object);
  }

  /** A driver gives its object up (one extra user): waits for look-ups under way, then destroys. */
  *destroyOwned(object: IommufdObject): Task {
    yield* object.preDestroy();
    while (object.inFlight > 0) yield this.lookupsDone;
    object.users--;
    yield* this.#remove(object);
  }

  /**
   * Destroys an object whose holder goes. Its id stays reserved, so that nobody takes another object
   * for it (REMOVE_OBJ_TOMBSTONE).
   */
  *tombstone(object: IommufdObject): Task {
    while (object.inFlight > 0) yield this.lookupsDone;
    this.#objects.set(object.id, null);
    this.global.objects--;
    this.#emitGone(object);
    yield* object.destroy();
  }

  /** All objects of a class, ascending by id. */
  all<T extends IommufdObject>(kind: Kind<T>): T[] {
    const found = [...this.#objects.values()].filter((object) => object instanceof kind) as T[];
    return found.sort((a, b) => a.id - b.id);
  }

  *#remove(object: IommufdObject): Task {
    this.#free(object);
    this.#emitGone(object);
    yield* object.destroy();
  }

  #emitGone(object: IommufdObject): void {
    const { trace } = this.kernel;
    if (trace.on) {
      trace.emit(host.objectGone, { pid: this.pid, id: object.id, type: object.type });
    }
  }

  #free(object: IommufdObject): void {
    this.#objects.delete(object.id);
    this.global.objects--;
    this.kernel.memory.give(1);
    if (this.vfioIoas === object) this.vfioIoas = null;
    if (object.id < this.#lowestFree) this.#lowestFree = object.id;
  }
}
