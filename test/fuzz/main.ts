/** `npm run fuzz`: random calls at /dev/iommu, vfio devices and the test command. */
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import type { Finding, Message, Work } from './worker.ts';

const HELP = `Usage: npm run fuzz -- [--seconds N] [--seed S] [--episodes N] [--verbose] [--json]
       npm run fuzz -- --episode E [--json]

Throws random and mutated calls of several threads and processes at the simulated kernel's
/dev/iommu, VFIO devices and test command. Each episode is a fresh host; afterwards nothing may be
left. The same seed gives the same episodes; the clock only ends the run.

  --seconds N   begin no episode after N seconds (default 10)
  --episodes N  run N episodes at most, however long they take if --seconds is not given
  --seed S      seed of the run, a number (default 1)
  --episode E   run the one episode with this seed, as a finding names it
  --verbose     print the seed of every episode
  --json        print {seed, episodes, calls, succeeded, seconds, interrupted, findings}
  --help        this text

Exit codes: 0 nothing found, 1 a finding, 2 wrong usage, 130 interrupted before anything was found.
`;

/** Silence after which an episode counts as hanging. */
const HANG_MS = 60_000;

const OPTIONS = {
  seconds: { type: 'string' },
  seed: { type: 'string' },
  episodes: { type: 'string' },
  episode: { type: 'string' },
  verbose: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
} as const;

class Usage extends Error {}

interface Settings {
  readonly work: Work;
  readonly verbose: boolean;
  readonly json: boolean;
}

interface Report {
  readonly seed: number;
  episodes: number;
  calls: number;
  succeeded: number;
  seconds: number;
  interrupted: boolean;
  readonly findings: Finding[];
}

function natural(name: string, text: string): number {
  const value = Number(text);
  if (!/^[0-9]+$/.test(text) || value > 0xffff_ffff) {
    throw new Usage(`--${name} takes a number from 0 to 4294967295, not '${text}'`);
  }
  return value;
}

function read(): Settings | null {
  const parse = () => {
    try {
      return parseArgs({ options: OPTIONS }).values;
    } catch (error) {
      throw new Usage((error as Error).message);
    }
  };
  const values = parse();
  if (values.help) return null;
  const { seconds, episodes, episode } = values;
  const bounded = episodes !== undefined && seconds === undefined;
  const most = bounded ? Infinity : natural('seconds', seconds ?? '10') * 1000;
  const work = {
    seed: natural('seed', values.seed ?? '1'),
    episode: episode === undefined ? null : natural('episode', episode),
    episodes: episodes === undefined ? Infinity : natural('episodes', episodes),
    until: Date.now() + most,
  };
  return { work, verbose: values.verbose, json: values.json };
}

/** A line of the terminal that the next one replaces; nothing where there is no terminal. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function fuzz({ work, verbose, json }: Settings): Promise<Report> {
  const begun = Date.now();
  const report: Report = {
    seed: work.seed,
    episodes: 0,
    calls: 0,
    succeeded: 0,
    seconds: 0,
    interrupted: false,
    findings: [],
  };
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('worker.ts', import.meta.url), { workerData: work });
    let now = { number: 0, seed: work.seed };
    const end = (): void => {
      clearTimeout(watch);
      process.off('SIGINT', interrupt);
      progress('');
      report.seconds = (Date.now() - begun) / 1000;
      worker.terminate().then(() => resolve(report), reject);
    };
    const hang = (): void => {
      const problem = `no end in ${HANG_MS / 1000} seconds`;
      report.findings.push({ ...now, problem, program: [] });
      end();
    };
    const interrupt = (): void => {
      report.interrupted = true;
      end();
    };
    let watch = setTimeout(hang, HANG_MS);
    process.on('SIGINT', interrupt);
    worker.on('error', (error: unknown) => {
      const problem = error instanceof Error ? (error.stack ?? error.message) : String(error);
      report.findings.push({ ...now, problem, program: [] });
      end();
    });
    worker.on('message', (message: Message) => {
      clearTimeout(watch);
      watch = setTimeout(hang, HANG_MS);
      if (message.is === 'begun') {
        now = { number: message.number, seed: message.seed };
        if (verbose && !json) process.stdout.write(`episode ${now.number}: seed ${now.seed}\n`);
        const found = `${report.findings.length} found`;
        progress(`episode ${now.number} (seed ${now.seed}), ${report.calls} calls, ${found}`);
      } else if (message.is === 'ended') {
        report.episodes++;
        report.calls += message.calls;
        report.succeeded += message.succeeded;
      } else if (message.is === 'finding') {
        report.findings.push(message.finding);
      } else {
        end();
      }
    });
  });
}

function show(report: Report): string {
  const { seed, episodes, calls, succeeded, seconds, interrupted, findings } = report;
  const found = findings.map(
    ({ number, seed: own, problem, program }) =>
      `episode ${number}, seed ${own} (again: --episode ${own})\n${problem}\n` +
      program.map((line) => `  ${line}\n`).join(''),
  );
  const what = `${episodes} episodes, ${calls} calls (${succeeded} succeeded)`;
  const how = `in ${seconds.toFixed(1)} s${interrupted ? ', interrupted' : ''}`;
  return `${found.join('\n')}seed ${seed}: ${what} ${how}, ${findings.length} findings\n`;
}

try {
  const settings = read();
  if (settings === null) {
    process.stdout.write(HELP);
  } else {
    const report = await fuzz(settings);
    process.stdout.write(settings.json ? `${JSON.stringify(report)}\n` : show(report));
    if (report.findings.length > 0) process.exitCode = 1;
    else if (report.interrupted) process.exitCode = 130;
  }
} catch (error) {
  if (!(error instanceof Usage)) throw error;
  process.stderr.write(`${error.message}\n\n${HELP}`);
  process.exitCode = 2;
}
