import { createContext } from 'react';
import type { Storey } from '../trace/state/chain.ts';
import type { Weight } from '../trace/state/notable.ts';
import type { PasidPhase } from '../trace/state/pasids.ts';

/** Colours by what they mean. Each is one of the terminal's own sixteen, so that its theme holds. */
export type Tone = Storey | Weight | PasidPhase | 'engine' | 'title' | 'key' | 'muted' | 'alert';

export interface Look {
  readonly color?: string;
  readonly bold?: boolean;
  readonly dimColor?: boolean;
}

const LOOKS: Readonly<Record<Tone, Look>> = {
  guest: { color: 'green' },
  vmm: { color: 'yellow' },
  host: { color: 'cyan' },
  vtd: { color: 'magenta' },
  device: { color: 'blueBright' },
  engine: { dimColor: true },
  plain: {},
  good: { color: 'green' },
  bad: { color: 'red', bold: true },
  bound: { color: 'yellow' },
  attached: { color: 'green' },
  replaced: { color: 'cyan' },
  detached: { dimColor: true },
  title: { bold: true },
  key: { bold: true },
  muted: { dimColor: true },
  alert: { color: 'red', bold: true },
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

/** How a tone looks; without colours (NO_COLOR) only bold and dim are left. */
export function lookOf(tone: Tone, colours: boolean): Look {
  const { color, ...rest } = LOOKS[tone];
  return colours && color !== undefined ? { color, ...rest } : rest;
}

export const Colours = createContext(true);
