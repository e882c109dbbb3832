/** Root and context tables of a unit (drivers/iommu/intel/pasid.c: intel_pasid_setup_sm_context). */

import { ridBus, ridDevfn } from '../../../devices/spec/pci.ts';
import {
  contextEntry,
  contextEntryAddress,
  contextTableOf,
  rootEntry,
  rootEntryAddress,
} from '../../../devices/spec/vtd/context.ts';
import { CC_GRANULARITY, ccDesc } from '../../../devices/spec/vtd/invalidation.ts';
import { GCMD, REG, RTADDR, TTM } from '../../../devices/spec/vtd/registers.ts';
import { host } from '../../../trace/catalogue/host.ts';
import type { Task } from '../../syscall.ts';
import type { IntelDevice } from './device.ts';
import { deviceTlb, flush, iotlbDomain } from './flush.ts';
import { allocTable } from './platform.ts';
import type { DescriptorWords } from './qi.ts';
import type { IntelUnit } from './unit.ts';

/** Context tables stay once they are made: a function may come back at the same place. */
export class ContextTables {
  readonly root: number;
  readonly #unit: IntelUnit;

  /** Errno ENOMEM. */
  constructor(unit: IntelUnit) {
    this.#unit = unit;
    this.root = allocTable(unit.platform, 'intel:root-table');
  }

  /** Makes the unit use the root table, in scalable mode. */
  *enable(): Task {
    const { registers } = this.#unit;
    registers.write64(REG.RTADDR, RTADDR.encode({ RTA: this.root, TTM: TTM.SCALABLE })[0]!);
    yield* registers.command(GCMD.SRTP);
  }

  /** Presents a function's PASID table to the unit. Errno ENOMEM. */
  *setup(device: IntelDevice): Task {
    const { trace, machine } = this.#unit.platform;
    const address = this.#entryAddress(device.rid);
    const entry = contextEntry.encode({
      P: 1,
      DTE: device.atsEnabled,
      PASIDE: device.pasidEnabled,
      PRE: device.priEnabled,
      PDTS: device.table.pdts,
      PASIDDIRPTR: device.table.directory,
    });
    using _span = trace.span(host.contextEntry, {
      device: device.name,
      address,
      entry: trace.on ? contextEntry.describe(entry) : '',
      qw0: entry[0]!,
      qw1: entry[1]!,
    });
    // The word with P is written last.
    for (const word of [3, 2, 1, 0]) machine.ram.write64(address + 8 * word, entry[word]!);
    if (!this.#unit.cachingMode) return;
    yield* flush(this.#unit, [this.#contextCache(device), iotlbDomain(0)]);
  }

  /** The function's requests are faults from now on. */
  *teardown(device: IntelDevice): Task {
    const { trace, machine } = this.#unit.platform;
    const address = this.#entryAddress(device.rid);
    using _span = trace.span(host.contextEntry, {
      device: device.name,
      address,
      entry: '0',
      qw0: 0,
      qw1: 0,
    });
    for (const word of [0, 1, 2, 3]) machine.ram.write64(address + 8 * word, 0n);
    const descriptors = [this.#contextCache(device)];
    if (device.atsEnabled) descriptors.push(deviceTlb(device.rid, 0, 0, 'all'));
    yield* flush(this.#unit, descriptors);
  }

  #contextCache(device: IntelDevice): DescriptorWords {
    return ccDesc({ granularity: CC_GRANULARITY.DEVICE, did: 0, sid: device.rid });
  }

  #entryAddress(rid: number): number {
    const { ram } = this.#unit.platform.machine;
    const at = rootEntryAddress(this.root, ridBus(rid));
    const devfn = ridDevfn(rid);
    const root = rootEntry.decode([ram.read64(at), ram.read64(at + 8)]);
    const { present, ctp } = contextTableOf(root, devfn);
    if (present) return contextEntryAddress(ctp, devfn);
    const table = allocTable(this.#unit.platform, 'intel:context-table');
    const upper = devfn >= 0x80;
    const entry = rootEntry.encode(upper ? { UP: 1, UCTP: table } : { LP: 1, LCTP: table });
    ram.write64(at + (upper ? 8 : 0), entry[upper ? 1 : 0]!);
    return contextEntryAddress(table, devfn);
  }
}
