import { contextEntry, rootEntry } from '../../../devices/spec/vtd/context.ts';
import { PGTT, pasidDirEntry, pasidEntry } from '../../../devices/spec/vtd/pasid.ts';
import { ECAP, GUEST_ECAP } from '../../../devices/spec/vtd/registers.ts';
import type { EventRecord } from '../../../trace/event.ts';
import { Tracer } from '../../../trace/tracer.ts';
import { GuestMemory } from '../../../vmm/guest-memory.ts';
import { Heap } from '../../../vmm/heap.ts';
import { Iommufd } from '../../../vmm/iommufd.ts';
import { GUEST_RID } from '../../../vmm/layout.ts';
import { MemoryMap } from '../../../vmm/memory-map.ts';
import { VfioDevice } from '../../../vmm/vfio-device.ts';
import type { Group } from '../../../vmm/viommu/faults.ts';
import { GuestTables } from '../../../vmm/viommu/guest-tables.ts';
import type { HostSide } from '../../../vmm/viommu/host-side.ts';
import type { StaleFaults } from '../../../vmm/viommu/pasid.ts';
import { FakeHost } from '../fake-host.ts';

export const RAM_BYTES = 0x40_0000;
export const ROOT = 0x10_0000;
const CONTEXT = 0x10_1000;
const DIRECTORY = 0x10_2000;
const TABLES = 0x11_0000;

/** Object ids that the fake host gives out in this order. */
export const PARENT = 90;
export const FAULT_QUEUE = 91;
export const DEVICE_ID = 92;

export interface Rig {
  readonly sys: FakeHost;
  readonly heap: Heap;
  readonly memory: GuestMemory;
  readonly map: MemoryMap;
  readonly tables: GuestTables;
  readonly host: HostSide;
  readonly events: EventRecord[];
  readonly faults: FakeFaults;
}

/** Guest RAM in a VMM on a fake host, with the device open. */
export function rig(): Rig {
  const sys = new FakeHost();
  return sys.run(
    (function* build() {
      const heap = yield* Heap.map(sys, 0x10_0000);
      const hva = yield* sys.mmap(RAM_BYTES, 3, 0x22, -1, 0);
      const map = new MemoryMap();
      map.add({ kind: 'ram', start: 0, bytes: RAM_BYTES, hva });
      const memory = new GuestMemory(map, sys.memory);
      const iommufd = yield* Iommufd.open(sys, heap);
      const device = yield* VfioDevice.open(sys, heap, '/dev/vfio/devices/vfio0');
      const trace = new Tracer(() => 0);
      const events: EventRecord[] = [];
      trace.listen((record) => events.push(record));
      const ids = { deviceId: DEVICE_ID, parent: PARENT, faultQueue: FAULT_QUEUE };
      const host = { name: 'vm0', trace, iommufd, device, ...ids, maxPasids: 2 ** 20 };
      const tables = new GuestTables(memory, GUEST_RID.DEVICE, ECAP.decode([GUEST_ECAP]), false);
      tables.root = ROOT;
      return { sys, heap, memory, map, tables, host, events, faults: new FakeFaults() };
    })(),
  );
}

export function put(memory: GuestMemory, address: number, words: BigUint64Array): void {
  words.forEach((word, i) => {
    memory.write64(address + 8 * i, word);
  });
}

/** Groups by PASID, as a stand-in for the fault queue; `told` says what the attachments reported. */
export class FakeFaults implements StaleFaults {
  readonly told: string[] = [];
  readonly groups = new Map<number, Group[]>();

  groupsOf(pasid: number): readonly Group[] {
    return [...(this.groups.get(pasid) ?? [])];
  }

  hostAnswered(groups: readonly Group[]): void {
    if (groups.length > 0) this.told.push(`answered ${groups.map((g) => g.cookie).join()}`);
  }

  forget(pasid: number): void {
    this.told.push(`forget ${pasid}`);
  }
}

/** Root, context and an empty PASID directory of 2^20 PASIDs for 00:01.0. */
export function writeContext(
  memory: GuestMemory,
  fields: { readonly PRE?: number; readonly PASIDE?: number } = {},
): void {
  put(memory, ROOT, rootEntry.encode({ LP: 1, LCTP: CONTEXT }));
  const context = contextEntry.encode({
    P: 1,
    DTE: 1,
    PASIDE: 1,
    PRE: 1,
    PDTS: 7,
    PASIDDIRPTR: DIRECTORY,
    ...fields,
  });
  put(memory, CONTEXT + 8 * 32, context);
}

/** Writes a PASID entry (first-stage, DID 1 unless said otherwise), with its directory entry. */
export function writePasid(
  memory: GuestMemory,
  pasid: number,
  fields: Parameters<typeof pasidEntry.encode>[0],
): void {
  const table = TABLES + (pasid >>> 6) * 0x1000;
  put(memory, DIRECTORY + (pasid >>> 6) * 8, pasidDirEntry.encode({ P: 1, SMPTBLPTR: table }));
  const entry = pasidEntry.encode({ P: 1, PGTT: PGTT.FIRST_STAGE, DID: 1, ...fields });
  put(memory, table + (pasid & 63) * 64, entry);
}

export function clearPasid(memory: GuestMemory, pasid: number): void {
  put(memory, TABLES + (pasid >>> 6) * 0x1000 + (pasid & 63) * 64, new BigUint64Array(8));
}
