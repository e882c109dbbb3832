/** An error the user can mend: one line on standard error, and the exit code. */
export class Refusal extends Error {
  /**
   * 2: the command line asks for something that cannot be; 1: the world refuses it. 126 and 127: the
   * program to run is not executable, is not there.
   */
  readonly exitCode: 1 | 2 | 126 | 127;
  constructor(exitCode: 1 | 2 | 126 | 127, message: string) {
    super(message);
    this.name = 'Refusal';
    this.exitCode = exitCode;
  }
}

/** Text that may hold anything (a path) as one line that does nothing to a terminal. */
export const oneLine = (text: string): string => text.trim().replace(/\p{Cc}+/gu, ' ');

/** The reason of a failed file operation, in words. */
export function whyNot(error: unknown): string {
  const code = (error as { code?: unknown }).code;
  switch (code) {
    case 'ENOENT':
      return 'no such file or directory';
    case 'EACCES':
    case 'EPERM':
      return 'permission denied';
    case 'EISDIR':
      return 'it is a directory';
    case 'ENOTDIR':
      return 'a part of the path is not a directory';
    case 'ENAMETOOLONG':
      return 'the name is too long';
    case 'EROFS':
      return 'the file system is read-only';
    case 'ENXIO':
      return 'nobody reads the pipe';
    case 'ENOSPC':
      return 'no space left on the device';
    default:
      return error instanceof Error ? error.message : String(error);
  }
}
