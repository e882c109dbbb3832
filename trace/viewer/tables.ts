import { decodeEntry } from '../state/pasid-entry.ts';
import type { PasidEntry, Walk } from '../state/tables.ts';
import { timeText } from '../story/text.ts';
import { el, grid } from './dom.ts';
import type { Model } from './model.ts';

const PAGE_BITS = 12n;
const MOST_ROWS = 500;

const size = (bytes: number): string => {
  for (const [unit, of] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const) {
    if (bytes >= of) return `${Number((bytes / of).toFixed(1))} ${unit}`;
  }
  return `${bytes} bytes`;
};

/** PASIDs, what they are attached to, and the 512 bits of each entry. */
export function pasids({ state }: Model): Node[] {
  const rows = [...state.pasids.rows.values()].map((row) => [
    row.vm || '?',
    row.pasid,
    row.pid === 0 ? '' : row.pid,
    row.device,
    row.hwpt === 0 ? '' : row.hwpt,
    row.steps.map(({ phase, ns }) => `${phase} ${timeText(ns)}`).join(', '),
    row.pageRequests,
    row.faults,
    size(row.bytes),
  ]);
  const heads = [
    'VM',
    'PASID',
    'process',
    'device',
    'HWPT',
    'state through time',
    'PRs',
    'faults',
    'moved',
  ];
  return [
    el('h2', {}, 'PASIDs'),
    grid(heads, rows, { id: 'pasids' }),
    el('h2', {}, 'PASID table entries, as last written'),
    ...[...state.tables.entries.values()].slice(0, MOST_ROWS).map(entry),
  ];
}

function entry(told: PasidEntry): Node {
  const { space, device, pasid, address, entry, words, before, change, ns } = told;
  const whose = space === 'host' ? `host ${device}` : `${space}'s own`;
  return el(
    'details',
    { class: 'entry', 'data-key': `${space}/${device}/${pasid}` },
    el('summary', {}, `${whose} PASID ${pasid}: ${change} ${timeText(ns)} · ${entry}`),
    fields(words.map(BigInt), before.map(BigInt)),
    grid(
      ['bits', 'word', 'at'],
      words.map((word, i) => [
        `${64 * i + 63}:${64 * i}`,
        el('code', {}, `0x${word.slice(2).padStart(16, '0')}`),
        el('code', {}, `0x${(BigInt(address) + 8n * BigInt(i)).toString(16)}`),
      ]),
    ),
  );
}

/** A PASID entry field by field; what the last write changed stands out. */
export function fields(words: readonly bigint[], before: readonly bigint[]): HTMLElement {
  const rows = decodeEntry(words, before).map(({ field, value, was }) => {
    const { name, word, high, low, meaning, told = String } = field;
    const bits = high === low ? `${64 * word + low}` : `${64 * word + high}:${64 * word + low}`;
    const changed = value !== was;
    return [
      bits,
      el('span', { title: meaning }, name),
      el('code', { class: changed ? 'changed' : undefined, 'data-field': name }, told(value)),
      changed ? el('span', { class: 'was' }, `was ${told(was)}`) : meaning,
    ];
  });
  return grid(['bits', 'field', 'value', ''], rows, { class: 'fields' });
}

/** iommufd's objects by process, what hangs on what, and where functions and PASIDs go. */
export function objects({ state }: Model): Node[] {
  const { objects, areas, attachments, mappings } = state.objects;
  const rows = [...objects.values()].map(({ pid, id, type, parent, detail }) => [
    pid,
    id,
    type,
    parent === 0 ? '' : parent,
    detail,
  ]);
  const attached = [...attachments.values()].map(({ device, pasid, domain, hwpt, ns }) => [
    device,
    pasid < 0 ? 'no PASID' : pasid,
    hwpt === 0 ? '' : hwpt,
    domain,
    timeText(ns),
  ]);
  const spaces = [...areas].flatMap(([key, list]) =>
    [...list.values()].map(({ iova, bytes, base, perm }) => [
      key.replace('/', ' IOAS '),
      iova,
      size(bytes),
      base,
      perm,
    ]),
  );
  const hwpts = [...objects.values()]
    .filter(({ type }) => type.startsWith('HWPT'))
    .map(({ pid, id, type, parent, detail }) => [
      pid,
      id,
      type.replace('HWPT_', '').toLowerCase(),
      parent === 0 ? '' : parent,
      [...attachments.values()]
        .filter(({ hwpt }) => hwpt === id)
        .map(({ device, pasid }) => (pasid < 0 ? device : `${device} PASID ${pasid}`))
        .join(', '),
      detail,
    ]);
  const mapped = [...mappings].flatMap(([domain, list]) =>
    list.map(({ iova, bytes, paddr, leaves }) => [domain, iova, size(bytes), paddr, leaves]),
  );
  return [
    el('h2', {}, 'Objects'),
    grid(['process', 'id', 'type', 'on', 'detail'], rows, { id: 'objects' }),
    el('h2', {}, 'HWPTs'),
    grid(['process', 'id', 'kind', 'on', 'attached to', 'detail'], hwpts, { id: 'hwpts' }),
    el('h2', {}, 'IOAS: areas'),
    grid(['process', 'IOVA', 'size', 'from', 'may'], spaces.slice(0, MOST_ROWS), { id: 'ioas' }),
    el('h2', {}, 'Attachments'),
    grid(['device', 'PASID', 'HWPT', 'domain', 'since'], attached, { id: 'attachments' }),
    el('h2', {}, 'Mappings'),
    grid(['domain', 'IOVA', 'size', 'physical', 'leaves'], mapped.slice(0, MOST_ROWS)),
  ];
}

