/** The guest kernel as user programs see it: instructions and system calls. */
import type { Task } from '../task.ts';

/** An opened shared work queue. */
export interface DeviceInfo {
  /** User address of the portal page. */
  readonly portal: number;
  readonly pasid: number;
  readonly maxTransferBytes: number;
  /** Entries of the queue. */
  readonly queueSize: number;
  readonly blockOnFault: boolean;
  /** What a descriptor names to get a completion interrupt. */
  readonly interruptHandle: number;
}

/**
 * Every member may throw GuestError: EFAULT is the fault that would kill the program, the others are
 * a system call's errno. Addresses are user virtual, page-aligned where pages are meant.
 */
export interface User {
  readonly pid: number;
  /** Bytes in the shared file. */
  readonly fileSize: number;

  /** Announces a step of the program; what happens until it is disposed belongs to it. */
  step(text: string): Disposable;
  /** Reports what the program found. */
  result(what: string, value: string): void;
  /** Reports a completion record it has seen. */
  completed(operation: string, status: string, bytes: number, crc: number): void;

  /** Loads and stores; missing pages come in. */
  load(address: number, into: Uint8Array): void;
  store(address: number, from: Uint8Array): void;
  /** One submission; false: the queue is full, try again. */
  enqcmd(address: number, descriptor: Uint8Array): boolean;

  readFile(address: number, count: number, position: number): Task;
  writeOutput(output: number, address: number, count: number): Task;
  /** Anonymous memory; `at` places it (MAP_FIXED over nothing). */
  mmap(bytes: number, what: string, at?: number): number;
  munmap(address: number, bytes: number): Task;
  /** Asks the kernel to move the process to another top-level page table. */
  moveRoot(): Task;
  openDevice(): Task<DeviceInfo>;
  closeDevice(): Task;
  /**
   * Sleeps until the next completion interrupt; look at the record before. EIO when the device
   * reported that it could not write a record of this process.
   */
  waitForCompletion(): Task;
  sleep(ns: number): Task;
}
