import type { IotlbDescriptor, PasidIotlbDescriptor } from '../../devices/spec/vtd/invalidation.ts';
import { IOTLB_GRANULARITY, PASID_IOTLB_GRANULARITY } from '../../devices/spec/vtd/invalidation.ts';
import type { Task } from '../../host/syscall.ts';
import { vmm as ev } from '../../trace/catalogue/vmm.ts';
import type { HostSide } from './host-side.ts';
import { attempt } from './host-side.ts';
import type { Attached, PasidAttachments } from './pasid.ts';

/** 2^52 pages are the whole address space. */
const WHOLE_AM = 52;

/**
 * Guest IOTLB invalidations on the host (vtd.md 6.6): the kernel flushes IOTLB and device-TLB of the
 * nested HWPT, so guest device-TLB descriptors need nothing of their own.
 */
export class Invalidations {
  readonly #host: HostSide;
  readonly #pasids: PasidAttachments;

  constructor(host: HostSide, pasids: PasidAttachments) {
    this.#host = host;
    this.#pasids = pasids;
  }

  /** p_iotlb: the nested HWPT of the PASID, if it is in the descriptor's domain. */
  *pasidIotlb(d: PasidIotlbDescriptor): Task {
    const { bugs } = this.#host;
    const wrong = bugs?.has('vmm-invalidates-other-pasid') === true ? 1 : 0;
    const have = this.#pasids.attached.get(d.pasid ^ wrong);
    if (bugs?.has('vmm-drops-invalidation') === true) return;
    if (have?.nested !== true || have.entry?.fields.DID !== d.did) return;
    if (d.granularity === PASID_IOTLB_GRANULARITY.ALL || d.am >= WHOLE_AM) {
      yield* this.#invalidate(
        have,
        0n,
        null,
        d.granularity === PASID_IOTLB_GRANULARITY.PAGE && d.ih,
      );
      return;
    }
    const single = bugs?.has('vmm-invalidates-one-page') === true;
    const pages = single ? 1n : 1n << BigInt(d.am);
    const address = BigInt(d.address) & ~(pages * 4096n - 1n);
    yield* this.#invalidate(have, address, pages, d.ih);
  }

  /** iotlb: everything of every nested HWPT of the domain (or of all of them). */
  *iotlb(d: IotlbDescriptor): Task {
    for (const have of [...this.#pasids.attached.values()]) {
      if (!have.nested) continue;
      const concerns =
        d.granularity === IOTLB_GRANULARITY.GLOBAL || have.entry?.fields.DID === d.did;
      if (concerns) yield* this.#invalidate(have, 0n, null, false);
    }
  }

  *#invalidate(have: Attached, address: bigint, pages: bigint | null, leaf: boolean): Task {
    const { name, trace, iommufd } = this.#host;
    using _span = trace.span(ev.invalidate, {
      vm: name,
      hwpt: have.hwpt,
      address,
      pages: pages === null ? 0 : Number(pages),
      all: pages === null ? 1 : 0,
      leaf: leaf ? 1 : 0,
    });
    const what = (): string => `invalidate HWPT ${have.hwpt}`;
    yield* attempt(this.#host, what, iommufd.invalidate(have.hwpt, address, pages, leaf));
  }
}
