import type { AttachHandle, IommuDomain } from '../iommu/ops.ts';

/** struct iommufd_attach_handle: the attachment of one device (or PASID of it) to one domain. */
export class IommufdHandle implements AttachHandle {
  domain: IommuDomain;
  /** The DEVICE object. */
  readonly idev: { readonly id: number };
  /** Detached or replaced: a fault that is still on its way finds nobody. */
  gone = false;

  constructor(domain: IommuDomain, idev: { readonly id: number }) {
    this.domain = domain;
    this.idev = idev;
  }
}
