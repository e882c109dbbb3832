import { device } from '../../trace/catalogue/device.ts';
import type { Tracer } from '../../trace/tracer.ts';
import type { Clock } from '../clock.ts';
import {
  CMDSTS_ACTIVE,
  CmdError,
  CmdReg,
  CmdstsReg,
  commandName,
  DeviceState,
  DsaCommand,
  wqsOfMask,
} from '../spec/dsa/registers.ts';
import { WqState } from '../spec/dsa/tables.ts';
import { applyGroups, checkDevice, checkQueue, type PciControls } from './enable-checks.ts';
import { DSA_NS } from './model.ts';
import type { DsaState } from './state.ts';
import type { Work } from './work.ts';
import type { WorkQueue } from './work-queue.ts';

/** What the command engine needs of the device around it. */
export interface CommandHost {
  readonly name: string;
  readonly clock: Clock;
  readonly trace: Tracer;
  readonly state: DsaState;
  readonly pci: PciControls;
  /** Order number the next accepted descriptor will have. */
  readonly nextSequence: () => number;
  /** CMD was written while a command is active. */
  readonly overrun: () => void;
  /** A command with the interrupt bit is done. */
  readonly commandInterrupt: () => void;
  /** Reset Device: what is not in DsaState. */
  readonly resetDevice: () => void;
}

/** A command under way. */
interface ActiveCommand {
  readonly command: number;
  readonly operand: number;
  readonly interrupt: boolean;
  /** Trace cause of the write. */
  readonly cause: number;
  /** Null until the command has begun: what it waits for, and what it does then. */
  waits: { readonly matches: (work: Work) => boolean; readonly then: () => void } | null;
}

/**
 * CMD and CMDSTS. A command takes a while; one that drains or aborts is done when no descriptor it
 * is about is queued, with an engine or blocked on a page.
 */
export class Commands {
  #status = 0;
  #active: ActiveCommand | null = null;
  readonly #host: CommandHost;

  constructor(host: CommandHost) {
    this.#host = host;
  }

  /** CMDSTS. */
  get status(): number {
    return this.#status;
  }

