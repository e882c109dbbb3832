import type { PasidStep } from '../../trace/state/pasids.ts';
import { cell, momentText } from '../format.ts';
import { PHASE_SIGNS } from '../theme.ts';
import { type Span, span } from './line.ts';

/** A change of a PASID as a line. */
export const stepLine = ({ phase, ns, hwpt, seq }: PasidStep): Span[] => [
  span(`${cell(momentText(ns), 12, 'right')} ms  `, 'muted'),
  span(cell(`${PHASE_SIGNS[phase]} ${phase}`, 12), phase),
  span(hwpt === 0 ? 'no HWPT' : `HWPT ${hwpt}`),
  span(`   event ${seq}`, 'muted'),
];
