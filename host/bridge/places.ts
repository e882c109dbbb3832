import type { FileOps } from '../kernel/file.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Mm } from '../kernel/mm.ts';
import { sysfs } from '../kernel/sysfs.ts';
import { deviceNumber } from './device-numbers.ts';
import { FailNthFile } from './fail-nth.ts';
import { faultInjectionNodes } from './fault-injection.ts';
import { type ProcessFile, processFile, statusOf, type ThreadId } from './process-files.ts';
import { isAttribute, refuseChange } from './sysfs-attribute.ts';
import { file, PrivateTree } from './tree.ts';
import { PLACE } from './wire.ts';

const S_IFREG = 0o100000;

/** Where a path leads. */
export interface Place {
  /** One of PLACE. */
  readonly kind: number;
  /** TREE: the file that stands for it. */
  readonly real: string;
}

/** Threads of one process that are told apart; one that claims more has them all forgotten. */
const MAX_TASKS = 2 ** 15;
/** Threads of one process whose status lies in the tree at a time. */
const MAX_STATUSES = 256;

const OWN: Place = { kind: PLACE.OWN, real: '' };

/**
 * The paths that clients read besides the devices. Most lie in a private tree, made when first
 * asked for; what changes is brought up to date when a program asks where it is. What must answer
 * each read and write itself is a file of the engine.
 */
export class Places {
  readonly #kernel: Kernel;
  readonly #tree: PrivateTree;
  readonly #mmOf: (pid: number) => Mm | undefined;
  /** By pid and tid. */
  readonly #tasks = new Map<number, Map<number, object>>();
  /** By pid: what of it is in the tree. */
  readonly #statuses = new Map<number, Set<string>>();
  #built = false;

  /** @param root a directory of the user's alone, that need not exist */
  constructor(kernel: Kernel, root: string, mmOf: (pid: number) => Mm | undefined) {
    this.#kernel = kernel;
    this.#tree = new PrivateTree(root);
    this.#mmOf = mmOf;
  }

  /** A thread, as failure points know it. */
  taskOf({ pid, tid }: ThreadId): object {
    let tasks = this.#tasks.get(pid);
    if (tasks === undefined) this.#tasks.set(pid, (tasks = new Map<number, object>()));
    if (tasks.size >= MAX_TASKS) this.#disarm(tasks);
    let task = tasks.get(tid);
    if (task === undefined) tasks.set(tid, (task = { pid, tid }));
    return task;
  }

  /** A process has ended. */
  ended(pid: number): void {
    const tasks = this.#tasks.get(pid);
    if (tasks !== undefined) this.#disarm(tasks);
    this.#tasks.delete(pid);
    this.#statuses.delete(pid);
    this.#tree.remove(`/proc/${pid}`);
  }

  /** Where an absolute path leads. */
  locate(path: string, caller: ThreadId): Place {
    if (path.startsWith('/proc/')) return this.#locateProcess(path, caller);
    this.#build();
    if (path.startsWith('/sys/kernel/debug') && !this.#canInject) return OWN;
    return this.#inTree(path);
  }

  /** An engine's file at that path; undefined: it is none. Errno for one of sysfs. */
  open(path: string, caller: ThreadId, flags: number): FileOps | undefined {
    if (isAttribute(path)) {
      this.#build();
      refuseChange(this.#tree.root, path, flags);
    }
    const found = this.#failNth(path, caller);
    return found === undefined ? undefined : new FailNthFile(this.#points, this.taskOf(found));
  }

  /** What stat shows of such a file: struct vsva_stat; undefined: it is none. */
  stat(path: string, caller: ThreadId): Uint8Array | undefined {
    if (this.#failNth(path, caller) === undefined) return undefined;
    return new Uint8Array(Uint32Array.of(S_IFREG | 0o644, 0, 0, 0).buffer);
  }

  #disarm(tasks: Map<number, object>): void {
    for (const task of tasks.values()) this.#points.armTask(task, 0);
    tasks.clear();
  }

  get #points(): Kernel['failpoints'] {
    return this.#kernel.failpoints;
  }

  /** A kernel that can be told to fail, as one built for its own tests can. */
  get #canInject(): boolean {
    return this.#kernel.options.selftest;
  }

  #locateProcess(path: string, caller: ThreadId): Place {
    const found = processFile(path, caller);
    if (found === undefined) return OWN;
    if (found.name === 'fail-nth') {
      return this.#failNth(path, caller) === undefined ? OWN : { kind: PLACE.DEVICE, real: '' };
    }
    const mm = this.#mmOf(found.pid);
    if (mm === undefined) return OWN;
    const made = this.#statuses.get(found.pid) ?? new Set<string>();
    if (made.size >= MAX_STATUSES) {
      this.#tree.remove(`/proc/${found.pid}`);
      made.clear();
    }
    this.#statuses.set(found.pid, made.add(found.real));
    this.#tree.put(found.real, file(statusOf(found.real, mm)));
    return this.#inTree(found.real);
  }

  #inTree(path: string): Place {
    return { kind: PLACE.TREE, real: this.#tree.root + path };
  }

  #failNth(path: string, caller: ThreadId): ProcessFile | undefined {
    if (!this.#canInject) return undefined;
    const found = processFile(path, caller);
    if (found?.name !== 'fail-nth') return undefined;
    // Of processes that are watched: what is kept of others would stay for ever.
    return found.pid === caller.pid || this.#mmOf(found.pid) !== undefined ? found : undefined;
  }

  #build(): void {
    if (this.#built) return;
    this.#built = true;
    const nodes = this.#kernel.devicePaths();
    for (const [path, node] of sysfs(this.#kernel, (at) => deviceNumber(nodes, at))) {
      this.#tree.put(path, node);
    }
    // In listings; opened, they are the devices.
    for (const path of nodes) this.#tree.put(path, file('', 0));
    if (!this.#canInject) return;
    for (const [path, node] of faultInjectionNodes()) this.#tree.put(path, node);
  }
}
