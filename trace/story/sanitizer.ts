import { sanitizer } from '../catalogue/sanitizer.ts';
import type { EventRecord } from '../event.ts';
import { timeText, wrap } from './text.ts';

/** An event behind a finding: `depth` 0 is the event itself, 1 what led to it, and so on. */
export interface FindingEvent {
  readonly role: string;
  readonly what: string;
  readonly depth: number;
  readonly seq: number;
  readonly ns: number;
  readonly event: string;
}

/** A report of the IOMMU sanitizer, as `--json` lists it. */
export interface FindingJson {
  readonly number: number;
  readonly kind: string;
  readonly meaning: string;
  readonly unit: string;
  readonly sid: string;
  readonly pasid: number;
  readonly address: string;
  readonly entry: string;
  readonly change: string;
  readonly acted: string;
  readonly who: string;
  readonly missing: string;
  readonly instead: string;
  readonly history: FindingEvent[];
}

/** Collects the sanitizer's reports from the trace. */
export class Findings {
  readonly list: FindingJson[] = [];

  add({ def, values }: EventRecord): void {
    const text = (field: string): string => String(values[field]);
    const int = (field: string): number => Number(values[field]);
    if (def.name === sanitizer.report.name) {
      this.list.push({
        number: int('number'),
        kind: text('kind'),
        meaning: text('meaning'),
        unit: text('unit'),
        sid: text('sid'),
        pasid: int('pasid'),
        address: `0x${BigInt(values['address']!).toString(16)}`,
        entry: text('entry'),
        change: text('change'),
        acted: text('acted'),
        who: text('who'),
        missing: text('missing'),
        instead: text('instead'),
        history: [],
      });
    } else if (def.name === sanitizer.history.name) {
      const finding = this.list.find(({ number }) => number === int('report'));
      finding?.history.push({
        role: text('role'),
        what: text('what'),
        depth: int('depth'),
        seq: int('of'),
        ns: int('at'),
        event: text('told'),
      });
    }
  }
}

const RULE = '='.repeat(66);
const LABEL = 10;
/** What an event's second line begins with. */
const REST = '      ';

/** A report as text, in lines of at most `width` columns, as the kernel's sanitizers print theirs. */
export function findingLines(finding: FindingJson, width: number): string[] {
  const { kind, meaning, unit, who, sid, pasid, address, history } = finding;
  const row = (label: string, text: string): string[] =>
    text === ''
      ? []
      : wrap(text.split(' '), width - LABEL, 2).map(
          (line, i) => (i === 0 ? label : '').padEnd(LABEL) + line,
        );
  const place = pasid >= 0 ? `${sid} PASID ${pasid}` : `${sid}, no PASID`;
  const lines = [
    RULE,
    ...wrap(`BUG: IOMMU sanitizer: ${kind} by ${who}`.split(' '), width, 2),
    ...row('', meaning),
    ...row('where', `unit ${unit}, ${place}, address ${address}`),
    ...row('entry', finding.entry),
    ...row('table', finding.change),
    ...row('then', finding.acted),
    ...row('instead', finding.instead),
    ...row('missing', finding.missing),
  ];
  let role = '';
  for (const event of history) {
    if (event.role !== role) {
      role = event.role;
      lines.push('', ...wrap(`${event.what}:`.split(' '), width, 2));
    }
    if (event.seq === 0) lines.push('  (nobody saw it)');
    else lines.push(...eventLines(event, width));
  }
  return [...lines, RULE];
}

function eventLines({ depth, seq, ns, event }: FindingEvent, width: number): string[] {
  const words = `#${seq} at ${timeText(ns)}: ${event}`.split(' ');
  const lead = depth === 0 ? '  ' : '    because of ';
  return wrap(words, width - Math.max(lead.length, REST.length), 4).map((line, i) =>
    i === 0 ? `${lead}${line}` : `${REST}${line}`,
  );
}
