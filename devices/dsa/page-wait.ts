import { DsaStatus } from '../spec/dsa/completion.ts';
import type { DsaModel } from './model.ts';
import type { PageRequests, PageWaiter } from './page-requests.ts';
import { NO_SLOT, PrgCode } from './page-requests.ts';
import { Reach, Run, type Translator } from './translator.ts';
import type { Work } from './work.ts';

/** Outcome of `PageWait.ask`. */
export const Wait = {
  /** No use asking: it was refused, or has not helped too often. */
  NO: 0,
  /** The answer, or a free slot, will come. */
  YES: 1,
  /** The answer came while the request was being sent. */
  ANSWERED: 2,
} as const;
export type Wait = (typeof Wait)[keyof typeof Wait];

/** An engine's dealings with page requests: what it waits for, and what it was told. */
export class PageWait {
  readonly #owner: PageWaiter;
  readonly #pages: PageRequests;
  readonly #translator: Translator;
  readonly #model: DsaModel;
  readonly #run = new Run();
  /** The request waited for; NO_SLOT while waiting for a slot, or for nothing. */
  #prgi = NO_SLOT;
  /** The last answer that came, and its code. */
  #answered = NO_SLOT;
  #code: number = PrgCode.SUCCESS;
  /** The page last waited for, how it was refused, and how often its answer came to nothing. */
  #page = -1;
  #denied: number = PrgCode.SUCCESS;
  #retries = 0;

  constructor(
    owner: PageWaiter,
    parts: { pages: PageRequests; translator: Translator; model: DsaModel },
  ) {
    this.#owner = owner;
    this.#pages = parts.pages;
    this.#translator = parts.translator;
    this.#model = parts.model;
  }

  /** Another descriptor begins. */
  begin(): void {
    this.#page = -1;
    this.#retries = 0;
    this.#denied = PrgCode.SUCCESS;
  }

  /** Data moved: answers help. */
  progress(): void {
    this.#retries = 0;
  }

  /** Nothing is waited for any more; what was asked stays outstanding. */
  forget(): void {
    this.#prgi = NO_SLOT;
    this.#pages.disown(this.#owner);
  }

  /** Whether page requests are possible for the descriptor's queue. */
  isPossible(work: Work): boolean {
    if (work.client.config.prsDisable !== 0) return false;
    return this.#translator.usesAts(work.client) && this.#pages.running;
  }

  /** Asks for a page, unless it is already asked for. */
  ask(work: Work, vpn: number, write: boolean): Wait {
    if (this.#page !== vpn) {
      this.begin();
      this.#page = vpn;
    }
    if (this.#denied !== PrgCode.SUCCESS || this.#gaveUp) return Wait.NO;
    let prgi = this.#pages.pending(this.#owner, vpn, write);
    if (prgi === NO_SLOT) {
      this.#answered = NO_SLOT;
      prgi = this.#pages.request(this.#owner, work.client, vpn, write);
      if (prgi !== NO_SLOT && this.#answered === prgi) {
        this.#take(this.#code);
        return Wait.ANSWERED;
      }
    }
    this.#prgi = prgi;
    if (prgi === NO_SLOT) this.#pages.awaitSlot(this.#owner);
    return Wait.YES;
  }

  /** Asks for those of `pages` that are missing too; a negative number ends the list. */
  askAhead(work: Work, write: boolean, page: (ahead: number) => number): void {
    for (let ahead = 1; ahead < this.#model.pageRequestWindow; ahead++) {
      const vpn = page(ahead);
      if (vpn < 0) return;
      if (this.#pages.pending(this.#owner, vpn, write) !== NO_SLOT) continue;
      this.#run.forget();
      const reach = this.#translator.resolve(work.client, vpn, write, this.#run);
      if (reach !== Reach.ABSENT) continue;
      if (this.#pages.request(this.#owner, work.client, vpn, write) === NO_SLOT) return;
    }
  }

  /** An answer came. True: it is the one waited for. */
  answer(prgi: number, code: number): boolean {
    this.#answered = prgi;
    this.#code = code;
    if (prgi !== this.#prgi) return false;
    this.#take(code);
    return true;
  }

  get isForSlot(): boolean {
    return this.#prgi === NO_SLOT;
  }

  #take(code: number): void {
    this.#prgi = NO_SLOT;
    this.#denied = code;
    this.#retries++;
  }

  get #gaveUp(): boolean {
    return this.#retries > this.#model.pageRequestRetries;
  }

  /** Status of an access to `page` that found no way. */
  statusOf(fault: Reach, page: number): number {
    if (fault === Reach.REFUSED) return DsaStatus.TRANSLATION_ERROR;
    if (this.#page !== page) return DsaStatus.PAGE_FAULT;
    if (this.#denied === PrgCode.INVALID) return DsaStatus.PAGE_RESPONSE_INVALID;
    if (this.#denied !== PrgCode.SUCCESS || this.#gaveUp) return DsaStatus.TRANSLATION_ERROR;
    return DsaStatus.PAGE_FAULT;
  }
}
