import { type Command, InvalidArgumentError, Option } from 'commander';
import { type FindingJson, findingLines } from '../../trace/story/sanitizer.ts';
import { BUGS, type Bug, isBug } from '../scenario/bugs.ts';
import { isScenario, SCENARIOS, type Scenario, type ScenarioName } from '../scenario/scenarios.ts';
import { columns } from './print.ts';

/** What the sanitizer's options say. */
export interface SanitizeOptions {
  readonly sanitize?: boolean;
  readonly bug?: readonly (Bug | typeof LIST)[];
  readonly scenario?: ScenarioName | typeof LIST;
}

const LIST = 'list';

/** Adds `--sanitize`, `--bug` and `--scenario`. */
export function sanitizeOptions(command: Command): Command {
  return bugOptions(command).addOption(
    new Option('--scenario <NAME>', 'what happens; `list` lists them').argParser(scenarioName),
  );
}

/** Adds `--sanitize` and `--bug`. */
export function bugOptions(command: Command): Command {
  return command
    .option('--sanitize', 'watch the IOMMUs for mistakes of drivers, VMMs and devices')
    .option('--no-sanitize', 'do not (the default unless a walkthrough is printed)')
    .addOption(
      new Option('--bug <NAME>', 'switch a mistake on, and watch; `list` lists them').argParser(
        (name, before: readonly string[] | undefined) => [...(before ?? []), bugName(name)],
      ),
    );
}

function bugName(name: string): string {
  if (name === LIST || isBug(name)) return name;
  throw new InvalidArgumentError('`--bug list` lists the names.');
}

function scenarioName(name: string): string {
  if (name === LIST || isScenario(name)) return name;
  throw new InvalidArgumentError('`--scenario list` lists the names.');
}

/** Prints what is asked to be listed. False: nothing is. */
export function listed({ bug = [], scenario }: SanitizeOptions): boolean {
  if (bug.includes(LIST)) printList(Object.entries(BUGS));
  else if (scenario === LIST) {
    printList(Object.entries(SCENARIOS).map(([name, { what }]) => [name, what]));
  } else return false;
  return true;
}

function printList(entries: readonly (readonly [string, string])[]): void {
  const width = Math.max(...entries.map(([name]) => name.length));
  for (const [name, what] of entries) process.stdout.write(`${name.padEnd(width)}  ${what}\n`);
}

/** The mistakes that are switched on, by name or by the scenario. */
export function bugsOn(options: SanitizeOptions): ReadonlySet<Bug> {
  const { bug = [] } = options;
  const named = bug.filter((name): name is Bug => name !== LIST);
  return new Set([...named, ...(scenarioOf(options)?.bugs ?? [])]);
}

/** The scenario that is chosen, or undefined. */
export function scenarioOf({ scenario }: SanitizeOptions): Scenario | undefined {
  return scenario === undefined || scenario === LIST ? undefined : SCENARIOS[scenario];
}

/** Prints the reports on standard error. */
export function printFindings(findings: readonly FindingJson[]): void {
  for (const finding of findings) {
    process.stderr.write(`${findingLines(finding, columns()).join('\n')}\n`);
  }
}

/** `1 IOMMU sanitizer report`. */
export function countText(findings: readonly FindingJson[]): string {
  return `${findings.length} IOMMU sanitizer report${findings.length === 1 ? '' : 's'}`;
}
