import { byId, el } from './dom.ts';

/** One key, or several that do the same. */
export interface Key {
  /** As `KeyboardEvent.key` names them. */
  readonly keys: readonly string[];
  readonly label: string;
  readonly act: () => void;
}

const SHOWN: Readonly<Record<string, string>> = {
  ' ': 'space',
  ArrowUp: '↑',
  ArrowDown: '↓',
  ArrowLeft: '←',
  ArrowRight: '→',
};

/** The page by keyboard alone; the help is made of the same list. */
export function listenToKeys(keys: readonly Key[]): void {
  const dialog = byId('keys') as HTMLDialogElement;
  const rows = keys.map(({ keys, label }) =>
    el(
      'tr',
      {},
      el('td', {}, ...keys.flatMap((key) => [el('kbd', {}, SHOWN[key] ?? key), ' '])),
      el('td', {}, label),
    ),
  );
  dialog.append(el('h2', {}, 'Keys'), el('table', {}, ...rows), el('p', {}, 'Esc closes this.'));
  byId('help').addEventListener('click', () => dialog.showModal());
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target instanceof HTMLInputElement && event.target.type !== 'range';
    if (typing && event.key === 'Escape') {
      event.target.blur();
      return;
    }
    const onButton =
      event.target instanceof HTMLButtonElement && (event.key === ' ' || event.key === 'Enter');
    const onChoice = event.target instanceof HTMLSelectElement;
    if (typing || onButton || onChoice || dialog.open) return;
    const key = keys.find(({ keys }) => keys.includes(event.key));
    if (key === undefined) return;
    event.preventDefault();
    key.act();
  });
}
