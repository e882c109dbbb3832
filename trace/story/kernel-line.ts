import type { EventRecord } from '../event.ts';
import { functionName, valueText } from './text.ts';

const WHO_COLUMNS = 14;
const LAYER_COLUMNS = 6;
const SECONDS_COLUMNS = 14;

/**
 * An event as one line in the manner of the kernel's trace output and of `perf script`: who, the
 * storey, seconds, event, fields; then its number and that of its cause.
 */
export function kernelLine(record: EventRecord): string {
  const { seq, ns, cause, def, values } = record;
  const fields: string[] = [];
  for (const [field, kind] of Object.entries(def.fields)) {
    const value = values[field];
    if (value !== undefined) fields.push(`${field}=${quoted(valueText(kind, value))}`);
  }
  const who = whoOf(record).padStart(WHO_COLUMNS);
  const layer = `[${def.layer}]`.padEnd(LAYER_COLUMNS + 2);
  const led = cause === 0 ? '' : ` <- #${cause}`;
  return `${who} ${layer} ${secondsText(ns)}: ${def.name}: ${fields.join(' ')} (#${seq}${led})`;
}

/** Seconds with all nine digits of a nanosecond. */
function secondsText(ns: number): string {
  const seconds = Math.floor(ns / 1e9);
  return `${seconds}.${String(ns % 1e9).padStart(9, '0')}`.padStart(SECONDS_COLUMNS);
}

/** Text with blanks is quoted, so that the line can be split into fields again. */
const quoted = (text: string): string => (/^[^\s"]+$/.test(text) ? text : JSON.stringify(text));

/** Whose event it is: `vm0-100` (a guest process), `vm0`, `host-1` (a process), a unit, a device. */
export function whoOf({ def, values }: EventRecord): string {
  const { vm, pid, unit, device } = values;
  switch (def.layer) {
    case 'guest':
    case 'vmm':
      return pid === undefined || pid === 0 ? String(vm) : `${String(vm)}-${String(pid)}`;
    case 'host':
      return pid === undefined ? 'host' : `host-${String(pid)}`;
    case 'vtd':
      return unit === 'host' ? 'vtd' : `vtd-${String(unit)}`;
    case 'device':
      return functionName(String(device));
    case 'engine':
      return 'engine';
  }
}
