import type { PageGroupResponseDescriptor } from '../../devices/spec/vtd/invalidation.ts';
import { RESPONSE } from '../../devices/spec/vtd/page-request.ts';
import type { Syscalls, Task } from '../../host/syscall.ts';
import {
  IOMMU_PGFAULT_FLAGS_LAST_PAGE,
  IOMMU_PGFAULT_FLAGS_PASID_VALID,
  IOMMU_PGFAULT_PERM_EXEC,
  IOMMU_PGFAULT_PERM_PRIV,
  IOMMU_PGFAULT_PERM_READ,
  IOMMU_PGFAULT_PERM_WRITE,
  IOMMUFD_PAGE_RESP_INVALID,
  IOMMUFD_PAGE_RESP_SUCCESS,
  iommu_hwpt_page_response,
  iommu_hwpt_pgfault,
} from '../../host/uapi/iommufd.ts';
import type { StructValues } from '../../host/uapi/struct.ts';
import { vmm as ev } from '../../trace/catalogue/vmm.ts';
import { permText } from '../../trace/perm.ts';
import type { Tracer } from '../../trace/tracer.ts';
import type { Heap } from '../heap.ts';

type Fault = StructValues<typeof iommu_hwpt_pgfault>;

/** The unit's page request input: `VtdUnit.pageRequest`. `pasid` -1 for none, `vpn` 52 bits. */
export type PageRequestInput = (
  rid: number,
  pasid: number,
  priv: boolean,
  vpn: number,
  read: boolean,
  write: boolean,
  last: boolean,
  prgi: number,
) => void;

export interface FaultsOptions {
  readonly name: string;
  readonly sys: Syscalls;
  readonly trace: Tracer;
  /** The fault queue's descriptor. */
  readonly fd: number;
  readonly heap: Heap;
  readonly rid: number;
  readonly pageRequest: PageRequestInput;
}

/** Room for more records than a page request allocation can have outstanding in one group. */
const BUFFER_BYTES = 1024 * iommu_hwpt_pgfault.size;
const RESPONSE_BYTES = iommu_hwpt_page_response.size;
/** Reads in one drain: a device that faults as fast as it is answered must not hold a thread. */
const ROUNDS = 16;
/** How long a thread that finds another one draining waits before it looks again, in ns. */
const RETRY_NS = 1000;

const NO_PASID = -1;
const PRGI_MASK = 0x1ff;

/** Groups of one PASID and index that are remembered: one is open, the rest owe a late answer. */
const MAX_SAME_INDEX = 8;

/** A page request group that the guest has been shown and has not answered. */
export interface Group {
  readonly pasid: number;
  readonly prgi: number;
  readonly cookie: number;
  /** The host still waits for the answer. */
  isOpen: boolean;
}

/**
 * Page requests between the host's fault queue and the virtual unit (vtd.md 6.7). A group is known
 * from its last page until it is answered: by the guest's page group response, or by the virtual unit
 * when its queue is full or the guest's tables refuse the request. It is answered at most once. What
 * the host answered by itself stays known, so that the guest's late answer to it is not taken for
 * the answer to a newer group of the same index.
 */
export class Faults {
  readonly #options: FaultsOptions;
  /** By PASID and group index, in the order the guest saw them. */
  readonly #waiting = new Map<string, Group[]>();
  readonly #byCookie = new Map<number, Group>();
  readonly #answers: { readonly group: Group; readonly code: number }[] = [];
  #draining = false;

  constructor(options: FaultsOptions) {
    this.#options = options;
  }

  /** Groups that the host waits for. */
  get outstanding(): number {
    return this.#byCookie.size;
  }

