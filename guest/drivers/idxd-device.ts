/** The accelerator's registers and commands (drivers/dma/idxd/device.c). */
import { statusName } from '../../devices/spec/dsa/completion.ts';
import { opcodeName } from '../../devices/spec/dsa/opcodes.ts';
import {
  CmdReg,
  CmdstsReg,
  cmdErrorName,
  commandName,
  DeviceState,
  DsaReg,
  Gensts,
  Intcause,
  Swerr0,
} from '../../devices/spec/dsa/registers.ts';
import { guest } from '../../trace/catalogue/guest.ts';
import type { Core } from '../core.ts';
import { GuestError } from '../errno.ts';
import { mmioRead, mmioRead32, mmioWrite } from '../mmio.ts';
import { Backoff, Mutex, Signal, sleep, type Task, WaitQueue, waitOn } from '../task.ts';

/** Polls of a command before interrupts work. */
const MAX_POLLS = 10_000;

export class IdxdDevice {
  readonly core: Core;
  /** Guest physical address of BAR0. */
  readonly registers: number;
  readonly #commandDone = new WaitQueue();
  readonly #interrupted = new Signal();
  readonly #lock = new Mutex();
  /** The last error of each PASID that no completion record could carry. */
  readonly #softwareErrors = new Map<number, string>();
  #commandCompleted = false;

  constructor(core: Core, registers: number) {
    this.core = core;
    this.registers = registers;
  }

  *read32(offset: number): Task<number> {
    return yield* mmioRead32(this.registers + offset);
  }

  *read64(offset: number): Task<bigint> {
    return yield* mmioRead(this.registers + offset, 8);
  }

  *write32(offset: number, value: number): Task {
    yield* mmioWrite(this.registers + offset, 4, value);
  }

  *write64(offset: number, value: bigint): Task {
    yield* mmioWrite(this.registers + offset, 8, value);
  }

  /** The handler of MSI-X vector 0: its thread does the work. */
  readonly onMiscInterrupt = (): void => {
    this.#interrupted.raise();
  };

  /** `errorSeen` is woken when a software error was recorded. */
  startMiscThread(errorSeen: WaitQueue): void {
    this.core.sched.spawn('irq/idxd-misc', this.#misc(errorSeen));
  }

  /** What the device reported about descriptors of `pasid` in SWERR, once; undefined for nothing. */
  takeSoftwareError(pasid: number): string | undefined {
    const error = this.#softwareErrors.get(pasid);
    this.#softwareErrors.delete(pasid);
    return error;
  }

  *#misc(errorSeen: WaitQueue): Task {
    while (true) {
      yield* this.#interrupted.wait();
      const cause = yield* this.read32(DsaReg.INTCAUSE);
      if (cause === 0) continue;
      yield* this.write32(DsaReg.INTCAUSE, cause);
      if ((cause & Intcause.SOFTWARE_ERROR) !== 0) {
        yield* this.#takeSwerr();
        errorSeen.wake();
      }
      if ((cause & Intcause.COMMAND) !== 0) {
        this.#commandCompleted = true;
        this.#commandDone.wake();
      }
    }
  }

  *#takeSwerr(): Task {
    const words: bigint[] = [];
    for (let i = 0; i < 4; i++) words.push(yield* this.read64(DsaReg.SWERR + 8 * i));
    yield* this.write64(DsaReg.SWERR, words[0]! & 3n);
    const swerr = Swerr0.decode(words[0]!);
    if (swerr.valid === 0) return;
    const what = `${statusName(swerr.error)} at 0x${words[2]!.toString(16)}`;
    this.#softwareErrors.set(swerr.pasid, `${what} of ${opcodeName(swerr.operation)}`);
  }

  /**
   * Runs a command and returns its result field. `interrupt` sleeps until vector 0 reports it,
   * otherwise the status is polled. Throws GuestError EIO with the error code's name unless it is
   * in `tolerated`; EIO for a halted device; ETIMEDOUT.
   */
  *command(
    command: number,
    operand: number,
    interrupt: boolean,
    tolerated: readonly number[] = [],
  ): Task<number> {
    yield* this.#lock.lock();
    try {
      const state = Gensts.decode(yield* this.read32(DsaReg.GENSTS)).state;
      if (state === DeviceState.HALTED) throw new GuestError('EIO', 'the accelerator has halted');
      const { trace, vm } = this.core;
      const name = commandName(command);
      this.#commandCompleted = false;
      const word = CmdReg.encode({ command, operand, interrupt: interrupt ? 1 : 0 });
      yield* this.write32(DsaReg.CMD, word);
      const status = interrupt ? yield* this.#sleep() : yield* this.#poll();
      trace.emit(guest.command, { vm, command: name, operand, status });
      const { error, result } = CmdstsReg.decode(status);
      if (error !== 0 && !tolerated.includes(error)) {
        throw new GuestError('EIO', `${name}: ${cmdErrorName(error)}`);
      }
      return result;
    } finally {
      this.#lock.unlock();
    }
  }

  *#sleep(): Task<number> {
    while (!this.#commandCompleted) yield* waitOn(this.#commandDone);
    return yield* this.read32(DsaReg.CMDSTS);
  }

  *#poll(): Task<number> {
    const backoff = new Backoff(200, 20_000);
    for (let poll = 0; poll < MAX_POLLS; poll++) {
      const status = yield* this.read32(DsaReg.CMDSTS);
      if (CmdstsReg.decode(status).active === 0) return status;
      yield* sleep(backoff.next());
    }
    throw new GuestError('ETIMEDOUT', 'the accelerator does not finish a command');
  }
}
