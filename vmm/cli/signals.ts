import { readFileSync } from 'node:fs';
import { constants } from 'node:os';

const PASSED = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const;

/** What a process that is sent it is asked to end by. */
export type EndingSignal = (typeof PASSED)[number];

/** SIGRTMIN of libc: the broker is told of signal n with SIGRTMIN + n (host/bridge/preload/broker.c). */
const SIGRTMIN = 34;

/** Signals that would end this process go to `pass` instead, until it is disposed of. */
export function passSignals(pass: (signal: EndingSignal) => void): Disposable {
  const listeners = PASSED.map((signal) => [signal, (): void => pass(signal)] as const);
  for (const [signal, listener] of listeners) process.on(signal, listener);
  return {
    [Symbol.dispose]: () => {
      for (const [signal, listener] of listeners) process.off(signal, listener);
    },
  };
}

/** The number that tells the broker of a signal. */
export const toldAs = (signal: EndingSignal): number => SIGRTMIN + constants.signals[signal];

/** Sends a signal, by name or by number, to a process that may have ended. */
export function send(pid: number, signal: NodeJS.Signals | number): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

/** Whether a signal that a key makes came from the terminal, to all that run in its foreground. */
export function cameToAll(signal: EndingSignal): boolean {
  if (signal !== 'SIGINT' && signal !== 'SIGQUIT') return false;
  const stat = readFileSync('/proc/self/stat', 'latin1');
  // The name before it may hold anything, parentheses too: state, ppid, pgrp, session, tty, tpgid.
  const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return group === foreground;
}
