import { accessSync, closeSync, constants, openSync, readSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The program cannot run on the bridge; the message says why. */
export class ProgramError extends Error {
  override readonly name = 'ProgramError';
  /** What the command that cannot run it exits with: as a shell, 127 (none) and 126; else 2. */
  readonly exitCode: 2 | 126 | 127;
  constructor(message: string, exitCode: 2 | 126 | 127 = 2) {
    super(message);
    this.exitCode = exitCode;
  }
}

const ELF_MAGIC = 0x464c457f;
const ELF_CLASS_64 = 2;
const ELF_MACHINE_X86_64 = 62;
const PT_INTERP = 3;
const HEADER_BYTES = 4096;
const SET_ID_BITS = 0o6000;
/** Interpreters of interpreters, as the kernel allows them. */
const MAX_INTERPRETERS = 4;

/**
 * Finds a program as execvp does and checks that a library can be preloaded into it: dynamically
 * linked, not set-uid. A script counts by its interpreter. @throws ProgramError
 */
export function checkProgram(name: string, path: string = process.env['PATH'] ?? ''): string {
  const found = find(name, path);
  check(found, found, MAX_INTERPRETERS);
  return found;
}

function find(name: string, path: string): string {
  const places = name.includes('/') ? [name] : path.split(delimiter).map((dir) => join(dir, name));
  let denied: string | undefined;
  for (const place of places) {
    try {
      if (!statSync(place).isFile()) continue;
      accessSync(place, constants.X_OK);
      return place;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EACCES') denied = place;
    }
  }
  if (denied !== undefined) throw new ProgramError(`${denied} is not executable`, 126);
  throw new ProgramError(`there is no program ${name}`, 127);
}

function check(shown: string, path: string, interpreters: number): void {
  const { mode, uid } = statSync(path);
  if ((mode & SET_ID_BITS) !== 0 && uid !== process.geteuid?.()) {
    throw new ProgramError(`${shown} is set-uid or set-gid: nothing can be preloaded into it`);
  }
  if ((mode & SET_ID_BITS) !== 0) {
    throw new ProgramError(`${shown} has the set-uid or set-gid bit: run a copy without it`);
  }
  const bytes = head(path);
  const script = /^#![ \t]*(\S+)/.exec(bytes.toString('latin1', 0, 256));
  if (script !== null && interpreters > 0) {
    check(shown, script[1]!, interpreters - 1);
    return;
  }
  if (bytes.length < 64 || bytes.readUInt32LE(0) !== ELF_MAGIC) {
    throw new ProgramError(`${shown} is not a program that Linux can run by itself`);
  }
  if (bytes[4] !== ELF_CLASS_64 || bytes.readUInt16LE(18) !== ELF_MACHINE_X86_64) {
    throw new ProgramError(`${shown} is not a 64-bit x86 program`);
  }
  if (!hasInterpreter(bytes)) {
    throw new ProgramError(`${shown} is statically linked: nothing can be preloaded into it`);
  }
}

function hasInterpreter(bytes: Buffer): boolean {
  const table = Number(bytes.readBigUInt64LE(32));
  const size = bytes.readUInt16LE(54);
  const count = bytes.readUInt16LE(56);
  for (let i = 0; i < count; i++) {
    const at = table + i * size;
    if (at + 4 > bytes.length) break;
    if (bytes.readUInt32LE(at) === PT_INTERP) return true;
  }
  return false;
}

function head(path: string): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    throw new ProgramError(`${path} cannot be read to see how it is linked`);
  }
  try {
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, 0));
  } finally {
    closeSync(fd);
  }
}
