// Checks the import rules of .dependency-cruiser.js, and that the check really saw the source: a
// cruiser without a working TypeScript compiler reports success over no modules.
import { globSync } from 'node:fs';
import { resolve } from 'node:path';
import { cruise } from 'dependency-cruiser';
import extractOptions from 'dependency-cruiser/config-utl/extract-depcruise-options';

const FOLDERS = ['devices', 'guest', 'host', 'test', 'trace', 'tui', 'vmm', '.ci'];
const MIN_MODULES = 20;

export interface ImportReport {
  /** Source files cruised, and the imports found in them. */
  readonly modules: readonly string[];
  readonly dependencies: number;
  /** One per broken rule: `rule: from -> to`. */
  readonly violations: readonly string[];
}

/** Applies the rules to the source tree at `root`. */
export async function checkImports(root: string): Promise<ImportReport> {
  const options = await extractOptions(resolve(import.meta.dirname, '../.dependency-cruiser.js'));
  const { output } = await cruise(['.'], { ...options, baseDir: root });
  if (typeof output === 'string') throw new Error(`dependency-cruiser printed: ${output}`);
  const modules = output.modules.filter(
    ({ source, coreModule, couldNotResolve }) =>
      coreModule !== true && couldNotResolve !== true && !source.startsWith('node_modules/'),
  );
  return {
    modules: modules.map(({ source }) => source),
    dependencies: modules.reduce((sum, { dependencies }) => sum + dependencies.length, 0),
    violations: output.summary.violations.map(
      ({ rule, from, to }) => `${rule.name}: ${from} -> ${to}`,
    ),
  };
}

/** Source files on disk that the report does not know. */
export function missed(root: string, { modules }: ImportReport): string[] {
  const seen = new Set(modules);
  return FOLDERS.flatMap((folder) => globSync(`${folder}/**/*.{ts,js}`, { cwd: root })).filter(
    (file) => !seen.has(file),
  );
}

if (import.meta.main) {
  const root = resolve(import.meta.dirname, '..');
  const report = await checkImports(root);
  const problems = [
    ...report.violations,
    ...missed(root, report).map((file) => `not cruised: ${file}`),
  ];
  const { length } = report.modules;
  if (length < MIN_MODULES) problems.push(`${length} modules cruised, fewer than ${MIN_MODULES}`);
  if (report.dependencies === 0) problems.push('no import found in any module');
  for (const problem of problems) console.error(problem);
  console.log(`${length} modules, ${report.dependencies} imports, ${problems.length} problems`);
  if (problems.length > 0) process.exitCode = 1;
}
