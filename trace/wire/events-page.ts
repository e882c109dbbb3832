import { type EventDef, KINDS, LAYERS, type Layer } from '../event.ts';
import { layoutOf } from './layout.ts';

/** Who speaks in a layer. */
const WHO: Readonly<Record<Layer, string>> = {
  guest: 'The guest kernel and its programs.',
  vmm: 'The virtual machine monitor.',
  host: 'The host kernel.',
  vtd: "A VT-d unit: the host's, or a guest's virtual one.",
  device: 'The accelerator.',
  engine: 'The harness around them, and the IOMMU sanitizer.',
};

/** docs/events.md: every event, made from its declaration. */
export function eventsPage(catalogue: readonly EventDef[]): string {
  const lines = [
    '# Events',
    '',
    'Made from `trace/catalogue/` by `node .ci/events.ts`; a test holds it current.',
    'Names are those of the kernel (tracepoints, else functions), of QEMU and KVM where they have one.',
    'Every event also has a number (`seq`), a virtual time (`ns`) and the number of the event that',
    'caused it (`cause`, 0: none). Bytes are those of its record in a stream or recording.',
    '',
    '## Kinds of fields',
    '',
    ...table([
      ['kind', 'bytes', 'what it is'],
      ...Object.entries(KINDS).map(([kind, { size, what }]) => [kind, `${size}`, what]),
    ]),
  ];
  for (const layer of LAYERS) {
    lines.push('', `## ${layer}`, '', WHO[layer], '');
    const rows = [['event', 'fields', 'what happened', 'follows', 'bytes']];
    catalogue.forEach((def, id) => {
      if (def.layer !== layer) return;
      const fields = Object.entries(def.fields).map(([field, kind]) => `${field}: ${kind}`);
      const hot = def.hot === true ? ' (only with `--hits`)' : '';
      const size = `${layoutOf(def, id).size}`;
      rows.push([`\`${def.name}\`${hot}`, fields.join(', '), def.meaning, def.source, size]);
    });
    lines.push(...table(rows));
  }
  return `${lines.join('\n')}\n`;
}

/** A table whose columns are as wide as their widest cell; the first row is its head. */
function table(rows: readonly (readonly string[])[]): string[] {
  const cells = rows.map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const lineOf = (row: readonly string[], fill: string): string =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column]!, fill)).join(' | ')} |`;
  const [head = [], ...body] = cells;
  const rule = head.map(() => '');
  return [lineOf(head, ' '), lineOf(rule, '-'), ...body.map((row) => lineOf(row, ' '))];
}