/** The units with their caches' yield, and page requests under way. */
export function hardware({ state }: Model): Node[] {
  const { units, devices, requests } = state.hardware;
  const unitRows = [...units.values()].map((unit) => [
    unit.unit,
    unit.hits,
    unit.walks,
    unit.hits + unit.walks === 0
      ? ''
      : `${((100 * unit.hits) / (unit.hits + unit.walks)).toFixed(1)} %`,
    unit.loads,
    unit.dropped,
    unit.descriptors,
    unit.faults,
    unit.queueError,
  ]);
  const deviceRows = [...devices.values()].map((device) => [
    device.device,
    device.queued,
    device.done,
    size(device.bytes),
    device.atsRequests,
  ]);
  const open = [...requests.values()].map((request) => [
    request.device,
    request.pasid,
    request.address,
    request.prgi,
    request.write ? 'write' : 'read',
    request.stage,
    timeText(request.ns),
  ]);
  return [
    el('h2', {}, 'Translation units'),
    grid(
      [
        'unit',
        'IOTLB hits',
        'walks',
        'hit rate',
        'loads',
        'dropped',
        'descriptors',
        'faults',
        'queue',
      ],
      unitRows,
      { id: 'units' },
    ),
    el('h2', {}, 'Devices'),
    grid(['device', 'queued', 'done', 'moved', 'translations'], deviceRows, { id: 'devices' }),
    el('h2', {}, 'Page requests under way'),
    grid(['device', 'PASID', 'address', 'group', 'for', 'waits at', 'since'], open, {
      id: 'requests',
    }),
  ];
}

/** The walk of an address that the user types, as the unit last did it. */
export class Walks {
  readonly #model: Model;
  readonly #address = el('input', {
    id: 'address',
    placeholder: '0x7f0000001000',
    'aria-label': 'Address',
  });
  readonly #pasid = el('input', {
    class: 'short',
    placeholder: 'any PASID',
    'aria-label': 'PASID',
  });
  readonly #found = el('div');

  constructor(model: Model) {
    this.#model = model;
    for (const input of [this.#address, this.#pasid]) {
      input.addEventListener('input', () => this.#show());
    }
  }

  render(): Node[] {
    this.#show();
    return [
      el('h2', {}, 'The page-table walk of an address'),
      el('p', {}, 'As the units last walked it; without an address, all of late.'),
      this.#address,
      this.#pasid,
      this.#found,
    ];
  }

  #show(): void {
    const text = this.#address.value.trim();
    const address = /^(0x)?[0-9a-f]+$/i.test(text)
      ? BigInt(`0x${text.replace(/^0x/i, '')}`)
      : undefined;
    if (text !== '' && address === undefined) {
      this.#found.replaceChildren(
        el('p', { class: 'bad' }, `${text} is no address: write 0x7f00...`),
      );
      return;
    }
    const pasid = this.#pasid.value.trim();
    const walks = [...this.#model.state.tables.walks.values()]
      .filter((walk) => pasid === '' || String(walk.pasid) === pasid)
      .filter((walk) => address === undefined || covers(walk, address))
      .reverse();
    if (walks.length === 0) {
      this.#found.replaceChildren(
        el('p', { class: 'empty' }, 'No walk of it was told: it was never used, or long ago.'),
      );
      return;
    }
    this.#found.replaceChildren(...walks.slice(0, 20).flatMap(levels));
  }
}

function covers({ address, shift }: Walk, wanted: bigint): boolean {
  const bits = BigInt(Math.max(shift, Number(PAGE_BITS)));
  return BigInt(address) >> bits === wanted >> bits;
}

function levels(walk: Walk): Node[] {
  const { unit, device, pasid, address, request, result, perm, ns } = walk;
  return [
    el(
      'h2',
      {},
      `${unit} unit, ${device}${pasid < 0 ? '' : ` PASID ${pasid}`}: ${address} → ${result} ${perm}`,
    ),
    el('p', { class: 'source' }, `${request}, ${timeText(ns)}`),
    grid(
      ['table', 'level', 'entry at', 'entry', 'decoded'],
      walk.levels.map(({ table, level, address, entry, decoded }) => [
        table,
        level === 0 ? '' : level,
        el('code', {}, address),
        el('code', {}, entry),
        decoded,
      ]),
    ),
  ];
}
