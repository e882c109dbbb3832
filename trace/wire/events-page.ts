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
    '| kind | bytes | what it is |',
    '| --- | --- | --- |',
    ...Object.entries(KINDS).map(([kind, { size, what }]) => `| ${kind} | ${size} | ${what} |`),
  ];
  for (const layer of LAYERS) {
    lines.push('', `## ${layer}`, '', WHO[layer], '');
    lines.push('| event | fields | what happened | follows | bytes |');
    lines.push('| --- | --- | --- | --- | --- |');
    catalogue.forEach((def, id) => {
      if (def.layer !== layer) return;
      const fields = Object.entries(def.fields).map(([field, kind]) => `${field}: ${kind}`);
      const hot = def.hot === true ? ' (only with `--hits`)' : '';
      const cells = [
        `\`${def.name}\`${hot}`,
        fields.join(', '),
        def.meaning,
        def.source,
        `${layoutOf(def, id).size}`,
      ];
      lines.push(`| ${cells.map(escaped).join(' | ')} |`);
    });
  }
  return `${lines.join('\n')}\n`;
}

const escaped = (text: string): string => text.replaceAll('|', '\\|');
