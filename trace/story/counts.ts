import type { EventRecord } from '../event.ts';

/** What a run did, in numbers; all taken from its events. */
export interface Counts {
  /** iommu_sva_bind_device in the guests. */
  binds: number;
  /** PASID attaches, replaces and detaches on the host (RID attachments not counted). */
  attaches: number;
  replaces: number;
  detaches: number;
  /** Page requests that reached the host unit. */
  pageRequests: number;
  /** Invalidation descriptors that the host unit carried out, by kind (no waits, no responses). */
  invalidations: Record<string, number>;
  /** Translations asked of the host unit, and those its IOTLB answered. */
  translations: number;
  iotlbHits: number;
  /** Faults recorded by the host unit (not those that a page request mends). */
  faults: number;
  vmExits: number;
  ioctls: number;
}

/** Counts a run's events and notes the few facts that the summary needs. */
export class Tally {
  readonly counts: Counts = {
    binds: 0,
    attaches: 0,
    replaces: 0,
    detaches: 0,
    pageRequests: 0,
    invalidations: {},
    translations: 0,
    iotlbHits: 0,
    faults: 0,
    vmExits: 0,
    ioctls: 0,
  };
  /** Who bound which PASID, in the order of the binds. */
  readonly pasids: { vm: string; pid: number; pasid: number }[] = [];
  /** Events by name. */
  readonly events = new Map<string, number>();

  add(record: EventRecord): void {
    const { name } = record.def;
    const { values } = record;
    this.events.set(name, (this.events.get(name) ?? 0) + 1);
    switch (name) {
      case 'guest:iommu_sva_bind_device':
        this.counts.binds++;
        this.pasids.push({
          vm: String(values['vm']),
          pid: Number(values['pid']),
          pasid: Number(values['pasid']),
        });
        break;
      case 'iommu:attach_device_pasid':
        this.counts.attaches++;
        break;
      case 'iommu:replace_device_pasid':
        this.counts.replaces++;
        break;
      case 'iommu:detach_device_pasid':
        this.counts.detaches++;
        break;
      case 'vtd:page_request':
        if (values['unit'] === 'host') this.counts.pageRequests++;
        break;
      case 'vtd:inv_desc':
        if (values['unit'] === 'host') {
          const kind = String(values['descriptor']).split(' ', 1)[0] ?? '';
          if (!kind.endsWith('_inv')) break;
          this.counts.invalidations[kind] = (this.counts.invalidations[kind] ?? 0) + 1;
        }
        break;
      case 'vtd:fault':
        if (values['unit'] === 'host') this.counts.faults += Number(values['recorded']);
        break;
      case 'vtd:stats':
        if (values['unit'] === 'host') {
          this.counts.translations += Number(values['translations']);
          this.counts.iotlbHits += Number(values['iotlbHits']);
        }
        break;
      case 'kvm:kvm_exit':
        this.counts.vmExits++;
        break;
      case 'syscalls:sys_enter_ioctl':
        this.counts.ioctls++;
        break;
    }
  }
}
