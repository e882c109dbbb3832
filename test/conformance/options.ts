import { parseArgs } from 'node:util';

/** The command line is wrong; one line says how. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export interface Options {
  readonly kernel: string | undefined;
  readonly only: RegExp | undefined;
  readonly timeoutMs: number;
  readonly json: boolean;
  readonly updateReadme: boolean;
  readonly checkReadme: boolean;
  readonly help: boolean;
}

export const USAGE = `Usage: npm run --silent conformance -- [options]

Builds the iommu selftests of a kernel tree, unmodified, runs them on the simulated kernel and prints
what became of every case.

Options:
  --kernel <DIR>       kernel source tree (default: Debian's linux-source-6.12, installed if it is
                       missing and this user may)
  --only <REGEX>       only cases whose full name matches, like 'dirty_tracking.*bitmap'
  --timeout <SECONDS>  end a program that says nothing for so long (default: 120)
  --json               print JSON: {suites: [...], totals: {pass, fail, skip}}
  --update-readme      put the results into README.md
  --check-readme       fail if README.md shows other results
  --help               print this

Exit code: 0 if nothing failed, 1 if something did, 2 for wrong usage or a tree without the tests.
`;

const DEFAULT_TIMEOUT_SECONDS = 120;

/** @throws UsageError */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parse(args);
  const seconds = Number(values.timeout ?? DEFAULT_TIMEOUT_SECONDS);
  if (!(seconds > 0 && seconds <= 86_400)) {
    throw new UsageError('--timeout takes seconds, above 0 and at most 86400');
  }
  const changes = values['update-readme'] === true || values['check-readme'] === true;
  if (changes && (values.only !== undefined || values.kernel !== undefined)) {
    throw new UsageError('README.md shows all cases of the default kernel: no --only, no --kernel');
  }
  return {
    kernel: values.kernel,
    only: values.only === undefined ? undefined : pattern(values.only),
    timeoutMs: seconds * 1000,
    json: values.json ?? false,
    updateReadme: values['update-readme'] ?? false,
    checkReadme: values['check-readme'] ?? false,
    help: values.help ?? false,
  };
}

function parse(args: readonly string[]): ReturnType<typeof parseAll> {
  try {
    return parseAll(args);
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function parseAll(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    options: {
      kernel: { type: 'string' },
      only: { type: 'string' },
      timeout: { type: 'string' },
      json: { type: 'boolean' },
      'update-readme': { type: 'boolean' },
      'check-readme': { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
}

function pattern(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (error) {
    throw new UsageError(`--only: ${error instanceof Error ? error.message : String(error)}`);
  }
}
