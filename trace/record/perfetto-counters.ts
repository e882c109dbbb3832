import type { EventRecord } from '../event.ts';
import { functionName } from '../story/text.ts';

/** A value that a counter has from an event on. */
export interface Counted {
  readonly group: string;
  readonly name: string;
  readonly unit: string;
  readonly value: number;
}

const text = ({ values }: EventRecord, field: string): string => String(values[field] ?? '');
const num = ({ values }: EventRecord, field: string): number => Number(values[field] ?? 0);

/** What is drawn as a line: queue depths, live PASIDs, page requests in flight, IOTLB hit rate. */
export class Counters {
  readonly #values = new Map<string, number>();
  /** By unit. */
  readonly #walks = new Map<string, number>();

  /** The counters that the event changes. */
  add(record: EventRecord): Counted[] {
    switch (record.def.name) {
      case 'dsa:desc_accept':
        return [this.#queue(record, 1)];
      case 'dsa:desc_complete':
        return [this.#queue(record, -1)];
      case 'iommu:attach_device_pasid':
        return [this.#changed('host kernel', 'live PASIDs', 'PASIDs', 1)];
      case 'iommu:detach_device_pasid':
        return [this.#changed('host kernel', 'live PASIDs', 'PASIDs', -1)];
      case 'dsa:page_request':
        return [this.#requests(record, 1)];
      case 'dsa:page_response':
        return [this.#requests(record, -1)];
      case 'iommufd:object_new':
        return [this.#changed('host kernel', 'iommufd objects', 'objects', 1)];
      case 'iommufd:object_destroy':
        return [this.#changed('host kernel', 'iommufd objects', 'objects', -1)];
      case 'vtd:walk':
        return this.#rate(record);
      default:
        return [];
    }
  }

  #queue(record: EventRecord, by: number): Counted {
    const group = `device ${functionName(text(record, 'device'))}`;
    return this.#changed(group, `queue depth, WQ ${num(record, 'wq')}`, 'descriptors', by);
  }

  #requests(record: EventRecord, by: number): Counted {
    const group = `device ${functionName(text(record, 'device'))}`;
    return this.#changed(group, 'page requests in flight', 'requests', by);
  }

  /** A walk tells how many hits there were before it, recorded or not. */
  #rate(record: EventRecord): Counted[] {
    const unit = text(record, 'unit');
    const walks = (this.#walks.get(unit) ?? 0) + 1;
    this.#walks.set(unit, walks);
    const group = unit === 'host' ? 'VT-d unit' : `VT-d unit of ${unit} (virtual)`;
    const hits = num(record, 'hits');
    const value = (100 * hits) / (hits + walks);
    return [{ group, name: 'IOTLB hit rate', unit: '%', value }];
  }

  #changed(group: string, name: string, unit: string, by: number): Counted {
    const key = `${group}/${name}`;
    const value = Math.max(0, (this.#values.get(key) ?? 0) + by);
    this.#values.set(key, value);
    return { group, name, unit, value };
  }
}
