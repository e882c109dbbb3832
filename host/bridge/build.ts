import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SOURCES = fileURLToPath(new URL('preload/', import.meta.url));
const CACHE = fileURLToPath(new URL('../../node_modules/.cache/vsva/', import.meta.url));

const FLAGS = ['-std=c11', '-O2', '-Wall', '-Wextra', '-Werror'];
const LIBRARY_FLAGS = ['-fPIC', '-shared', '-fvisibility=hidden'];

const BROKER_SOURCES = ['broker.c', 'endings.c', 'probe.c', 'watcher.c'];

const HEADERS = [
  'wire',
  'client',
  'window',
  'cpu',
  'decode',
  'vectors',
  'watcher',
  'endings',
  'probe',
].map((name) => `${name}.h`);

const LIBRARY_SOURCES = [
  'channel',
  'client',
  'fds',
  'calls',
  'paths',
  'window',
  'faults',
  'cpu',
  'decode',
  'vectors',
  'exec',
  'heap',
  'old-stat',
].map((name) => `${name}.c`);

/** The C parts of the bridge, built. Paths. */
export interface Tools {
  readonly library: string;
  readonly broker: string;
}

/** The C parts cannot be built; one line says why. */
export class BuildError extends Error {
  override readonly name = 'BuildError';
}

/** Builds what is not built yet from these sources. @throws BuildError */
export function buildTools(cache?: string): Tools {
  const sources = [...HEADERS, ...LIBRARY_SOURCES, ...BROKER_SOURCES];
  const hash = createHash('sha256').update([...FLAGS, ...LIBRARY_FLAGS].join(' '));
  for (const name of sources) hash.update(readFileSync(join(SOURCES, name)));
  const directory = join(cache ?? writableCache(), hash.digest('hex').slice(0, 16));
  const tools = { library: join(directory, 'libvsva.so'), broker: join(directory, 'broker') };
  if (!existsSync(tools.library)) {
    compile(LIBRARY_SOURCES, LIBRARY_FLAGS, directory, tools.library);
  }
  if (!existsSync(tools.broker)) compile(BROKER_SOURCES, [], directory, tools.broker);
  return tools;
}

/** Beside the program, or where that is another user's in this user's own cache. */
function writableCache(): string {
  try {
    mkdirSync(CACHE, { recursive: true });
    accessSync(CACHE, constants.W_OK);
    return CACHE;
  } catch {
    return join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'vsva');
  }
}

/** Made beside its place and moved there, so that nobody runs half of it. */
function compile(
  sources: readonly string[],
  flags: readonly string[],
  directory: string,
  output: string,
): void {
  const fresh = `${output}.${process.pid}`;
  const paths = sources.map((name) => join(SOURCES, name));
  try {
    mkdirSync(directory, { recursive: true });
    execFileSync('gcc', [...FLAGS, ...flags, '-o', fresh, ...paths], { stdio: 'pipe' });
    renameSync(fresh, output);
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: Buffer };
    if (code === 'ENOENT') {
      throw new BuildError('gcc is missing: the bridge for real programs is built with it');
    }
    const line = stderr?.toString().split('\n').find(Boolean);
    const why = line ?? (error instanceof Error ? error.message : String(error));
    throw new BuildError(`cannot build the bridge: ${why}`);
  }
}
