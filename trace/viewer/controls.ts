import { timeText } from '../story/text.ts';
import type { Connection } from './connection.ts';
import { byId, el } from './dom.ts';
import type { Model } from './model.ts';

const SPEEDS = [
  ['as fast as it goes', ''],
  ['1000 events/s', '1000'],
  ['100 events/s', '100'],
  ['10 events/s', '10'],
  ['1 event/s', '1'],
] as const;

/** Time: pause, step, jump; and where the page stands. */
export class Controls {
  readonly #model: Model;
  readonly #connection: Connection;
  readonly #play = el('button', { 'data-control': 'pause' });
  readonly #seek = el('input', { type: 'range', id: 'seek', min: '0', 'aria-label': 'Event' });
  readonly #buttons: HTMLButtonElement[] = [];
  readonly #speed = el(
    'select',
    { 'aria-label': 'Speed', 'data-control': 'speed' },
    ...SPEEDS.map(([label, value]) => el('option', { value }, label)),
  );

  constructor(model: Model, connection: Connection) {
    this.#model = model;
    this.#connection = connection;
    const button = (
      label: string,
      title: string,
      control: string,
      act: () => void,
    ): HTMLElement => {
      const one = el('button', { title, 'aria-label': title, 'data-control': control }, label);
      one.addEventListener('click', act);
      this.#buttons.push(one);
      return one;
    };
    this.#play.addEventListener('click', () => this.toggle());
    this.#buttons.push(this.#play);
    this.#speed.addEventListener('change', () => {
      const { value } = this.#speed;
      this.#ask('speed', { eventsPerSecond: value === '' ? null : Number(value) });
    });
    this.#seek.addEventListener('change', () => this.seek(Number(this.#seek.value)));
    byId('controls').append(
      button('|◀', 'To the beginning (Home)', 'seek', () => this.seek(0)),
      button('◀', 'Back by one event (b)', 'seek', () => this.back()),
      this.#play,
      button('▶|', 'One event (n)', 'step', () => this.step('event')),
      button('▶▶|', 'To the next phase (p)', 'step', () => this.step('phase')),
      this.#seek,
      button('Now', 'To the newest event (End)', 'resume', () => this.now()),
      this.#speed,
    );
    model.onChange(() => this.#show());
  }

  get stands(): boolean {
    return this.#model.status?.state !== 'running';
  }

  toggle(): void {
    this.#ask(this.stands ? 'resume' : 'pause');
  }

  step(unit: 'event' | 'phase'): void {
    this.#model.follow();
    this.#ask('step', { unit });
  }

  back(): void {
    this.seek(Math.max(0, this.#model.seq - 1));
  }

  seek(seq: number): void {
    this.#model.follow();
    this.#ask('seek', { seq });
  }

  now(): void {
    this.#model.follow();
    this.#ask('resume');
  }

  #ask(type: string, body: object = {}): void {
    this.#connection
      .request(type, body)
      .then(() => {
        this.#model.refusal = '';
      })
      .catch((error: unknown) => {
        this.#model.refusal = error instanceof Error ? error.message : String(error);
      })
      .finally(() => this.#model.changed());
  }

  #show(): void {
    const { hello, status, link, seq, state, dropped, newest } = this.#model;
    const connection = byId('connection');
    connection.dataset['state'] = link;
    connection.textContent = link === 'live' ? (hello?.mode ?? '') : link;
    const run = byId('run');
    run.dataset['state'] = status?.state ?? '';
    run.textContent = `${status?.state ?? ''}${status?.reason === undefined ? '' : `: ${status.reason}`}`;
    byId('clock').textContent = timeText(state.run.ns);
    byId('position').textContent =
      `event ${seq} of ${newest}${dropped === 0 ? '' : ` (${dropped} skipped)`}`;
    byId('phase').textContent = state.run.phase;
    this.#play.textContent = this.stands ? '▶' : '‖';
    this.#play.title = this.stands ? 'Go on (space)' : 'Pause (space)';
    this.#play.setAttribute('aria-label', this.#play.title);
    const granted = new Set(hello?.granted ?? []);
    for (const button of this.#buttons) {
      button.disabled = link !== 'live' || !granted.has(button.dataset['control'] ?? '');
    }
    this.#speed.disabled = link !== 'live' || !granted.has('speed');
    this.#seek.disabled = link !== 'live' || !granted.has('seek');
    this.#seek.max = String(newest);
    this.#seek.setAttribute('aria-valuetext', `event ${seq} of ${newest}`);
    if (document.activeElement !== this.#seek) this.#seek.value = String(seq);
  }
}
