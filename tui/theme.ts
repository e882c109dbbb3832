import { createContext } from 'react';
import type { Storey } from '../trace/state/chain.ts';
import type { Weight } from '../trace/state/notable.ts';
import type { PasidPhase } from '../trace/state/pasids.ts';

/** Colours by what they mean. */
export type Tone =
  | Storey
  | Weight
  | PasidPhase
  | 'engine'
  | 'title'
  | 'key'
  | 'muted'
  | 'alert'
  | 'changed'
  | 'waiting';

export interface Look {
  readonly color?: string;
  readonly bold?: boolean;
  readonly dimColor?: boolean;
}

/** What the terminal can show: nothing but bold and dim, its own sixteen colours, or any. */
export type Palette = 'none' | 'sixteen' | 'true';

/** One of the terminal's own sixteen, so that its theme holds, and the same in true colour. */
type Ink = readonly [sixteen: string, exact: string];

const INKS = {
  green: ['green', '#5fb368'],
  yellow: ['yellow', '#c9a227'],
  cyan: ['cyan', '#4fb0c6'],
  magenta: ['magenta', '#b77fd6'],
  blue: ['blueBright', '#6f9ceb'],
  red: ['red', '#e5603b'],
} as const satisfies Readonly<Record<string, Ink>>;

interface Paint {
  readonly ink?: keyof typeof INKS;
  readonly bold?: boolean;
  readonly dimColor?: boolean;
}

const PAINTS: Readonly<Record<Tone, Paint>> = {
  guest: { ink: 'green' },
  vmm: { ink: 'yellow' },
  host: { ink: 'cyan' },
  vtd: { ink: 'magenta' },
  device: { ink: 'blue' },
  engine: { dimColor: true },
  plain: {},
  good: { ink: 'green' },
  bad: { ink: 'red', bold: true },
  bound: { ink: 'yellow' },
  attached: { ink: 'green' },
  replaced: { ink: 'cyan' },
  detached: { dimColor: true },
  title: { bold: true },
  key: { bold: true },
  muted: { dimColor: true },
  alert: { ink: 'red', bold: true },
  changed: { ink: 'yellow', bold: true },
  waiting: { ink: 'yellow' },
};

/** Signs that say the same without colour. */
export const PHASE_SIGNS: Readonly<Record<PasidPhase, string>> = {
  bound: '◇',
  attached: '●',
  replaced: '◆',
  detached: '○',
};

export const WEIGHT_SIGNS: Readonly<Record<Weight, string>> = { plain: '·', good: '✓', bad: '!' };

export const STATUS_SIGNS = { running: '▶', paused: '‖', ended: '■', failed: '✗' } as const;

export const SLOT_SIGNS = { waiting: '…', running: '▶', done: '✓', failed: '✗' } as const;

/** How a tone looks; without colours (NO_COLOR) only bold and dim are left. */
export function lookOf(tone: Tone, palette: Palette): Look {
  const { ink, ...rest } = PAINTS[tone];
  if (ink === undefined || palette === 'none') return rest;
  return { color: INKS[ink][palette === 'true' ? 1 : 0], ...rest };
}

export const Colours = createContext<Palette>('sixteen');
