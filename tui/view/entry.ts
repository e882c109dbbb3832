import { Box } from 'ink';
import { createElement as h, type ReactElement } from 'react';
import type { PasidRow } from '../../trace/state/pasids.ts';
import { cell, momentText } from '../format.ts';
import { type AppState, rowOf, writesOf } from '../state/app.ts';
import { pasidRows } from '../state/lists.ts';
import type { Model } from '../state/model.ts';
import { decodeEntry, type ShownField } from '../state/pasid-entry.ts';
import { type AddressWalk, parseAddress, type WalkStep, walkAddress } from '../state/walker.ts';
import { Line, lines, type Span, span } from './line.ts';
import { breadthOf, type Size } from './size.ts';
import { stepLine } from './steps.ts';

const WORDS = 8;

/** Lines over the levels of a walk: heading, address, outcome. */
const WALK_HEAD = 4;

/** The 512 bits of a PASID entry, field by field, its writes through time, and walks of addresses. */
export function Entry({ state, size }: { state: AppState; size: Size }): ReactElement {
  const { columns, rows } = size;
  const row = pasidRows(state.model.pasids)[rowOf(state)];
  if (row === undefined) return h(Line, { spans: [span(' No PASID yet.', 'muted')] });
  const shown = shownEntry(state, row);
  const wide = breadthOf(columns) === 'wide';
  const half = wide ? Math.floor(columns / 2) - 1 : columns;
  const upper = [...entryLines(row, shown, half), ...fieldLines(shown, half)];
  const walk = walkLines(state, row, wide ? columns - half - 2 : columns, wide ? rows : rows - 3);
  const frame = { flexDirection: 'column', overflow: 'hidden' } as const;
  const history = stepsOf(row, half);
  if (wide) {
    return h(
      Box,
      { width: columns, height: rows, overflow: 'hidden', gap: 2 },
      h(
        Box,
        { ...frame, width: half, height: rows },
        ...lines([...upper, ...history].slice(0, rows)),
      ),
      h(Box, { ...frame, width: columns - half - 2, height: rows }, ...lines(walk.slice(0, rows))),
    );
  }
  const walks = state.address !== '' || state.typing === 'address';
  const first = walks ? upper.slice(0, 3) : upper;
  return h(
    Box,
    { ...frame, width: columns, height: rows },
    ...lines([...first, ...walk.slice(0, walks ? rows - 3 : 2), ...history].slice(0, rows)),
  );
}

interface ShownEntry {
  readonly words: readonly bigint[];
  readonly fields: readonly ShownField[];
  readonly told: string;
}

/** The entry after the write that is chosen; without writes, as the shared state has it. */
function shownEntry(state: AppState, { device, pasid }: PasidRow): ShownEntry {
  const writes = writesOf(state);
  const index = writes.length - 1 - Math.min(state.write, Math.max(0, writes.length - 1));
  const write = writes[index];
  if (write !== undefined) {
    const { after, before, change, ns, seq } = write;
    return {
      words: after,
      fields: decodeEntry(after, before),
      told: `write ${index + 1} of ${writes.length}: ${change} at ${momentText(ns)} ms, event ${seq}`,
    };
  }
  const known = state.model.tables.entries.get(`host/${device}/${pasid}`);
  const words = known?.words.map((word) => BigInt(word)) ?? [];
  return {
    words,
    fields: decodeEntry(words, words),
    told: known === undefined ? 'the host has not written it' : known.change,
  };
}

const nameOf = ({ vm, pasid, device }: PasidRow): string =>
  `${vm || 'unknown VM'} PASID ${pasid}${device === '' ? '' : ` of ${device}`}`;

function entryLines(row: PasidRow, { told, words }: ShownEntry, width: number): Span[][] {
  const raw = Array.from({ length: WORDS }, (_, i) => words[i] ?? 0n);
  const told512 = raw
    .toReversed()
    .map((word) => word.toString(16).padStart(16, '0'))
    .join(' ');
  const last = raw.findLastIndex((word) => word !== 0n);
  const short = raw
    .slice(0, Math.max(1, last + 1))
    .map((word, i) => `${i}:${word.toString(16).padStart(16, '0')}`)
    .join(' ');
  const fits = told512.length + 1 <= width;
  return [
    [span('─ ', 'muted'), span(`Entry of ${nameOf(row)}`, 'title')],
    [span(` ${cell(told, width - 2)}`, 'muted')],
    [span(` ${cell(fits ? told512 : `words ${short}, the rest 0`, width - 2)}`)],
  ];
}

