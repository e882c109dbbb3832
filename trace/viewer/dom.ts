type Child = Node | string | number | undefined;

/** Makes an element: `el('td', { class: 'n' }, 42)`. Text is text: nothing is read as HTML. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string | boolean | undefined>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, '');
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  for (const child of children) {
    if (child !== undefined) element.append(typeof child === 'number' ? String(child) : child);
  }
  return element;
}

/** The element of the page with this id. */
export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no #${id}`);
  return element;
}

/** A table with a head; numbers are set right. */
export function grid(
  heads: readonly string[],
  rows: readonly (readonly Child[])[],
  attributes: Readonly<Record<string, string>> = {},
): HTMLElement {
  if (rows.length === 0) return el('p', { class: 'empty', ...attributes }, 'none yet');
  const cell = (tag: 'th' | 'td', child: Child): HTMLElement =>
    el(tag, { class: typeof child === 'number' ? 'n' : undefined }, child);
  const isNumber = (column: number): boolean => rows.some((row) => typeof row[column] === 'number');
  const head = (text: string, column: number): HTMLElement =>
    el('th', { scope: 'col', class: isNumber(column) ? 'n' : undefined }, text);
  return el(
    'table',
    attributes,
    el('thead', {}, el('tr', {}, ...heads.map(head))),
    el('tbody', {}, ...rows.map((row) => el('tr', {}, ...row.map((child) => cell('td', child))))),
  );
}
