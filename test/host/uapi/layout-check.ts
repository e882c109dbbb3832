/**
 * `npm run check:layouts`: holds our declarations against the headers of the Linux source that
 * Debian packages. Exits 1 if an assertion fails (with gcc's message) or the source is missing.
 * Names newer than that source are listed, never dropped silently.
 */
import { renderC } from './layouts/claims.ts';
import { compileErrors } from './layouts/compile.ts';
import { dsaChecks } from './layouts/dsa.ts';
import { KERNEL_VERSION, KernelSourceError, kernelSource } from './layouts/kernel-source.ts';
import { pciCheck } from './layouts/pci.ts';
import type { Check } from './layouts/uapi.ts';
import { uapiChecks } from './layouts/uapi.ts';
import { vtdCheck } from './layouts/vtd.ts';

function main(): number {
  const kernel = kernelSource();
  const checks = [...uapiChecks(kernel), pciCheck(kernel), ...dsaChecks(kernel), vtdCheck(kernel)];
  const failures = checks.flatMap(({ source, checked }) => {
    const errors = compileErrors(renderC(source, checked.claims), kernel.includeDirs);
    return errors === null ? [] : [errors];
  });
  if (failures.length > 0) {
    console.error(failures.join('\n'));
    console.error('layouts: the assertions above fail');
    return 1;
  }
  report(checks);
  return 0;
}

function report(checks: readonly Check[]): void {
  let held = 0;
  let absent = 0;
  for (const { source, checked } of checks) {
    held += checked.claims.length;
    const missing = checked.absent.reduce((n, entry) => n + entry.claims, 0);
    absent += missing;
    if (missing === 0) continue;
    const names = checked.absent.map(({ what, claims }) =>
      claims > 1 ? `${what} (${String(claims)})` : what,
    );
    console.log(`${source.name}: not in ${KERNEL_VERSION}: ${String(missing)}`);
    console.log(`  ${names.join(', ')}`);
  }
  console.log(
    `layouts: ${String(held)} assertions hold, ${String(absent)} not in ${KERNEL_VERSION}`,
  );
}

try {
  process.exitCode = main();
} catch (error) {
  if (!(error instanceof KernelSourceError)) throw error;
  console.error(`layouts: ${error.message}`);
  process.exitCode = 1;
}