/** Fields in two columns; what the write changed is marked. */
function fieldLines({ fields }: ShownEntry, width: number): Span[][] {
  const each = Math.floor((width - 1) / 2);
  const cells = fields.map(({ field, value, was }): Span[] => {
    const told = field.told ?? String;
    const changed = value !== was;
    const bits = field.high === field.low ? `${field.high}` : `${field.high}:${field.low}`;
    const from = changed ? ` (was ${told(was)})` : '';
    const left = `${changed ? '*' : ' '}${cell(field.name, 8)}${cell(`${field.word}.${bits}`, 8)}`;
    const tone = changed ? 'changed' : value === 0n ? 'muted' : 'plain';
    return [span(`${cell(`${left}${told(value)}${from}`, each - 1)} `, tone)];
  });
  const high = Math.ceil(cells.length / 2);
  return Array.from({ length: high }, (_, i) => [
    span(' '),
    ...cells[i]!,
    ...(cells[i + high] ?? []),
  ]);
}

const stepsOf = (row: PasidRow, width: number): Span[][] => [
  [span('─ ', 'muted'), span(cell('Its steps through time', width - 2), 'title')],
  ...row.steps.map(stepLine),
];

function walkLines(state: AppState, row: PasidRow, width: number, rows: number): Span[][] {
  const { address, typing, model } = state;
  const title: Span[] = [span('─ ', 'muted'), span('Walk of an address', 'title')];
  const typed: Span[] = [
    span(' a: ', 'key'),
    span(address === '' ? 'type an address' : address, address === '' ? 'muted' : 'title'),
    ...(typing === 'address' ? [span('▏')] : []),
  ];
  if (address === '') return [title, typed];
  const parsed = parseAddress(address);
  if (parsed === undefined) {
    return [title, typed, [span(' ! that is no address: write 0x7f00...', 'bad')]];
  }
  const { words } = shownEntry(state, row);
  const pages = model.known.pages.get(`${row.vm}/${row.pid}`);
  const walk = walkAddress(words, parsed, model.known, pages);
  return [title, typed, ...outcome(walk, model), ...levels(walk.steps, width, rows - WALK_HEAD)];
}

function outcome(walk: AddressWalk, { run }: Model): Span[][] {
  const { result, readFault, writeFault, unknown, write } = walk;
  if (unknown !== '') return [[span(` ? ${unknown}`, 'waiting')]];
  if (readFault !== undefined) return [[span(` ✗ ${readFault}`, 'bad')]];
  const where = `0x${(result ?? 0n).toString(16)}`;
  const first = [span(` ✓ at ${where} of the host, ${write ? 'rw' : 'r-'}`, 'good')];
  const at = [span(`   as of ${momentText(run.ns)} ms`, 'muted')];
  if (writeFault === undefined) return [[...first, ...at]];
  return [[...first, ...at], [span(` ! a write: ${writeFault}`, 'bad')]];
}

/** Where there is no room for all, of each second-stage walk only its last level is shown. */
const levels = (all: readonly WalkStep[], width: number, room: number): Span[][] => {
  const whole = all.length <= room;
  const steps = whole
    ? all
    : all.filter(({ stage }, i) => stage === 'first' || all[i + 1]?.stage !== 'second');
  return steps.map(({ stage, level, at, entry, decoded }) => {
    const indent = stage === 'second' ? '    ' : ' ';
    const name = `${stage === 'first' ? 'FS' : whole ? 'SS' : '..SS'}${level}`;
    const place = at === undefined ? '?' : `0x${at.toString(16)}`;
    const value = entry === undefined ? '?' : `0x${entry.toString(16)}`;
    const text = `${indent}${name} at ${cell(place, 12)} ${cell(value, 18)} ${decoded}`;
    return [span(cell(text, width - 1), stage === 'first' ? 'guest' : 'host')];
  });
};
