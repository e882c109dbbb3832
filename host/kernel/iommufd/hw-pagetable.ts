/**
 * Hardware page tables: an IOMMU domain with a place among the objects
 * (drivers/iommu/iommufd/hw_pagetable.c).
 */
import type { Task } from '../../syscall.ts';
import {
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
  IOMMU_HWPT_ALLOC_NEST_PARENT,
  IOMMU_HWPT_ALLOC_PASID,
  IOMMU_HWPT_FAULT_ID_VALID,
} from '../../uapi/iommufd.ts';
import { Errno } from '../errno.ts';
import type { IommuDev, IommuDomain, UserData, Viommu } from '../iommu/ops.ts';
import { Undo } from '../undo.ts';
import type { FaultQueue } from './eventq.ts';
import type { Ioas } from './ioas.ts';
import type { IommufdCtx } from './object.ts';
import { IommufdObject } from './object.ts';
import { onlyFlags } from './ucmd.ts';

const PAGING_FLAGS =
  IOMMU_HWPT_ALLOC_NEST_PARENT |
  IOMMU_HWPT_ALLOC_DIRTY_TRACKING |
  IOMMU_HWPT_FAULT_ID_VALID |
  IOMMU_HWPT_ALLOC_PASID;
const NESTED_FLAGS = IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_PASID;

export abstract class Hwpt extends IommufdObject {
  readonly domain: IommuDomain;
  /** Made with IOMMU_HWPT_ALLOC_PASID: may be used with PASIDs, and beside them on the RID. */
  readonly pasidCompat: boolean;
  /** Where its page requests go. */
  fault: FaultQueue | null = null;

  constructor(ctx: IommufdCtx, domain: IommuDomain, flags: number) {
    super(ctx);
    this.domain = domain;
    domain.iommufdHwpt = this;
    this.pasidCompat = (flags & IOMMU_HWPT_ALLOC_PASID) !== 0;
  }

  /** The paging HWPT whose IOAS its second stage mirrors. */
  abstract readonly paging: HwptPaging;

  /** Takes a user on the fault queue and makes the domain deliver its faults there. */
  deliverFaultsTo(fault: FaultQueue): void {
    this.fault = fault;
    fault.users++;
    this.domain.faultHandler = (group) => fault.handle(group, this.id);
  }

  protected freeDomain(): void {
    this.domain.faultHandler = null;
    if (this.fault !== null) this.fault.users--;
    this.domain.ops.free(this.domain);
  }

  protected flagText(): string {
    return `${this.pasidCompat ? ' PASID' : ''}${this.fault === null ? '' : ` FAULT ${this.fault.id}`}`;
  }
}

export class HwptPaging extends Hwpt {
  readonly type = 'HWPT_PAGING';
  readonly ioas: Ioas;
  readonly nestParent: boolean;
  /** Made by attaching to an IOAS: goes with its last attachment. */
  readonly auto: boolean;
  /** No device gets around the caches through it. */
  enforcesCoherency = false;

  /** Holds the IOAS. The domain is filled and in the IOAS's list only after `allocPaging`. */
  constructor(ioas: Ioas, domain: IommuDomain, flags: number, auto: boolean) {
    super(ioas.ctx, domain, flags);
    this.ioas = ioas;
    this.nestParent = (flags & IOMMU_HWPT_ALLOC_NEST_PARENT) !== 0;
    this.auto = auto;
    ioas.users++;
  }

  get paging(): this {
    return this;
  }

  override get parentId(): number {
    return this.ioas.id;
  }

  describe(): string {
    const kind = this.nestParent ? ' NEST_PARENT' : '';
    return `of IOAS ${this.ioas.id}${this.auto ? ' auto' : ''}${kind}${this.flagText()}`;
  }

  *destroy(): Task {
    const { hwpts, iopt } = this.ioas;
    const at = hwpts.indexOf(this);
    if (at >= 0) hwpts.splice(at, 1);
    yield* iopt.removeDomain(this.domain);
    this.freeDomain();
    this.ioas.users--;
  }
}

export class HwptNested extends Hwpt {
  readonly type = 'HWPT_NESTED';
  readonly paging: HwptPaging;
  /** The parent, or the vIOMMU it was made through. */
  readonly #holder: IommufdObject;

  /** Holds the parent, or the vIOMMU that does. */
  constructor(
    parent: HwptPaging,
    domain: IommuDomain,
    flags: number,
    holder: IommufdObject = parent,
  ) {
    super(parent.ctx, domain, flags);
    this.paging = parent;
    this.#holder = holder;
    holder.users++;
  }

  override get parentId(): number {
    return this.#holder.id;
  }

  describe(): string {
    return `nested on ${this.#holder.id}${this.flagText()}`;
  }

  *destroy(): Task {
    this.freeDomain();
    this.#holder.users--;
  }
}

/** How to make a paging HWPT. */
export interface PagingRequest {
  readonly flags: number;
  readonly data: UserData | null;
  /** For an auto-domain of an attach: attaches before the domain is filled, and its undo. */
  readonly attach?: { run(hwpt: HwptPaging): Task; undo(hwpt: HwptPaging): Task };
  readonly auto: boolean;
}

/**
 * Makes a paging HWPT and fills it from the IOAS; the caller holds the IOAS's mutex and publishes or
 * aborts it (iommufd_hwpt_paging_alloc).
 *
 * @throws Errno EOPNOTSUPP: flags; what the driver, the attach and the fill say
 */
