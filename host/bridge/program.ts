import { spawnSync } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { ERRNO } from '../uapi/errno.ts';
import type { Tools } from './build.ts';

/** The program cannot run on the bridge; the message says why. */
export class ProgramError extends Error {
  override readonly name = 'ProgramError';
  /** What the command exits with: as a shell, 127 (no program) and 126; 1: no host; else 2. */
  readonly exitCode: 1 | 2 | 126 | 127;
  constructor(message: string, exitCode: 1 | 2 | 126 | 127 = 2) {
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

/**
 * Checks that a program that `checkProgram` found is not one that file capabilities make a
 * privileged one, as set-uid does: for root they change nothing. @throws ProgramError
 */
export function checkPrivileges(
  { broker }: Tools,
  path: string,
  uid: number = process.getuid?.() ?? 0,
): void {
  if (uid === 0) return;
  const { status } = spawnSync(broker, ['--privileged', check(path, path, MAX_INTERPRETERS)]);
  if (status !== 0) return;
  throw new ProgramError(`${path} has file capabilities: nothing can be preloaded into it`);
}

/**
 * Checks that the programs of a user are served at a socket. @throws ProgramError with exit code 1,
 * and what statSync throws for a directory that cannot be searched
 */
export function checkServer(
  { broker }: Tools,
  socket: string,
  user: number = process.geteuid?.() ?? 0,
): void {
  const there = statSync(socket, { throwIfNoEntry: false });
  if (there?.isSocket() !== true) {
    throw new ProgramError(`no host listens at ${socket}: start one with vsva host --listen`, 1);
  }
  if (there.uid !== user)
    throw new ProgramError(`the host at ${socket} belongs to another user`, 1);
  const { status } = spawnSync(broker, ['--probe', socket]);
  if (status === 0) return;
  const why =
    status === ERRNO.ECONNREFUSED
      ? 'has ended: start one with vsva host --listen'
      : status === ERRNO.ETIMEDOUT
        ? 'does not answer'
        : 'does not let this program in';
  throw new ProgramError(`the host at ${socket} ${why}`, 1);
}

function find(name: string, path: string): string {
  const places = name.includes('/') ? [name] : path.split(delimiter).map((dir) => join(dir, name));
  let denied: string | undefined;
  for (const place of places) {
    try {
      const there = statSync(place);
      if (there.isDirectory() && places.length === 1 && name.includes('/')) {
        throw new ProgramError(`${place} is a directory`, 126);
      }
      if (!there.isFile()) continue;
      accessSync(place, constants.X_OK);
      return place;
    } catch (error) {
      if (error instanceof ProgramError) throw error;
      if ((error as NodeJS.ErrnoException).code === 'EACCES') denied = place;
    }
  }
  if (denied !== undefined) throw new ProgramError(`${denied} is not executable`, 126);
  throw new ProgramError(`there is no program ${name}`, 127);
}

/** @returns the file that is executed: the program, or its interpreter */
function check(shown: string, path: string, interpreters: number): string {
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
    return check(shown, interpreter(shown, script[1]!), interpreters - 1);
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
  return path;
}

/** A script's interpreter, which is not searched for. @throws ProgramError as a shell has it */
function interpreter(shown: string, path: string): string {
  const refuse = (why: string, exitCode: 126 | 127): never => {
    throw new ProgramError(`${shown}: its interpreter ${path} ${why}`, exitCode);
  };
  try {
    if (!statSync(path).isFile()) refuse('is not a file', 126);
    accessSync(path, constants.X_OK);
    return path;
  } catch (error) {
    if (error instanceof ProgramError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    return code === 'EACCES' ? refuse('is not executable', 126) : refuse('is not there', 127);
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
