import { InvalidArgumentError } from 'commander';

/** commander prints the message after naming the option and the value. */
const refuse = (rule: string): never => {
  throw new InvalidArgumentError(rule);
};

/** A parser of whole numbers within a range. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (!(value >= least && value <= most)) {
      return refuse(`It must be a whole number from ${least} to ${most}.`);
    }
    return value;
  };
}

const UNITS: Readonly<Record<string, number>> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** A memory size: a whole number of MiB, or with a unit: 262144K, 256M, 1G. Bytes, whole pages. */
export function memorySize(text: string): number {
  const match = /^(\d+)(?:([KMG])(?:i?B)?)?$/i.exec(text);
  const unit = UNITS[(match?.[2] ?? 'M').toUpperCase()];
  if (match === null || unit === undefined) return refuse('Write it like 256M or 1G.');
  const bytes = Number(match[1]) * unit;
  if (bytes % 4096 !== 0) return refuse('It must be a multiple of 4 KiB.');
  return bytes;
}

/** Bytes in the largest unit that divides them. */
export function sizeText(bytes: number): string {
  for (const [unit, size] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const) {
    if (bytes >= size && bytes % size === 0) return `${bytes / size} ${unit}`;
  }
  return `${bytes} bytes`;
}
