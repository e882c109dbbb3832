import { type EventRecord, KINDS } from '../event.ts';
import { valueText } from './text.ts';

/**
 * An event as one line of JSON: `seq`, `ns`, `cause`, `layer`, `event` (its name), then its fields.
 * Values shown in hexadecimal are strings (`"0x1f"`), so that 64 bits survive every reader.
 */
export function jsonLine(record: EventRecord): string {
  const { seq, ns, cause, def, values } = record;
  const line: Record<string, number | string> = {
    seq,
    ns,
    cause,
    layer: def.layer,
    event: def.name,
  };
  for (const [field, kind] of Object.entries(def.fields)) {
    const value = values[field];
    if (value === undefined) continue;
    line[field] = KINDS[kind].value === 'number' ? (value as number) : valueText(kind, value);
  }
  return JSON.stringify(line);
}
