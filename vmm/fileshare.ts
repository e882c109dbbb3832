import {
  FILESHARE_CLASS,
  FILESHARE_COMMAND,
  FILESHARE_DEVICE,
  FILESHARE_MAGIC,
  FILESHARE_REG,
  FILESHARE_REGISTERS_BYTES,
  FILESHARE_STATUS,
  FILESHARE_VENDOR,
  FILESHARE_WINDOW_BYTES,
} from '../devices/spec/fileshare.ts';
import { PciCommand, PciHeader } from '../devices/spec/pci.ts';
import type { Task, UserMemory } from '../host/syscall.ts';
import type { BarAllocator } from './bar-windows.ts';
import { BarWindows } from './bar-windows.ts';
import type { MemoryMap, MmioHandler } from './memory-map.ts';
import type { GuestPciFunction } from './pci-bus.ts';
import { EmulatedConfig } from './pci-config.ts';

export interface FileShareOptions {
  readonly rid: number;
  readonly map: MemoryMap;
  readonly memory: UserMemory;
  /** FILESHARE_WINDOW_BYTES of the VMM's memory. */
  readonly window: number;
  readonly input: Uint8Array;
  /** How many output files there are. */
  readonly outputs: number;
  readonly bars: BarAllocator;
}

const BAR = { REGISTERS: 0, WINDOW: 2 } as const;
const NAMES = new Map<number, string>(
  Object.entries(FILESHARE_REG).map(([name, offset]) => [offset, name]),
);

/** The file share of devices/spec/fileshare.ts: PCI function, registers and file access. */
export class FileShare implements GuestPciFunction, MmioHandler {
  readonly rid: number;
  readonly #options: FileShareOptions;
  readonly #config = new EmulatedConfig();
  readonly #windows: BarWindows;
  readonly #outputs: (Growing | null)[];
  #status: number = FILESHARE_STATUS.OK;
  #offset = 0n;
  #length = 0;
  #output = 0;

  constructor(options: FileShareOptions) {
    this.rid = options.rid;
    this.#options = options;
    this.#outputs = Array.from({ length: options.outputs }, () => null);
    this.#windows = new BarWindows(options.map);
    this.#defineConfig();
  }

  /** The output files; null for one that the guest never wrote. */
  results(): (Uint8Array | null)[] {
    return this.#outputs.map((output) => output?.contents() ?? null);
  }

  *configRead(offset: number, size: number): Task<number> {
    return this.#config.read(offset, size, 0);
  }

  *configWrite(offset: number, size: number, value: number): Task {
    this.#config.write(offset, size, value);
    this.#updateBars();
  }

  describe(offset: number): string {
    return `FS ${NAMES.get(offset) ?? `+0x${offset.toString(16)}`}`;
  }

  *read(offset: number, size: number): Task<bigint> {
    const word = offset - (offset % 8);
    const value =
      size === 8 || size === 4 ? this.#register(word) >> BigInt(8 * (offset - word)) : 0n;
    return BigInt.asUintN(8 * size, value);
  }

  *write(offset: number, size: number, value: bigint): Task {
    if (offset === FILESHARE_REG.OFFSET && size === 8) this.#offset = BigInt.asUintN(64, value);
    if (size !== 4) return;
    const low = Number(BigInt.asUintN(32, value));
    if (offset === FILESHARE_REG.OFFSET) {
      this.#offset = (this.#offset & ~0xffff_ffffn) | BigInt(low);
    } else if (offset === FILESHARE_REG.OFFSET + 4) {
      this.#offset = (this.#offset & 0xffff_ffffn) | (BigInt(low) << 32n);
    } else if (offset === FILESHARE_REG.LENGTH) this.#length = low;
    else if (offset === FILESHARE_REG.OUTPUT) this.#output = low;
    else if (offset === FILESHARE_REG.COMMAND) this.#status = this.#execute(low);
  }

  /** The registers of one aligned 64-bit word. */
  #register(word: number): bigint {
    const high = (value: number): bigint => BigInt(value) << 32n;
    switch (word) {
      case FILESHARE_REG.MAGIC:
        return BigInt(FILESHARE_MAGIC);
      case FILESHARE_REG.STATUS:
        return BigInt(this.#status);
      case FILESHARE_REG.FILE_SIZE:
        return BigInt(this.#options.input.length);
      case FILESHARE_REG.OFFSET:
        return this.#offset;
      case FILESHARE_REG.LENGTH:
        return BigInt(this.#length) | high(this.#output);
      default:
        return 0n;
    }
  }

  #execute(command: number): number {
    const { input, memory, window } = this.#options;
    if (command !== FILESHARE_COMMAND.READ && command !== FILESHARE_COMMAND.WRITE) {
      return FILESHARE_STATUS.BAD_COMMAND;
    }
    const isInside = this.#offset + BigInt(this.#length) <= BigInt(input.length);
    if (this.#length > FILESHARE_WINDOW_BYTES || !isInside) return FILESHARE_STATUS.OUT_OF_RANGE;
    const start = Number(this.#offset);
    if (command === FILESHARE_COMMAND.READ) {
      memory.write(window, input.subarray(start, start + this.#length));
      return FILESHARE_STATUS.OK;
    }
    if (this.#output >= this.#outputs.length) return FILESHARE_STATUS.BAD_OUTPUT;
    const output = (this.#outputs[this.#output] ??= new Growing(input.length));
    memory.read(window, output.range(start, this.#length));
    return FILESHARE_STATUS.OK;
  }

  #defineConfig(): void {
    const { bars, window } = this.#options;
    const config = this.#config;
    config.define(PciHeader.VENDOR_ID, 2, FILESHARE_VENDOR);
    config.define(PciHeader.DEVICE_ID, 2, FILESHARE_DEVICE);
    config.define(PciHeader.CLASS, 3, FILESHARE_CLASS);
    const enable = PciCommand.MEMORY | PciCommand.BUS_MASTER;
    config.define(PciHeader.COMMAND, 2, PciCommand.MEMORY, { writable: enable });
    config.defineBar(
      BAR.REGISTERS,
      FILESHARE_REGISTERS_BYTES,
      0,
      bars.take(FILESHARE_REGISTERS_BYTES),
    );
    config.defineBar(BAR.WINDOW, FILESHARE_WINDOW_BYTES, 0, bars.take(FILESHARE_WINDOW_BYTES));
    const registers = { kind: 'trap', bytes: FILESHARE_REGISTERS_BYTES, handler: this } as const;
    const memory = { kind: 'memory', bytes: FILESHARE_WINDOW_BYTES, hva: window } as const;
    this.#windows.define(BAR.REGISTERS, (start) => ({ ...registers, start }));
    this.#windows.define(BAR.WINDOW, (start) => ({ ...memory, start }));
    this.#updateBars();
  }

  #updateBars(): void {
    const decode = (this.#config.get(PciHeader.COMMAND, 2) & PciCommand.MEMORY) !== 0;
    this.#windows.update(decode, (bar) => this.#config.barAddress(bar));
  }
}

/** An output file that grows, up to a limit the caller keeps to. */
class Growing {
  readonly #limit: number;
  #bytes = new Uint8Array(0);
  #length = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** The bytes [start, start + length) to be filled in; a gap before them is zeros. */
  range(start: number, length: number): Uint8Array {
    const end = start + length;
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(Math.min(this.#limit, Math.max(end, 2 * this.#bytes.length)));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#length = Math.max(this.#length, end);
    return this.#bytes.subarray(start, end);
  }

  contents(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}
