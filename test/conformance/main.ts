/** `npm run conformance`: the kernel's own iommu selftests on the simulated kernel. */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildSuites } from './build.ts';
import { debianTree } from './debian.ts';
import type { HugePages } from './huge-pages.ts';
import { reserveHugePages } from './huge-pages.ts';
import type { Options } from './options.ts';
import { parseOptions, USAGE, UsageError } from './options.ts';
import { Progress } from './progress.ts';
import type { Report } from './report.ts';
import { jsonOf, readmeSection, tableOf, totalsOf, withSection } from './report.ts';
import type { SuiteResult } from './suite.ts';
import { runSuite } from './suite.ts';
import { openTree, SUITES, TreeError } from './tree.ts';

const README = fileURLToPath(new URL('../../README.md', import.meta.url));
const FAILED = 1;
const USAGE_ERROR = 2;

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const interrupt = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      interrupt.abort();
    });
  }
  using huge = reserveHugePages();
  const report = await run(options, huge, interrupt.signal);
  const colour = process.stdout.isTTY && !process.env['NO_COLOR'];
  process.stdout.write(options.json ? jsonOf(report) : tableOf(report, colour));
  const { fail, pass, skip } = totalsOf(report.suites);
  if (pass + fail + skip === 0) throw new UsageError('--only matches no case');
  if (interrupt.signal.aborted) return FAILED;
  return fail > 0 || !readmeHolds(options, huge, report) ? FAILED : 0;
}

async function run(options: Options, huge: HugePages, signal: AbortSignal): Promise<Report> {
  const progress = new Progress(process.stderr);
  const say = (text: string): void => {
    progress.say(text);
  };
  const tree = options.kernel === undefined ? debianTree(say) : openTree(options.kernel);
  const { programs, defines } = buildSuites(tree, say);
  const suites: SuiteResult[] = [];
  for (const name of SUITES) {
    const { only, timeoutMs } = options;
    const result = await runSuite({
      name,
      program: programs[name],
      release: tree.release,
      only,
      timeoutMs,
      shortage: huge.shortage,
      signal,
      progress: (done, total, running) => {
        progress.show(`${name} ${done + 1}/${total ?? '?'} ${running}`);
      },
    });
    suites.push(result);
  }
  progress.clear();
  return { release: tree.release, kernel: tree.version, defines, suites };
}

/** @returns false if README.md is to show these results and does not */
function readmeHolds(options: Options, { shortage }: HugePages, report: Report): boolean {
  if (!options.updateReadme && !options.checkReadme) return true;
  if (shortage !== undefined) {
    process.stderr.write(`conformance: README.md stays as it is: ${shortage}\n`);
    return !options.updateReadme;
  }
  const readme = readFileSync(README, 'utf8');
  const updated = withSection(readme, readmeSection(report));
  if (updated === undefined) throw new UsageError('README.md has no place for the results');
  if (updated === readme) return true;
  if (options.updateReadme) {
    writeFileSync(README, updated);
    return true;
  }
  process.stderr.write(
    'conformance: README.md shows other results: `npm run conformance -- --update-readme`\n',
  );
  return false;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof UsageError || error instanceof TreeError)) throw error;
  process.stderr.write(`conformance: ${error.message}\n`);
  process.exitCode = USAGE_ERROR;
}
