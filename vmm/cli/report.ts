import { createHash } from 'node:crypto';
import type { Counts, Tally } from '../../trace/story/counts.ts';
import type { FindingJson } from '../../trace/story/sanitizer.ts';
import { timeText, wrap } from '../../trace/story/text.ts';
import type { Scenario } from '../scenario/scenarios.ts';
import type { Leftovers, WorldResult } from '../scenario/world.ts';
import { oneLine } from './fail.ts';
import { bold, DEFAULT_COLUMNS } from './print.ts';

interface Run {
  readonly path: string;
  readonly input: Uint8Array;
  readonly options: {
    readonly vms: number;
    readonly procs: number;
    readonly seed: number;
    readonly scenario?: Scenario | undefined;
  };
  readonly tally: Tally;
  readonly result: WorldResult;
  /** Reports of the sanitizer; undefined: it did not watch. */
  readonly findings?: readonly FindingJson[] | undefined;
}

/** What `--json` prints. */
export interface ReportJson {
  file: string;
  bytes: number;
  /** `output`: that of every copy, or of the first one that differs; empty if there is none. */
  sha256: { input: string; output: string };
  pasids: number[];
  counts: Counts;
  virtualNs: number;
  leftovers: Leftovers;
  /** What the sanitizer reported, where it watched. */
  findings?: readonly FindingJson[];
}

export interface Report {
  readonly json: ReportJson;
  readonly findings: readonly FindingJson[];
  readonly seed: number;
  /** One for each guest process, in the order of VM, then process. */
  readonly outputs: readonly Uint8Array[];
  /** Every copy verified, by the guest and by us. */
  readonly verified: boolean;
  /** Nothing left over on the host. */
  readonly clean: boolean;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const NOTHING = new Uint8Array(0);

/** Draws the sum of a run: the copies are compared with the file here too, not only by the guest. */
export function makeReport(run: Run): Report {
  const { path, input, options, tally, result, findings } = run;
  const inputHash = sha256(input);
  const outputs: Uint8Array[] = [];
  let outputHash = inputHash;
  let verified = true;
  for (let vm = 0; vm < options.vms; vm++) {
    const machine = result.vms[vm];
    if (machine?.code !== 0) verified = false;
    for (let p = 0; p < options.procs; p++) {
      const bytes = machine?.outputs[p];
      const hash = bytes === undefined || bytes === null ? '' : sha256(bytes);
      if (hash !== inputHash) verified = false;
      if (outputHash === inputHash) outputHash = hash;
      outputs.push(bytes ?? NOTHING);
    }
  }
  const json: ReportJson = {
    file: path === '-' ? '<stdin>' : path,
    bytes: input.length,
    sha256: { input: inputHash, output: outputHash },
    pasids: tally.pasids.map(({ pasid }) => pasid),
    counts: tally.counts,
    virtualNs: result.ns,
    leftovers: result.leftovers,
    ...(findings !== undefined && { findings }),
  };
  const clean = Object.values(result.leftovers).every((count) => count === 0);
  // A scenario may end otherwise than with copies to verify, but no guest's code may fail.
  if (options.scenario?.verified === false) {
    verified = result.vms.length === options.vms && result.vms.every((vm) => !('crash' in vm));
  }
  return { json, findings: findings ?? [], seed: options.seed, outputs, verified, clean };
}

const LABEL = 12;

/** The summary that ends a run, in lines of at most `width` columns. */
export function summaryLines(report: Report, width = DEFAULT_COLUMNS): string[] {
  const { json, seed, outputs, verified, clean } = report;
  const row = (label: string, text: string): string[] =>
    wrap(text.split(' '), width - LABEL, 0).map(
      (line, i) => (i === 0 ? `  ${label}` : '').padEnd(LABEL) + line,
    );
  const { counts, leftovers } = json;
  const verdict = verified && clean ? 'Verified.' : 'NOT VERIFIED.';
  const copies = outputs.length === 1 ? '1 copy' : `${outputs.length} copies`;
  const what = `${verdict} ${oneLine(json.file)}: ${json.bytes} bytes, ${copies} by the device`;
  const [first = '', ...rest] = wrap(what.split(' '), width, 2);
  const kinds = Object.entries(counts.invalidations).map(([kind, n]) => `${n} ${kind}`);
  return [
    '',
    bold(verdict) + first.slice(verdict.length),
    ...rest,
    ...row('sha256', `${json.sha256.input}${verified ? ', the same at both ends' : ' (file)'}`),
    ...(verified ? [] : row('', `${json.sha256.output || 'no output'} (copy)`)),
    ...row('PASIDs', [...new Set(json.pasids)].join(', ') || 'none'),
    ...row('guest', `${counts.binds} binds, ${counts.vmExits} VM exits`),
    ...row(
      'host',
      `${counts.ioctls} ioctls; PASID: ${counts.attaches} attaches,` +
        ` ${counts.replaces} replaces, ${counts.detaches} detaches`,
    ),
    ...row(
      'VT-d',
      `${counts.translations} translations, ${counts.iotlbHits} IOTLB hits,` +
        ` ${counts.pageRequests} page requests, ${counts.faults} faults recorded`,
    ),
    ...row('', `invalidations: ${kinds.join(', ') || 'none'}`),
    ...row('time', `${timeText(json.virtualNs)} of virtual time, seed ${seed}`),
    ...row(
      'left over',
      Object.entries(leftovers)
        .map(([kind, n]) => `${n} ${kind}`)
        .join(', '),
    ),
  ];
}