export function* allocPaging(ioas: Ioas, dev: IommuDev, request: PagingRequest): Task<HwptPaging> {
  const { flags, data, attach, auto } = request;
  const { ctx } = ioas;
  onlyFlags(flags, PAGING_FLAGS);
  if ((flags & IOMMU_HWPT_ALLOC_DIRTY_TRACKING) !== 0 && !dev.ops.capable(dev, 'dirty')) {
    throw new Errno('EOPNOTSUPP', `${dev.name} cannot track dirty pages`);
  }
  const both = IOMMU_HWPT_FAULT_ID_VALID | IOMMU_HWPT_ALLOC_NEST_PARENT;
  if ((flags & both) === both) {
    throw new Errno('EOPNOTSUPP', 'a nest parent delivers no faults');
  }
  ctx.kernel.failpoints.point('iommufd:hwpt_paging');
  const undo = new Undo();
  try {
    const domain = dev.ops.domainAllocPaging(dev, flags & ~IOMMU_HWPT_FAULT_ID_VALID, data);
    const hwpt = new HwptPaging(ioas, domain, flags, auto);
    undo.defer(() => hwpt.destroy());
    ctx.reserve(hwpt);
    undo.defer(() => {
      ctx.abandon(hwpt);
      return undefined;
    });
    if (dev.ops.capable(dev, 'enforce-coherency')) enforceCoherency(hwpt);
    if (attach !== undefined) {
      yield* attach.run(hwpt);
      undo.defer(() => attach.undo(hwpt));
    }
    yield* ioas.iopt.addDomain(domain);
    ioas.hwpts.push(hwpt);
    undo.commit();
    return hwpt;
  } finally {
    yield* undo.unwind();
  }
}

/** Set before anything is mapped, and for good. @throws Errno EINVAL: the driver cannot after all */
function enforceCoherency(hwpt: HwptPaging): void {
  const { domain } = hwpt;
  hwpt.enforcesCoherency = domain.ops.enforceCacheCoherency?.(domain) ?? false;
  if (!hwpt.enforcesCoherency) {
    throw new Errno('EINVAL', `${domain.label ?? 'the domain'} cannot enforce cache coherency`);
  }
}

/**
 * Makes a nested HWPT; the caller publishes or aborts it (iommufd_hwpt_nested_alloc).
 *
 * @throws Errno EOPNOTSUPP: flags, no data, no driver op; EINVAL: the parent cannot be one; what
 *   the driver says
 */
export function allocNested(
  parent: HwptPaging,
  dev: IommuDev,
  flags: number,
  data: UserData | null,
): HwptNested {
  const { ctx } = parent;
  onlyFlags(flags, NESTED_FLAGS);
  if (data === null) throw new Errno('EOPNOTSUPP', 'a nested HWPT needs data');
  if (dev.ops.domainAllocNested === undefined) {
    throw new Errno('EOPNOTSUPP', `the IOMMU of ${dev.name} does not nest`);
  }
  if (parent.auto) throw new Errno('EINVAL', `parent ${parent.id} is an auto-domain`);
  if (!parent.nestParent) {
    throw new Errno('EINVAL', `parent ${parent.id} was made without NEST_PARENT`);
  }
  if (parent.domain.owner !== dev.ops) {
    throw new Errno('EINVAL', `parent ${parent.id} is of another driver than ${dev.name}`);
  }
  ctx.kernel.failpoints.point('iommufd:hwpt_nested');
  const driverFlags = flags & ~IOMMU_HWPT_FAULT_ID_VALID;
  const domain = dev.ops.domainAllocNested(dev, parent.domain, driverFlags, data);
  return newNested(parent, domain, flags, parent);
}

/** What allocating a nested HWPT needs of a vIOMMU object. */
export interface NestingViommu extends IommufdObject {
  readonly parent: HwptPaging;
  readonly core: Viommu;
}

/**
 * Makes a nested HWPT through a vIOMMU; the caller publishes or aborts it
 * (iommufd_viommu_alloc_hwpt_nested).
 *
 * @throws Errno EOPNOTSUPP: flags, no data, no driver op; what the driver says
 */
export function allocViommuNested(
  viommu: NestingViommu,
  flags: number,
  data: UserData | null,
): HwptNested {
  onlyFlags(flags, NESTED_FLAGS);
  if (data === null) throw new Errno('EOPNOTSUPP', 'a nested HWPT needs data');
  const { ops } = viommu.core;
  if (ops?.allocDomainNested === undefined) {
    throw new Errno('EOPNOTSUPP', `vIOMMU ${viommu.id} does not nest`);
  }
  viommu.ctx.kernel.failpoints.point('iommufd:hwpt_nested');
  const driverFlags = flags & ~IOMMU_HWPT_FAULT_ID_VALID;
  const domain = ops.allocDomainNested(viommu.core, driverFlags, data);
  return newNested(viommu.parent, domain, flags, viommu);
}

/** Takes the domain over, also when it throws. */
function newNested(
  parent: HwptPaging,
  domain: IommuDomain,
  flags: number,
  holder: IommufdObject,
): HwptNested {
  using undo = new DisposableStack();
  undo.defer(() => domain.ops.free(domain));
  const hwpt = new HwptNested(parent, domain, flags, holder);
  undo.defer(() => {
    holder.users--;
  });
  parent.ctx.reserve(hwpt);
  undo.move();
  return hwpt;
}
