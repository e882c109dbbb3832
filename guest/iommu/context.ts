/** Scalable-mode root and context tables (drivers/iommu/intel/iommu.c, pasid.c). */

import { ridBus, ridDevfn, ridToString } from '../../devices/spec/pci.ts';
import {
  contextEntry,
  contextEntryAddress,
  contextTableOf,
  rootEntry,
  rootEntryAddress,
} from '../../devices/spec/vtd/context.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import type { Core } from '../core.ts';
import type { Task } from '../task.ts';
import { flushChangedContext } from './flush.ts';
import type { PasidTable } from './pasid-table.ts';
import type { IommuDevice } from './unit.ts';

/** Address of the context entry of a requester; its table is made on demand. GuestError ENOMEM. */
export function contextAddress(core: Core, root: number, rid: number): number {
  const { cpu, pages } = core;
  const devfn = ridDevfn(rid);
  const at = rootEntryAddress(root, ridBus(rid));
  const words = [cpu.read64(at), cpu.read64(at + 8)];
  const table = contextTableOf(rootEntry.decode(words), devfn);
  if (table.present) return contextEntryAddress(table.ctp, devfn);
  const ctp = pages.alloc();
  const upper = devfn >= 0x80;
  const fresh = rootEntry.encode(upper ? { UP: 1, UCTP: ctp } : { LP: 1, LCTP: ctp });
  cpu.write64(at + (upper ? 8 : 0), fresh[upper ? 1 : 0]!);
  return contextEntryAddress(ctp, devfn);
}

/** Writes a context entry that is not present: the word with P last. The span is the caller's. */
export function writeContext(
  core: Core,
  rid: number,
  address: number,
  options: { table: PasidTable; ats: boolean; pasid: boolean },
): Disposable {
  const words = contextEntry.encode({
    P: 1,
    DTE: options.ats,
    PASIDE: options.pasid,
    PDTS: options.table.pdts,
    PASIDDIRPTR: options.table.directory,
  });
  for (let i = contextEntry.words - 1; i >= 0; i--) core.cpu.write64(address + 8 * i, words[i]!);
  return written(core, rid, address);
}

/** Allows page requests: PRE in the context entry, then its flush. Before any bind. */
export function* enablePageRequests(device: IommuDevice): Task {
  const { core } = device.unit;
  const qw0 = core.cpu.read64(device.context);
  core.cpu.write64(device.context, qw0 | contextEntry.masks.PRE);
  using _span = written(core, device.rid, device.context);
  yield* flushChangedContext(device);
}

function written(core: Core, rid: number, address: number): Disposable {
  const words = [core.cpu.read64(address), core.cpu.read64(address + 8)];
  const entry = core.trace.on ? contextEntry.describe(words) : '';
  const values = { vm: core.vm, rid: ridToString(rid), address, entry };
  return core.trace.span(guest.contextEntry, { ...values, qw0: words[0]!, qw1: words[1]! });
}
