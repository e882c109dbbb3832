import { event } from '../event.ts';

/** What the virtual machine monitor does. Its names follow QEMU's and KVM's where they have one. */
export const vmm = {
  start: event(
    'vmm',
    'vmm:start',
    { vm: 'text', pid: 'int', ramBytes: 'int', device: 'text' },
    'a VMM process builds a machine around an assigned device',
    'vmm/vmm.ts',
  ),
  vmExit: event(
    'vmm',
    'vmm:kvm_exit',
    { vm: 'text', reason: 'text', address: 'addr', bytes: 'int', value: 'hex', what: 'text' },
    'the guest trapped to the VMM; `what` names the register behind the address',
    'arch/x86/kvm/trace.h: kvm_exit, kvm_mmio',
  ),
  descriptor: event(
    'vmm',
    'vmm:vtd_inv_desc',
    { vm: 'text', descriptor: 'text', qw0: 'hex', qw1: 'hex' },
    'the virtual unit fetched an invalidation descriptor from guest memory',
    'QEMU hw/i386/trace-events: vtd_inv_desc*',
  ),
  guestEntry: event(
    'vmm',
    'vmm:vtd_pasid_entry',
    { vm: 'text', pasid: 'int', change: 'text', entry: 'text', qw0: 'hex', qw1: 'hex', qw2: 'hex' },
    "the VMM read the guest's PASID entry and compared it with what it has attached",
    'QEMU intel_iommu_accel.c',
  ),
  attach: event(
    'vmm',
    'vmm:vtd_device_attach_hwpt',
    { vm: 'text', pasid: 'int', hwpt: 'int', old: 'int' },
    'the PASID now uses this nested HWPT on the host (old: the replaced one, 0 for none)',
    'QEMU hw/i386/trace-events: vtd_device_attach_hwpt',
  ),
  detach: event(
    'vmm',
    'vmm:vtd_device_detach_hwpt',
    { vm: 'text', pasid: 'int', hwpt: 'int' },
    'the PASID has no translation on the host any more',
    'QEMU hw/i386/trace-events: vtd_device_detach_hwpt',
  ),
  invalidate: event(
    'vmm',
    'vmm:iommufd_backend_invalidate_cache',
    { vm: 'text', hwpt: 'int', address: 'addr', pages: 'int', all: 'int', leaf: 'int' },
    'a guest invalidation goes to the host',
    'QEMU backends/trace-events: iommufd_backend_invalidate_cache',
  ),
  faultRead: event(
    'vmm',
    'vmm:fault_read',
    { vm: 'text', pasid: 'int', address: 'addr', grpid: 'int', cookie: 'int', perm: 'text', last: 'int' },
    'the VMM read a fault record and puts a page request into the virtual queue',
    'QEMU intel_iommu_accel.c (PRQ injection)',
  ),
  faultResponse: event(
    'vmm',
    'vmm:fault_response',
    { vm: 'text', pasid: 'int', grpid: 'int', cookie: 'int', code: 'int' },
    "the guest's page group response goes to the host's fault queue",
    'IOMMU fault queue write',
  ),
  msi: event(
    'vmm',
    'vmm:kvm_msi_set_irq',
    { vm: 'text', vector: 'int', what: 'text' },
    'an interrupt is injected into the guest',
    'arch/x86/kvm: kvm_msi_set_irq',
  ),
  stop: event(
    'vmm',
    'vmm:stop',
    { vm: 'text', code: 'int' },
    'the machine is taken apart: detach, destroy, close',
    'vmm/vmm.ts',
  ),
} as const;