  /** A write to CMD. */
  write(value: number): void {
    if (this.#active !== null) {
      this.#host.overrun();
      return;
    }
    const { command, operand, interrupt } = CmdReg.decode(value);
    const { cause } = this.#host.trace;
    const active = { command, operand, interrupt: interrupt !== 0, cause, waits: null };
    this.#active = active;
    this.#status = CMDSTS_ACTIVE;
    this.#host.clock.after(DSA_NS.COMMAND, () => {
      if (this.#active === active) this.#begin(active);
    });
  }

  /** Descriptors were finished: a waiting command looks again. */
  check(): void {
    const waits = this.#active?.waits ?? null;
    if (waits === null || this.#host.state.busy(waits.matches)) return;
    waits.then();
    this.#complete(CmdError.SUCCESS);
  }

  /** Function level reset: the active command is forgotten. */
  reset(): void {
    this.#active = null;
    this.#status = 0;
  }

  #begin(active: ActiveCommand): void {
    const error = this.#execute(active);
    if (error !== CmdError.SUCCESS || active.waits === null) this.#complete(error);
    else this.check();
  }

  #complete(error: number): void {
    const active = this.#active;
    if (active === null) return;
    this.#active = null;
    this.#status = CmdstsReg.encode({ error });
    const { trace, name } = this.#host;
    if (trace.on) {
      trace.cause = active.cause;
      trace.cause = trace.emit(device.command, {
        device: name,
        command: commandName(active.command),
        operand: active.operand,
        status: this.#status,
      });
    }
    if (active.interrupt) this.#host.commandInterrupt();
  }

  /** Carries a command out, or sets what it waits for. Returns the CMDSTS error. */
  #execute(active: ActiveCommand): number {
    const { state } = this.#host;
    if (state.state === DeviceState.HALTED) return CmdError.HARDWARE_ERROR;
    if (((state.caps.cmdcap >>> active.command) & 1) === 0) return CmdError.INVALID_COMMAND;
    switch (active.command) {
      case DsaCommand.ENABLE_DEVICE:
        return this.#enableDevice();
      case DsaCommand.DISABLE_DEVICE:
        return this.#disableDevice(active);
      case DsaCommand.RESET_DEVICE:
        return this.#resetDevice(active);
      case DsaCommand.ENABLE_WQ:
        return this.#enableQueue(active.operand);
      case DsaCommand.DISABLE_WQ:
      case DsaCommand.DRAIN_WQ:
      case DsaCommand.ABORT_WQ:
      case DsaCommand.RESET_WQ:
        return this.#queueCommand(active);
      default:
        return this.#workCommand(active);
    }
  }

  #enableDevice(): number {
    const { state, pci } = this.#host;
    const error = checkDevice(state, pci);
    if (error !== CmdError.SUCCESS) return error;
    applyGroups(state);
    state.state = DeviceState.ENABLED;
    return CmdError.SUCCESS;
  }

  #disableDevice(active: ActiveCommand): number {
    const { state } = this.#host;
    if (!state.enabled) return CmdError.DISABLE_DEVICE_NOT_ENABLED;
    state.state = DeviceState.DRAINING;
    for (const queue of state.queues) closeQueue(queue);
    active.waits = { matches: () => true, then: () => state.disable() };
    return CmdError.SUCCESS;
  }

  #resetDevice(active: ActiveCommand): number {
    const { state } = this.#host;
    for (const queue of state.queues) closeQueue(queue);
    const then = (): void => {
      state.disable();
      state.clearConfig();
      this.#host.resetDevice();
    };
    active.waits = { matches: () => true, then };
    state.abort(() => true);
    return CmdError.SUCCESS;
  }

  #enableQueue(operand: number): number {
    const { state, pci } = this.#host;
    if (!state.enabled) return CmdError.DEVICE_NOT_ENABLED;
    const queue = state.queues[operand];
    if (queue === undefined) return CmdError.INVALID_WQ_INDEX;
    const error = checkQueue(state, queue, pci);
    if (error === CmdError.SUCCESS) queue.enable();
    return error;
  }

  #queueCommand(active: ActiveCommand): number {
    const { state } = this.#host;
    const named = wqsOfMask(active.operand);
    const queues = named.flatMap((index) => state.queues[index] ?? []);
    if (named.length === 0 || queues.length !== named.length) return CmdError.INVALID_WQ_INDEX;
    const allOn = queues.every((queue) => queue.state === WqState.ENABLED);
    if (!state.enabled || !allOn) return CmdError.WQ_NOT_ENABLED;
    const { command } = active;
    const closes = command === DsaCommand.DISABLE_WQ || command === DsaCommand.RESET_WQ;
    if (closes) queues.forEach(closeQueue);
    const matches = this.#before((work) => named.includes(work.client.wq));
    const then = (): void => {
      for (const queue of closes ? queues : []) queue.state = WqState.DISABLED;
      for (const queue of command === DsaCommand.RESET_WQ ? queues : []) queue.clearConfig();
    };
    active.waits = { matches, then };
    const aborts = command === DsaCommand.ABORT_WQ || command === DsaCommand.RESET_WQ;
    if (aborts) state.abort(matches);
    return CmdError.SUCCESS;
  }

  /** Drain and abort, of everything or of a PASID. */
  #workCommand(active: ActiveCommand): number {
    const { state } = this.#host;
    if (!state.enabled) return CmdError.DEVICE_NOT_ENABLED;
    const { command, operand } = active;
    const ofPasid = command === DsaCommand.DRAIN_PASID || command === DsaCommand.ABORT_PASID;
    const matches = this.#before((work) => !ofPasid || work.client.pasid === operand);
    active.waits = { matches, then: () => undefined };
    const aborts = command === DsaCommand.ABORT_ALL || command === DsaCommand.ABORT_PASID;
    if (aborts) state.abort(matches);
    return CmdError.SUCCESS;
  }

  /** Restricts to descriptors accepted so far, so that new ones cannot hold a drain up. */
  #before(matches: (work: Work) => boolean): (work: Work) => boolean {
    const limit = this.#host.nextSequence();
    return (work) => work.sequence < limit && matches(work);
  }
}

/** The queue takes no more and is off once it is empty. */
function closeQueue(queue: WorkQueue): void {
  if (queue.state === WqState.ENABLED) queue.state = WqState.BUSY;
}
