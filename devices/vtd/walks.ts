import type { PhysicalMemory } from '../memory.ts';
import { INTERRUPT_WINDOW_PAGES } from '../spec/msi.ts';
import { FAULT } from '../spec/vtd/faults.ts';
import { PGTT } from '../spec/vtd/pasid.ts';
import { CheckedWalk, type WalkRequest } from './checked-walk.ts';
import type { UnitConfig } from './config.ts';
import type { PasidConfig } from './entries.ts';
import { FirstStage, isCanonical } from './first-stage.ts';
import { TLB } from './iotlb.ts';
import { Nested } from './nested.ts';
import type { Outcome } from './outcome.ts';
import { SecondStage } from './second-stage.ts';
import { StraightWalk } from './straight-walk.ts';
import type { FirstStageCache, SecondStageCache } from './structure-caches.ts';
import type { TableBus } from './table-bus.ts';
import type { WalkLog } from './walk-log.ts';

/** log2 of the range that a pass-through translation is answered with. */
const PASS_THROUGH_SHIFT = 21;

/** The walk that a PASID entry asks for: the fast one where it will do, else the checked one. */
export class Walks {
  /** Walks so far. */
  count = 0;
  readonly #config: UnitConfig;
  readonly #log: WalkLog;
  readonly #outcome: Outcome;
  readonly #second: SecondStage;
  readonly #first: FirstStage;
  readonly #nested: Nested;
  readonly #straight: StraightWalk;
  /** Whether there are paging-structure caches. */
  readonly #cached: boolean;
  readonly #checked: CheckedWalk;

  constructor(parts: {
    config: UnitConfig;
    memory: PhysicalMemory;
    bus: TableBus;
    log: WalkLog;
    caches: { readonly first: FirstStageCache; readonly second: SecondStageCache };
    outcome: Outcome;
  }) {
    const { config, memory, bus, log, outcome } = parts;
    const { first: cache } = parts.caches;
    this.#config = config;
    this.#log = log;
    this.#outcome = outcome;
    const second = new SecondStage({ config, memory, bus, log, cache: parts.caches.second });
    this.#second = second;
    this.#first = new FirstStage({ config, memory, cache, outcome });
    this.#nested = new Nested({ config, memory, cache, second, outcome });
    this.#straight = new StraightWalk({ config, memory, caches: parts.caches, outcome });
    this.#cached = cache.on;
    this.#checked = new CheckedWalk({ config, bus, log, cache, second, outcome });
  }

  /** Entries read by the fast walks. */
  get loads(): number {
    return this.#second.loads + this.#first.loads + this.#nested.loads + this.#straight.loads;
  }

  /** 0, or the fault of the page tables; leaves the translation in the outcome. */
  walk(how: PasidConfig, request: WalkRequest): number {
    this.count++;
    // A traced walk notes its entries, and an AtomicOp needs both permissions: checked walks.
    const quick = !this.#log.on && !(request.write && request.read);
    if (quick && how.straight && this.#walkStraight(how, request)) return 0;
    return this.#walkAny(how, request, quick);
  }

  #walkStraight(how: PasidConfig, request: WalkRequest): boolean {
    const straight = this.#straight;
    if (this.#cached) return straight.fromLeaves(how, request);
    return isCanonical(4, request.hi) && straight.fromRoot(how, request);
  }

  #walkAny(how: PasidConfig, request: WalkRequest, quick: boolean): number {
    const { hi, lo, user, write, dirty } = request;
    switch (how.pgtt) {
      case PGTT.NESTED:
        if (quick && this.#nested.fast(how, hi, lo, user, write, dirty)) return 0;
        return this.#checked.firstStage(how, request);
      case PGTT.FIRST_STAGE:
        if (quick && this.#first.fast(how, hi, lo, user, write, dirty)) return 0;
        return this.#checked.firstStage(how, request);
      case PGTT.SECOND_STAGE:
        if (quick && hi === 0 && lo >= 0 && this.#fastSecond(how, request)) return 0;
        return this.#checked.secondStage(how, request);
      default:
        return this.#passThrough(how, request.vpn);
    }
  }

  #fastSecond(how: PasidConfig, request: WalkRequest): boolean {
    const second = this.#second;
    const frame = second.fast(how, request.lo);
    return frame >= 0 && this.#checked.reportSecond(how, request, frame);
  }

  #passThrough(how: PasidConfig, vpn: number): number {
    if (vpn >= this.#config.hawPages) return FAULT.ADDRESS_BEYOND_HAW;
    const outcome = this.#outcome;
    const span = 2 ** (PASS_THROUGH_SHIFT - 12);
    const { FIRST } = INTERRUPT_WINDOW_PAGES;
    const holdsWindow = vpn - (vpn % span) === FIRST - (FIRST % span);
    outcome.frame = vpn;
    outcome.shift = holdsWindow ? 12 : PASS_THROUGH_SHIFT;
    outcome.flags = how.forceSnoop ? TLB.R | TLB.W | TLB.SNOOP : TLB.R | TLB.W;
    return 0;
  }
}
