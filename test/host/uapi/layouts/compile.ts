/** Runs the C compiler over a generated file of assertions. */
import { spawnSync } from 'node:child_process';

/** gcc's verdict on C source text: null if it compiles, otherwise its messages. */
export function compileErrors(source: string, includeDirs: readonly string[]): string | null {
  const builtin = run(['-print-file-name=include'], '');
  const args = [
    '-x',
    'c',
    '-std=gnu11',
    '-Werror',
    '-fsyntax-only',
    '-ffreestanding',
    '-nostdinc',
    '-isystem',
    builtin.stdout.trim(),
    ...includeDirs.flatMap((dir) => ['-I', dir]),
    '-D__user=',
    '-D__EXPORTED_HEADERS__',
    '-',
  ];
  const result = run(args, source);
  return result.status === 0 ? null : result.stderr;
}

function run(
  args: readonly string[],
  input: string,
): { status: number; stdout: string; stderr: string } {
  const result = spawnSync('gcc', args, { input, encoding: 'utf8', maxBuffer: 1 << 26 });
  if (result.error !== undefined) {
    throw new Error(`cannot run gcc (${result.error.message}): install the package gcc`);
  }
  return { status: result.status ?? -1, stdout: result.stdout, stderr: result.stderr };
}
