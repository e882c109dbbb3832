import { LAYERS } from '../event.ts';
import { eventWords, timeText } from '../story/text.ts';
import type { Filter } from '../wire/filter.ts';
import { byId, el } from './dom.ts';
import { type Model, placeOf } from './model.ts';
import type { Past } from './past.ts';

const ROW = 20;

/** The events that match the filter; only rows that can be seen are there. */
export class EventList {
  readonly #model: Model;
  readonly #past: Past;
  readonly #list = byId('list');
  readonly #spacer = el('div');
  readonly #words = el('input', {
    type: 'search',
    placeholder: 'words   (/)',
    'aria-label': 'Words that events contain',
  });
  readonly #names = el('input', {
    type: 'search',
    placeholder: 'name, vtd:*',
    'aria-label': 'Names of events',
  });
  readonly #layer = el(
    'select',
    { 'aria-label': 'Layer' },
    el('option', { value: '' }, 'all layers'),
    ...LAYERS.map((layer) => el('option', { value: layer }, layer)),
  );
  readonly #pasid = el('input', {
    class: 'short',
    inputmode: 'numeric',
    placeholder: 'PASID',
    'aria-label': 'PASID',
  });
  readonly #vm = el('input', { class: 'short', placeholder: 'VM', 'aria-label': 'VM' });
  #revealed = 0;

  readonly #earlier = el('button', { id: 'earlier', type: 'button' }, 'Load earlier events');

  constructor(model: Model, past: Past) {
    this.#model = model;
    this.#past = past;
    this.#list.append(this.#spacer);
    this.#list.before(this.#earlier);
    this.#earlier.addEventListener('click', () => past.load());
    const form = byId('filters');
    form.append(this.#words, this.#layer, this.#names, this.#pasid, this.#vm);
    form.addEventListener('input', () => this.#filter());
    form.addEventListener('submit', (event) => event.preventDefault());
    form.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') this.#list.focus();
    });
    // Rows are made anew while events come: a click is the list's, whatever was under it.
    this.#list.addEventListener('click', (event) => {
      const y = event.clientY - this.#list.getBoundingClientRect().top + this.#list.scrollTop;
      const record = model.shown[Math.floor(y / ROW)];
      if (record !== undefined) model.select(record.seq);
    });
    this.#list.addEventListener('scroll', () => this.#draw());
    new ResizeObserver(() => this.#draw()).observe(this.#list);
    model.onChange(() => this.#show());
  }

  /** Puts the cursor where words are typed. */
  search(): void {
    this.#words.focus();
    this.#words.select();
  }

  get rows(): number {
    return Math.max(1, Math.floor(this.#list.clientHeight / ROW) - 1);
  }

  #filter(): void {
    const words = ({ value }: HTMLInputElement): string[] | undefined =>
      value.trim() === '' ? undefined : value.trim().split(/[\s,]+/);
    const pasids = words(this.#pasid);
    const numbers = pasids?.map(Number);
    const wrong = numbers?.findIndex((value) => !Number.isInteger(value)) ?? -1;
    const filter: Filter = {
      text: this.#words.value,
      layers: this.#layer.value === '' ? undefined : [this.#layer.value],
      names: words(this.#names),
      pasids: numbers,
      vms: words(this.#vm),
    };
    this.#model.filter(filter);
    if (wrong >= 0) this.#model.refusal = `a PASID is a number: ${pasids![wrong]!}`;
  }

  #show(): void {
    const { refusal, shown, selected } = this.#model;
    const alert = byId('refusal');
    alert.hidden = refusal === '';
    alert.textContent = refusal;
    this.#earlier.hidden = !this.#past.hasMore;
    this.#spacer.style.height = `${shown.length * ROW}px`;
    this.#list.dataset['count'] = String(shown.length);
    if (selected !== this.#revealed) this.#reveal();
    this.#draw();
  }

  #reveal(): void {
    const { shown, selected } = this.#model;
    this.#revealed = selected;
    const top = placeOf(shown, selected) * ROW;
    const list = this.#list;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + ROW > list.scrollTop + list.clientHeight) {
      list.scrollTop = top + ROW - list.clientHeight;
    }
  }

  #draw(): void {
    const list = this.#list;
    const { shown, selected } = this.#model;
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 2);
    const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / ROW) + 4);
    const rows = shown.slice(first, last).map((record, i) => {
      const row = el(
        'div',
        {
          class: 'row',
          role: 'option',
          id: `event-${record.seq}`,
          'aria-selected': String(record.seq === selected),
          'aria-posinset': String(first + i + 1),
          'aria-setsize': String(shown.length),
        },
        el('span', { class: 'seq' }, record.seq),
        el('span', { class: 'time' }, timeText(record.ns)),
        el('span', { class: `layer ${record.def.layer}` }, record.def.layer),
        el('span', {}, eventWords(record, true).join(' ')),
      );
      row.style.top = `${(first + i) * ROW}px`;
      return row;
    });
    list.replaceChildren(this.#spacer, ...rows);
    list.setAttribute('aria-activedescendant', `event-${selected}`);
  }
}
