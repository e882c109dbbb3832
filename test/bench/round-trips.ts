/**
 * Whole round trips by the system calls that a VMM makes, with the real unit and accelerator
 * underneath: how many a second, and how many events of the trace each one is.
 */
import { COMPLETION_BYTES, DsaStatus } from '../../devices/spec/dsa/completion.ts';
import { id } from '../host/kernel/iommufd/client.ts';
import {
  Accelerator,
  bootRig,
  clearRecord,
  GuestRam,
  makeSpace,
  PAGE,
  type RigOptions,
} from '../vmm/scenario/rig.ts';
import type { Case, Figure, Group } from './measure.ts';
import { interleaved } from './measure.ts';

const VA = 0x7f00_0000_0000n;
const PASID = 1;
const CALLS = 8;

const MODES: readonly { readonly name: string; readonly rig: RigOptions }[] = [
  { name: 'trace off', rig: {} },
  { name: 'trace on', rig: { trace: true } },
  { name: 'sanitizer on', rig: { sanitize: true } },
];

export const roundTrips: Group = {
  name: 'round-trips',
  about: 'bind to first DMA, DMA, invalidate, replace, unbind: per second, and in events',
  async run(options) {
    const sites = MODES.map(({ name, rig }) => ({ name, site: new Site(rig) }));
    const cases = sites.flatMap(({ name, site }) =>
      site.cases().map((one) => ({ ...one, name: `${one.name}, ${name}` })),
    );
    const times = await interleaved(cases, options);
    const found = [...times].map(([name, ns]): Figure => {
      const of = name.replace(/, [^,]*$/, `, ${MODES[0]!.name}`);
      return { name, ratio: times.get(of)! / ns, of, value: 1e9 / ns, unit: 'per second' };
    });
    const traced = sites.find(({ name }) => name === 'trace on')!.site;
    return [...found, ...traced.events()];
  },
};

/** A program with an accelerator, and two nested HWPTs of one address space. */
class Site {
  readonly #rig;
  readonly #one: Accelerator;
  readonly #ram: GuestRam;
  readonly #space;
  readonly #parent: number;
  #hwpts: number[] = [];

  constructor(options: RigOptions) {
    this.#rig = bootRig(options);
    this.#one = new Accelerator(this.#rig);
    this.#ram = new GuestRam(this.#one.user);
    this.#parent = this.#one.parentOf(this.#ram).parent;
    this.#space = makeSpace(this.#ram, PASID, VA, 0xaa);
    this.#one.bringUp();
  }

  cases(): Case[] {
    const bind = (): void => this.#bind();
    const unbind = (): void => this.#unbind();
    const repeat = (step: () => void) => (): void => {
      for (let i = 0; i < CALLS; i++) step();
    };
    const bound = { calls: CALLS, before: bind, after: unbind };
    return [
      { name: 'bind to first DMA', calls: 1, run: this.#bindAndMove, after: unbind },
      { name: 'DMA of a page', ...bound, run: repeat(() => this.#move()) },
      { name: 'invalidate', ...bound, run: repeat(() => this.#invalidate()) },
      { name: 'replace', ...bound, run: repeat(() => this.#replace()) },
      { name: 'unbind', calls: 1, before: bind, run: unbind },
    ];
  }

  /** How many events each case is. */
  events(): Figure[] {
    const { events } = this.#rig;
    return this.cases().map(({ name, calls, before, run, after }) => {
      before?.();
      const start = events.length;
      run();
      const value = (events.length - start) / calls;
      after?.();
      return { name: `${name}, events`, ratio: 1, of: `${name}, events`, value, unit: 'events' };
    });
  }

  readonly #bindAndMove = (): void => {
    this.#bind();
    this.#move();
  };

  #bind(): void {
    const { root } = this.#space.table;
    this.#hwpts = [0, 1].map(() => id(this.#one.nested(this.#parent, root)));
    id(this.#one.device.attachPasid(PASID, this.#hwpts[0]!));
  }

  #unbind(): void {
    const results = [
      this.#one.device.detachPasid(PASID),
      ...this.#hwpts.map((hwpt) => this.#one.client.destroy(hwpt)),
    ];
    if (results.some((result) => result !== 'OK')) throw new Error(results.join(' '));
  }

  #replace(): void {
    this.#hwpts.reverse();
    id(this.#one.device.attachPasid(PASID, this.#hwpts[0]!));
  }

  #invalidate(): void {
    const result = this.#one.invalidate(this.#hwpts[0]!);
    if (result !== 'OK') throw new Error(result);
  }

  #move(): void {
    const { source, target, record } = this.#space;
    clearRecord(this.#ram, this.#space);
    const values = { pasid: PASID, size: PAGE, source: source.va, destination: target.va };
    const seen = (): Uint8Array => this.#ram.read(record.gpa, COMPLETION_BYTES);
    const { status } = this.#one.move({ ...values, record: record.va }, seen);
    if (status !== DsaStatus.SUCCESS) throw new Error(`status ${status}`);
  }
}
