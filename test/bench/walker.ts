/** The plain C walker (walker/walker.c), on the tables and requests of a unit of ours. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { NestedUnit, Requests } from './nested.ts';

const SOURCE = fileURLToPath(new URL('walker/walker.c', import.meta.url));
const PAGE = 4096;
const REQUEST_BYTES = 16;

/** Compiled by gcc -O2 into a temporary folder, where the dump of the memory is too. */
export class CWalker {
  readonly #folder = mkdtempSync(join(tmpdir(), 'vsva-walker-'));
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  /** `lists` are what `run` chooses from. */
  constructor({ ram, root }: NestedUnit, lists: readonly Requests[]) {
    const program = join(this.#folder, 'walker');
    execFileSync('gcc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', program, SOURCE]);
    const memory = join(this.#folder, 'memory');
    dump(ram.bytes, memory);
    const names = lists.map((list, n) => {
      const name = join(this.#folder, `requests${n}`);
      writeRequests(list, name);
      return name;
    });
    const child = spawn(program, [memory, `${root}`, ...names], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#process = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** Runs `count` translations of a list, going on where it was; returns the nanoseconds. */
  async run(list: number, count: number): Promise<number> {
    this.#process.stdin!.write(`${list} ${count}\n`);
    const line = await this.#lines.next();
    if (line.done === true) throw new Error('the C walker stopped');
    return Number(line.value.split(' ')[0]);
  }

  close(): void {
    this.#process.stdin!.end();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Writes memory into a file that has holes where the memory is empty. */
function dump(bytes: Uint8Array, path: string): void {
  const words = new Float64Array(bytes.buffer);
  const file = openSync(path, 'w');
  ftruncateSync(file, bytes.length);
  for (let at = 0; at < bytes.length; at += PAGE) {
    const page = words.subarray(at / 8, (at + PAGE) / 8);
    if (page.every((word) => word === 0)) continue;
    writeSync(file, bytes, at, PAGE, at);
  }
  closeSync(file);
}

function writeRequests({ sids, pasids, vpns }: Requests, path: string): void {
  const view = new DataView(new ArrayBuffer(vpns.length * REQUEST_BYTES));
  vpns.forEach((vpn, n) => {
    view.setInt32(n * REQUEST_BYTES, sids[n]!, true);
    view.setInt32(n * REQUEST_BYTES + 4, pasids[n]!, true);
    view.setBigUint64(n * REQUEST_BYTES + 8, BigInt(vpn), true);
  });
  const file = openSync(path, 'w');
  writeSync(file, view);
  closeSync(file);
}
