import { createHash } from 'node:crypto';
import type { Counts, Tally } from '../../trace/story/counts.ts';
import { timeText } from '../../trace/story/text.ts';
import type { Leftovers, WorldResult } from '../scenario/world.ts';
import { bold } from './print.ts';

interface Run {
  readonly path: string;
  readonly input: Uint8Array;
  readonly options: { readonly vms: number; readonly procs: number; readonly seed: number };
  readonly tally: Tally;
  readonly result: WorldResult;
}

/** What `--json` prints. */
export interface ReportJson {
  file: string;
  bytes: number;
  seed: number;
  verified: boolean;
  sha256: { input: string; output: string };
  /** One for each guest process. */
  outputs: { vm: string; process: number; sha256: string }[];
  pasids: number[];
  counts: Counts;
  virtualNs: number;
  leftovers: Leftovers;
}

export interface Report {
  readonly json: ReportJson;
  readonly outputs: readonly Uint8Array[];
  /** Every copy verified, by the guest and by us, and nothing left over. */
  readonly good: boolean;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const NOTHING = new Uint8Array(0);

/** Draws the sum of a run: the copies are compared with the file here too, not only by the guest. */
export function makeReport({ path, input, options, tally, result }: Run): Report {
  const inputHash = sha256(input);
  const outputs: Uint8Array[] = [];
  const rows: ReportJson['outputs'] = [];
  let verified = true;
  for (let vm = 0; vm < options.vms; vm++) {
    const machine = result.vms[vm];
    if (machine?.code !== 0) verified = false;
    for (let p = 0; p < options.procs; p++) {
      const bytes = machine?.outputs[p];
      const hash = bytes === undefined || bytes === null ? '' : sha256(bytes);
      if (hash !== inputHash) verified = false;
      outputs.push(bytes ?? NOTHING);
      rows.push({ vm: `vm${vm}`, process: p, sha256: hash });
    }
  }
  const { leftovers } = result;
  const clean = Object.values(leftovers).every((count) => count === 0);
  const json: ReportJson = {
    file: path === '-' ? '<stdin>' : path,
    bytes: input.length,
    seed: options.seed,
    verified,
    sha256: {
      input: inputHash,
      output: rows.find((r) => r.sha256 !== inputHash)?.sha256 ?? inputHash,
    },
    outputs: rows,
    pasids: tally.pasids.map(({ pasid }) => pasid),
    counts: tally.counts,
    virtualNs: result.ns,
    leftovers,
  };
  return { json, outputs, good: verified && clean };
}

/** The summary that ends a run, at most 100 columns wide. */
export function summaryLines({ json, good }: Report): string[] {
  const { counts, leftovers } = json;
  const kinds = Object.entries(counts.invalidations).map(([kind, n]) => `${n} ${kind}`);
  const copies = json.outputs.length;
  const left = Object.entries(leftovers).map(([what, n]) => `${n} ${what}`);
  return [
    '',
    bold(good ? 'Verified.' : 'NOT VERIFIED.') +
      ` ${json.file}: ${json.bytes} bytes, ${copies} ${copies === 1 ? 'copy' : 'copies'} by the device`,
    `  sha256    ${json.sha256.input}${json.verified ? ', the same at both ends' : ' (file)'}`,
    ...(json.verified ? [] : [`            ${json.sha256.output || 'no output'} (copy)`]),
    `  PASIDs    ${[...new Set(json.pasids)].join(', ') || 'none'}`,
    `  guest     ${counts.binds} binds, ${counts.vmExits} VM exits`,
    `  host      ${counts.ioctls} ioctls; PASID: ${counts.attaches} attaches,` +
      ` ${counts.replaces} replaces, ${counts.detaches} detaches`,
    `  VT-d      ${counts.translations} translations, ${counts.iotlbHits} IOTLB hits,` +
      ` ${counts.pageRequests} page requests, ${counts.faults} faults recorded`,
    `            invalidations: ${kinds.join(', ') || 'none'}`,
    `  time      ${timeText(json.virtualNs)} of virtual time, seed ${json.seed}`,
    `  left over ${left.join(', ')}`,
  ];
}
