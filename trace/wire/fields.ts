import { type FieldKind, type FieldValue, KINDS } from '../event.ts';
import { permBits, permText } from '../perm.ts';
import { functionName } from '../story/text.ts';

/** The kinds that are kept in the record itself and not in the texts of the frame. */
export type PlainKind = Exclude<FieldKind, 'text' | 'wide' | 'device'>;

export const isPlain = (kind: FieldKind): kind is PlainKind =>
  kind !== 'text' && kind !== 'wide' && kind !== 'device';

/** What is kept in the texts of the frame for a field that is not plain. */
export function textOf(kind: FieldKind, value: FieldValue | undefined): string {
  if (kind === 'wide') return `0x${BigInt(value ?? 0).toString(16)}`;
  return kind === 'device' ? functionName(String(value ?? '')) : String(value ?? '');
}

/** And back: the value of a `wide` field is a number where one is exact. */
export function valueOfText(kind: FieldKind, text: string): FieldValue {
  if (kind !== 'wide') return text;
  const value = /^0x[0-9a-f]+$/.test(text) ? BigInt(text) : 0n;
  return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

/** No function: an empty `sid`. */
const NO_SID = 0xffff;

const WORD = 2 ** 32;

/** The requester id of `bb:dd.f`, also with a segment before it; text that is none gives NO_SID. */
export function sidNumber(text: string): number {
  const match = /^(?:0000:)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7])$/i.exec(text);
  if (match === null) return NO_SID;
  const [, bus = '', device = '', fn = ''] = match;
  return (parseInt(bus, 16) << 8) | (parseInt(device, 16) << 3) | Number(fn);
}

/** A requester id as it is written everywhere: `00:01.0`. */
export function sidText(sid: number): string {
  if (sid === NO_SID) return '';
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  return `${hex(sid >>> 8)}:${hex((sid >>> 3) & 0x1f)}.${sid & 7}`;
}

/** Writes any value but a text at `at`; what does not fit its kind loses its high bits. */
export function writeField(view: DataView, at: number, kind: PlainKind, value: FieldValue): void {
  switch (kind) {
    case 'sid':
      view.setUint16(at, sidNumber(String(value)), true);
      break;
    case 'perm':
      view.setUint8(at, permBits(String(value)));
      break;
    case 'flag':
      view.setUint8(at, Number(value) === 0 ? 0 : 1);
      break;
    case 'pasid':
      view.setUint16(at, Number(value) & 0xffff, true);
      view.setUint8(at + 2, (Number(value) >> 16) & 0xff);
      break;
    case 'id':
      view.setUint32(at, Number(value), true);
      break;
    default:
      writeWord(view, at, value);
  }
}

function writeWord(view: DataView, at: number, value: FieldValue): void {
  if (typeof value === 'number') {
    const whole = Number.isFinite(value) ? Math.trunc(value) : 0;
    view.setUint32(at, whole % WORD, true);
    view.setInt32(at + 4, Math.floor(whole / WORD), true);
  } else {
    view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), true);
  }
}

/** The value at `at`, by its kind; words above 2^53 are bigint, others numbers. */
export function readField(view: DataView, at: number, kind: PlainKind): FieldValue {
  switch (kind) {
    case 'sid':
      return sidText(view.getUint16(at, true));
    case 'perm':
      return permText(view.getUint8(at));
    case 'flag':
      return view.getUint8(at);
    case 'pasid':
      return view.getUint16(at, true) | (view.getInt8(at + 2) << 16);
    case 'id':
      return view.getUint32(at, true);
    default:
      return readWord(view, at, KINDS[kind].value === 'number');
  }
}

function readWord(view: DataView, at: number, signed: boolean): number | bigint {
  const lo = view.getUint32(at, true);
  if (signed) return view.getInt32(at + 4, true) * WORD + lo;
  const hi = view.getUint32(at + 4, true);
  return hi < 2 ** 21 ? hi * WORD + lo : view.getBigUint64(at, true);
}
