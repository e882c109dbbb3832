/** Runs one selftest program on the simulated kernel and accounts for every case that it announced. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { CaseResult } from './ktap.ts';
import { KtapReader } from './ktap.ts';
import { parseListing } from './listing.ts';

const VSVA = fileURLToPath(new URL('../../vmm/cli/vsva.js', import.meta.url));
/** A mmap that a case with huge pages asserts on. */
const NO_MEMORY = /MAP_FAILED|mmap/;
const HUGE_CASE = /huge|access_domain_dest/i;
const MAX_TAIL_LINES = 5;
const KTAP_LINE = /^(?:#|ok |not ok |TAP |KTAP |1\.\.)|^\s*$/;

export interface SuiteResult {
  readonly name: string;
  readonly cases: readonly CaseResult[];
}

export interface SuiteRun {
  readonly name: string;
  readonly program: string;
  /** Of the kernel whose answers the suite expects. */
  readonly release: string;
  readonly only: RegExp | undefined;
  /** Longest silence, after which the program is ended. */
  readonly timeoutMs: number;
  /** Why there are too few huge pages, if so. */
  readonly shortage: string | undefined;
  /** Ends the run early: what has no result by then is a failure. */
  readonly signal: AbortSignal;
  /** Told as cases begin: how many have ended, of how many, and which one begins. */
  readonly progress: (done: number, total: number | undefined, name: string) => void;
  /** The program's command; the default runs it under `vsva exec`. */
  readonly command?: readonly string[];
}

/** Never throws for what the program does: that is a failed case. */
export async function runSuite(run: SuiteRun): Promise<SuiteResult> {
  const listed = listCases(run.program);
  const names = run.only === undefined ? listed : listed.filter((name) => run.only!.test(name));
  if (run.only !== undefined && names.length === 0) return { name: run.name, cases: [] };
  const chosen = run.only === undefined ? [] : names.flatMap((name) => ['-r', name]);
  const prefix = run.command ?? [process.execPath, VSVA, 'exec', '--kernel', run.release, '--'];
  const { reader, end } = await execute([...prefix, run.program, ...chosen], run);
  const cases = accountFor(reader, end, names).map((each) => excuse(each, run.shortage));
  return { name: run.name, cases };
}

/** The cases that a program has, in order; empty when it does not tell. */
export function listCases(program: string): string[] {
  const { stdout, stderr } = spawnSync(program, ['-l'], { encoding: 'utf8', timeout: 10_000 });
  return parseListing(`${stdout}${stderr}`);
}

interface Ended {
  /** What to say of cases that have no result. */
  readonly why: string;
  /** Exit status 0, or 1 as a suite with failed cases has, or 4 when all were skipped. */
  readonly clean: boolean;
  /** The last lines that are no KTAP. */
  readonly tail: string;
}

async function execute(
  command: readonly string[],
  { timeoutMs, signal, progress }: SuiteRun,
): Promise<{ reader: KtapReader; end: Ended }> {
  const reader = new KtapReader(performance.now());
  let killed: string | undefined;
  // A case's complaints are on standard error, its result is not: one pipe keeps their order.
  const shell = ['-c', 'exec "$@" 2>&1', 'sh', ...command];
  const child = spawn('sh', shell, { stdio: ['ignore', 'pipe', 'inherit'], detached: true });
  const end = (why: string): void => {
    killed ??= why;
    killGroup(child);
  };
  const silent = (): void => {
    end(`ended after ${timeoutMs / 1000} s without a word`);
  };
  const interrupted = (): void => {
    end('interrupted');
  };
  let timer = setTimeout(silent, timeoutMs);
  signal.addEventListener('abort', interrupted);
  if (signal.aborted) interrupted();
  const tail: string[] = [];
  const take = (line: string): void => {
    clearTimeout(timer);
    timer = setTimeout(silent, timeoutMs);
    reader.line(line, performance.now());
    if (!KTAP_LINE.test(line) && tail.push(line) > MAX_TAIL_LINES) tail.shift();
    if (reader.running !== undefined && /^#\s+RUN/.test(line)) {
      progress(reader.results.size, reader.plan, reader.running);
    }
  };
  createInterface({ input: child.stdout }).on('line', take);
  const { status, error } = await ending(child);
  clearTimeout(timer);
  signal.removeEventListener('abort', interrupted);
  killGroup(child);
  const why = killed ?? error ?? `the program ended with ${statusText(status)}`;
  const clean = killed === undefined && error === undefined && [0, 1, 4].includes(status);
  return { reader, end: { why, clean, tail: tail.join('; ') } };
}

function ending(child: ChildProcess): Promise<{ status: number; error: string | undefined }> {
  return new Promise((resolve) => {
    child.on('error', (error) => {
      resolve({ status: -1, error: `it cannot be started: ${error.message}` });
    });
    child.on('close', (code, name) => {
      const status = code ?? 128 + (name === null ? 0 : constants.signals[name]);
      resolve({ status, error: undefined });
    });
  });
}

/** The program and what it has started. */
function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

function statusText(status: number): string {
  const signal = Object.entries(constants.signals).find(([, n]) => n === status - 128)?.[0];
  return signal === undefined ? `status ${status}` : signal;
}

/** A result for every announced case, and a failure for everything that is not as announced. */
function accountFor(reader: KtapReader, end: Ended, names: readonly string[]): CaseResult[] {
  const cases: CaseResult[] = [];
  const failure = (name: string, reason: string): CaseResult => {
    return { name, outcome: 'fail', reason, ms: 0 };
  };
  if (reader.skippedAll !== undefined && end.clean) {
    const reason = reader.skippedAll || 'the program skips all cases';
    return names.map((name) => ({ name, outcome: 'skip', reason, ms: 0 }));
  }
  const total = reader.plan ?? Math.max(names.length, 1);
  const named = names.length === total;
  let { running } = reader;
  let told = false;
  for (let number = 1; number <= total; number++) {
    const result = reader.results.get(number);
    if (result !== undefined) {
      cases.push(result);
      continue;
    }
    const name = running ?? (named ? names[number - 1]! : `case ${number}`);
    const during = running === undefined ? 'it never ran: ' : 'it did not finish: ';
    const said = told ? '' : (running === undefined ? '' : reader.said) || end.tail;
    cases.push(failure(name, `${during}${end.why}${said === '' ? '' : ` (${said})`}`));
    running = undefined;
    told = true;
  }
  if (reader.plan === undefined && !cases.some(({ outcome }) => outcome === 'fail')) {
    cases.push(failure('plan', `no plan: ${end.why}`));
  }
  if (reader.plan !== undefined && names.length > 0 && reader.plan !== names.length) {
    cases.push(failure('plan', `${reader.plan} cases announced, ${names.length} listed`));
  }
  for (const stray of reader.strays) cases.push(failure(stray, 'a result that no plan allows'));
  if (!end.clean && !cases.some(({ outcome }) => outcome === 'fail')) {
    cases.push(failure('exit', `${end.why}${end.tail === '' ? '' : ` (${end.tail})`}`));
  }
  return cases;
}

/** A case that fails because this machine has no huge pages to give is skipped, not failed. */
function excuse(result: CaseResult, shortage: string | undefined): CaseResult {
  const { name, outcome, reason } = result;
  if (shortage === undefined || outcome !== 'fail' || !HUGE_CASE.test(name)) return result;
  if (reason !== '' && !NO_MEMORY.test(reason)) return result;
  return { ...result, outcome: 'skip', reason: shortage };
}