  /** Groups that the guest has not answered, open or not. */
  get remembered(): number {
    return [...this.#waiting.values()].reduce((sum, groups) => sum + groups.length, 0);
  }

  /** The open groups of an attachment; PASID 0 is the RID's, of requests without a PASID. */
  groupsOf(pasid: number): readonly Group[] {
    const wanted = pasid === 0 ? NO_PASID : pasid;
    return [...this.#byCookie.values()].filter((group) => group.pasid === wanted);
  }

  /** The host answered these itself, since their attachment was replaced. */
  hostAnswered(groups: readonly Group[]): void {
    for (const group of groups) this.#close(group);
  }

  /** The attachment of a PASID is gone: the host has answered everything, and nobody else will. */
  forget(pasid: number): void {
    this.hostAnswered(this.groupsOf(pasid));
    const prefix = keyOf(pasid === 0 ? NO_PASID : pasid, '');
    for (const key of [...this.#waiting.keys()]) {
      if (key.startsWith(prefix)) this.#waiting.delete(key);
    }
  }

  /**
   * Reads the fault queue until it is empty and puts every record into the guest's queue: on return
   * every fault that was in the host's queue at the call is in the guest's, whichever thread read it.
   */
  *drain(): Task {
    while (this.#draining) yield RETRY_NS;
    this.#draining = true;
    try {
      for (let round = 0; round < ROUNDS && (yield* this.#readSome()) > 0; round++);
    } finally {
      this.#draining = false;
    }
  }

  /** The guest's page group response. One that matches no group is ignored. */
  *respond(d: PageGroupResponseDescriptor): Task {
    if (d.rid !== this.#options.rid) return;
    const code =
      d.code === RESPONSE.SUCCESS ? IOMMUFD_PAGE_RESP_SUCCESS : IOMMUFD_PAGE_RESP_INVALID;
    this.#answer(this.#take(d.pasidPresent ? d.pasid : NO_PASID, d.prgi, 'oldest'), code);
    yield* this.sendAnswers();
  }

  /** The virtual unit answers by itself, in the middle of `pageRequest`; sent by `sendAnswers`. */
  unitResponded(pasid: number, prgi: number, code: number): void {
    const isSuccess = code === RESPONSE.SUCCESS;
    const answer = isSuccess ? IOMMUFD_PAGE_RESP_SUCCESS : IOMMUFD_PAGE_RESP_INVALID;
    this.#answer(this.#take(pasid, prgi, 'newest'), answer);
  }

  /** Writes the answers that are due to the fault queue. */
  *sendAnswers(): Task {
    const { sys, fd, heap, name, trace } = this.#options;
    for (let next = this.#answers.shift(); next !== undefined; next = this.#answers.shift()) {
      const { pasid, prgi, cookie } = next.group;
      const { code } = next;
      using _span = trace.span(ev.faultResponse, { vm: name, pasid, grpid: prgi, cookie, code });
      const at = heap.alloc(RESPONSE_BYTES);
      sys.memory.store(at, 4, BigInt(cookie));
      sys.memory.store(at + 4, 4, BigInt(code));
      // EINVAL: the host has answered the group itself, when its PASID was replaced or detached.
      yield* sys.write(fd, at, RESPONSE_BYTES);
      heap.free(at, RESPONSE_BYTES);
    }
  }

  *#readSome(): Task<number> {
    const { sys, fd, heap } = this.#options;
    const buffer = heap.alloc(BUFFER_BYTES);
    const done = yield* sys.read(fd, buffer, BUFFER_BYTES);
    const bytes = new Uint8Array(Math.max(0, done));
    sys.memory.read(buffer, bytes);
    heap.free(buffer, BUFFER_BYTES);
    const view = new DataView(bytes.buffer);
    for (let at = 0; at + iommu_hwpt_pgfault.size <= done; at += iommu_hwpt_pgfault.size) {
      this.#inject(iommu_hwpt_pgfault.read(view, at));
    }
    yield* this.sendAnswers();
    return done;
  }

  #inject(fault: Fault): void {
    const { rid, pageRequest, name, trace } = this.#options;
    const pasid = (fault.flags & IOMMU_PGFAULT_FLAGS_PASID_VALID) !== 0 ? fault.pasid : NO_PASID;
    const last = (fault.flags & IOMMU_PGFAULT_FLAGS_LAST_PAGE) !== 0;
    const prgi = fault.grpid & PRGI_MASK;
    using _span = trace.span(ev.faultRead, {
      vm: name,
      pasid,
      address: fault.addr,
      grpid: fault.grpid,
      cookie: fault.cookie,
      perm: trace.on ? permText(fault.perm) : '',
      last: last ? 1 : 0,
    });
    if (last) this.#remember({ pasid, prgi, cookie: fault.cookie, isOpen: true });
    const has = (bit: number): boolean => (fault.perm & bit) !== 0;
    const read = has(IOMMU_PGFAULT_PERM_READ) || has(IOMMU_PGFAULT_PERM_EXEC);
    const write = has(IOMMU_PGFAULT_PERM_WRITE);
    const vpn = Number(fault.addr >> 12n);
    pageRequest(rid, pasid, has(IOMMU_PGFAULT_PERM_PRIV), vpn, read, write, last, prgi);
  }

  /** A cookie the host hands out again means that it has answered the group that had it. */
  #remember(group: Group): void {
    const stale = this.#byCookie.get(group.cookie);
    if (stale !== undefined) this.#close(stale);
    this.#byCookie.set(group.cookie, group);
    const key = keyOf(group.pasid, group.prgi);
    const others = this.#waiting.get(key);
    if (others === undefined) this.#waiting.set(key, [group]);
    else if (others.push(group) > MAX_SAME_INDEX) others.shift();
  }

  /** The guest is done with one group of that index: it answers in the order it was shown them. */
  #take(pasid: number, prgi: number, which: 'oldest' | 'newest'): Group | undefined {
    const key = keyOf(pasid, prgi);
    const groups = this.#waiting.get(key);
    const taken = which === 'oldest' ? groups?.shift() : groups?.pop();
    if (groups?.length === 0) this.#waiting.delete(key);
    return taken;
  }

  #close(group: Group): void {
    group.isOpen = false;
    this.#byCookie.delete(group.cookie);
  }

  #answer(group: Group | undefined, code: number): void {
    if (group?.isOpen !== true) return;
    this.#close(group);
    this.#answers.push({ group, code });
  }
}

function keyOf(pasid: number, prgi: number | ''): string {
  return `${pasid}:${prgi}`;
}
