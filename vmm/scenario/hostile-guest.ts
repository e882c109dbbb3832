/** A guest that does what it should not, at random but the same way for the same seed. */

import { dsaCapabilities } from '../../devices/spec/dsa/capabilities.ts';
import { encodeDescriptor } from '../../devices/spec/dsa/descriptor.ts';
import { DescriptorFlag } from '../../devices/spec/dsa/opcodes.ts';
import { CmdReg, CmdstsReg, DsaCommand, DsaReg } from '../../devices/spec/dsa/registers.ts';
import { encodeWqcfg, Grpcfg } from '../../devices/spec/dsa/tables.ts';
import { encodeIa32Pasid, IA32_PASID } from '../../devices/spec/msr.ts';
import { ecamAddress, PciCommand, PciHeader } from '../../devices/spec/pci.ts';
import { contextEntry, rootEntry } from '../../devices/spec/vtd/context.ts';
import {
  ccDesc,
  iotlbDesc,
  pageGroupRespDesc,
  pasidCacheDesc,
  pasidIotlbDesc,
  waitDesc,
} from '../../devices/spec/vtd/invalidation.ts';
import { pasidEntry } from '../../devices/spec/vtd/pasid.ts';
import { GCMD, REG, RTADDR, TTM } from '../../devices/spec/vtd/registers.ts';
import { FS, levelIndex } from '../../devices/spec/x86/paging.ts';
import { Random } from '../../host/machine/random.ts';
import type { VmExit } from '../exit.ts';
import { GUEST_RID, LAYOUT } from '../layout.ts';
import type { Vcpu } from '../vcpu.ts';

export type Steps<T = void> = Generator<VmExit, T, bigint>;
type Size = 1 | 2 | 4 | 8;

/** Where the hostile guest keeps its things, above the firmware's. */
export const AT = {
  ROOT: 0x10_0000,
  CONTEXT: 0x10_1000,
  DIRECTORY: 0x10_2000,
  /** 64 pages: PASID tables for PASIDs 0 to 4095. */
  TABLES: 0x11_0000,
  QUEUE: 0x16_0000,
  REQUESTS: 0x16_1000,
  CPU_TABLES: 0x17_0000,
  FIRST_STAGE: 0x18_0000,
  DATA: 0x19_0000,
} as const;
const DIRECTORY_ENTRIES = 64;
const SLOTS = 128;
const CAPS = dsaCapabilities();
const PORTAL_VA = 0x4000_0000n;

export class Hostile {
  readonly cpu: Vcpu;
  readonly ramBytes: number;
  readonly random: Random;
  #tail = 0;
  /** BARs as the firmware placed them. */
  registers = 0;
  portals = 0;
  share = 0;

  constructor(cpu: Vcpu, ramBytes: number, seed: number) {
    this.cpu = cpu;
    this.ramBytes = ramBytes;
    this.random = new Random(seed);
  }

  *store(address: number, size: Size, value: bigint | number): Steps {
    yield { kind: 'mmio-write', address, size, value: BigInt(value) };
  }

  *load(address: number, size: Size): Steps<bigint> {
    return yield { kind: 'mmio-read', address, size };
  }

  *unit(offset: number, size: Size, value: bigint | number): Steps {
    yield* this.store(LAYOUT.VTD + offset, size, value);
  }

  u64(): bigint {
    return (BigInt(this.random.next()) << 32n) | BigInt(this.random.next());
  }

  pick<T>(list: readonly T[]): T {
    return list[this.random.below(list.length)]!;
  }

  /** Addresses worth trying: in RAM, at its edge, outside, in holes, beyond any width. */
  address(): bigint {
    const page = (n: number): bigint => BigInt(n) << 12n;
    return this.pick([
      page(this.random.below(this.ramBytes / 4096)),
      BigInt(this.ramBytes - 4096),
      BigInt(this.ramBytes),
      0xb000_0000n,
      BigInt(LAYOUT.VTD),
      0xfee0_0000n,
      0x1_0000_0000n,
      1n << 45n,
      1n << 46n,
      0xf_ffff_ffff_f000n,
      page(this.random.next()),
      0n,
    ]);
  }

  /** Reads the BARs, turns the device on and a shared work queue with every operation. */
  *bringUp(): Steps {
    const config = (rid: number, register: number): number =>
      ecamAddress(LAYOUT.ECAM, rid, register);
    const bar = function* (this: Hostile, rid: number, index: number): Steps<number> {
      const value = yield* this.load(config(rid, PciHeader.BAR0 + 4 * index), 4);
      return Number(value & 0xffff_fff0n);
    }.bind(this);
    this.registers = yield* bar(GUEST_RID.DEVICE, 0);
    this.portals = yield* bar(GUEST_RID.DEVICE, 2);
    this.share = yield* bar(GUEST_RID.FILE_SHARE, 0);
    const command = PciCommand.MEMORY | PciCommand.BUS_MASTER;
    yield* this.store(config(GUEST_RID.DEVICE, PciHeader.COMMAND), 2, command);
    yield* this.enableQueue();
    this.#mapPortal();
  }

  *enableQueue(): Steps {
    const words = encodeWqcfg({
      size: 16,
      threshold: 16,
      priority: 5,
      pasidEnable: 1,
      blockOnFault: 1,
      maxTransferShift: 21,
      maxBatchShift: 5,
      opConfig: (1n << 256n) - 1n,
    });
    for (const [i, word] of words.entries()) {
      yield* this.store(this.registers + CAPS.wqcfgOffset + 4 * i, 4, word);
    }
    yield* this.store(this.registers + CAPS.grpcfgOffset + Grpcfg.WQ_BITMAP, 8, 1);
    yield* this.store(this.registers + CAPS.grpcfgOffset + Grpcfg.ENGINE_BITMAP, 8, 0xf);
    const status = this.registers + DsaReg.CMDSTS;
    for (const one of [DsaCommand.ENABLE_DEVICE, DsaCommand.ENABLE_WQ]) {
      yield* this.store(this.registers + DsaReg.CMD, 4, CmdReg.encode({ command: one }));
      for (let i = 0; i < 20; i++) {
        if (CmdstsReg.decode(Number(yield* this.load(status, 4))).active === 0) break;
        yield { kind: 'pause', ns: 500 };
      }
    }
  }

  #mapPortal(): void {
    let table: number = AT.CPU_TABLES;
    for (let level = 4; level > 1; level--) {
      const below = table + 4096;
      this.cpu.write64(
        table + 8 * levelIndex(PORTAL_VA, level),
        BigInt(below) | FS.P | FS.RW | FS.US,
      );
      table = below;
    }
    const leaf = BigInt(this.portals) | FS.P | FS.RW | FS.US;
    this.cpu.write64(table + 8 * levelIndex(PORTAL_VA, 1), leaf);
    this.cpu.setCr3(AT.CPU_TABLES, false);
  }

  words(at: number, words: ArrayLike<bigint>): void {
    for (let i = 0; i < words.length; i++) this.cpu.write64(at + 8 * i, words[i]!);
  }

  /** Tables a unit would accept, with a directory of full tables, and the unit on. */
  *enableUnit(): Steps {
    this.words(AT.ROOT, rootEntry.encode({ LP: 1, LCTP: AT.CONTEXT }));
    const context = { P: 1, DTE: 1, PASIDE: 1, PRE: 1, PDTS: 7, PASIDDIRPTR: AT.DIRECTORY };
    this.words(AT.CONTEXT + GUEST_RID.DEVICE * contextEntry.bytes, contextEntry.encode(context));
    for (let i = 0; i < DIRECTORY_ENTRIES; i++) {
      this.cpu.write64(AT.DIRECTORY + 8 * i, BigInt(AT.TABLES + 4096 * i) | 1n);
    }
    yield* this.unit(REG.GCMD, 4, 0);
    this.#tail = 0;
    yield* this.unit(REG.FSTS, 4, 0x71);
    yield* this.unit(REG.IQT, 8, 0);
    yield* this.unit(REG.IQA, 8, BigInt(AT.QUEUE) | (1n << 11n));
    yield* this.unit(REG.PQA, 8, BigInt(AT.REQUESTS));
    yield* this.unit(REG.PQH, 8, 0);
    yield* this.unit(REG.PRS, 4, 3);
    yield* this.unit(REG.GCMD, 4, GCMD.QIE);
    const rtaddr = RTADDR.encode({ RTA: AT.ROOT, TTM: TTM.SCALABLE })[0]!;
    yield* this.unit(REG.RTADDR, 8, rtaddr);
    yield* this.unit(REG.GCMD, 4, (GCMD.QIE | GCMD.SRTP) >>> 0);
    yield* this.unit(REG.GCMD, 4, (GCMD.QIE | GCMD.TE) >>> 0);
  }

  /** Queues one 256-bit descriptor and rings the tail. */
  *queue(words: ArrayLike<bigint>): Steps {
    this.words(AT.QUEUE + 32 * this.#tail, words);
    this.#tail = (this.#tail + 1) % SLOTS;
    yield* this.unit(REG.IQT, 8, 32 * this.#tail);
  }

  /** The garbage PASID entry of any PASID, present more often than not. */
  garbageEntry(pasid: number): void {
    const at = AT.TABLES + pasid * pasidEntry.bytes;
    if (this.random.below(4) === 0) {
      for (let i = 0; i < pasidEntry.words; i++) this.cpu.write64(at + 8 * i, this.u64());
      return;
    }
    this.words(
      at,
      pasidEntry.encode({
        P: this.random.below(4) === 0 ? 0 : 1,
        PGTT: this.pick([1, 1, 1, 1, 2, 3, 4, 0, 7]),
        DID: this.random.below(8),
        FSPM: this.pick([0, 0, 0, 1, 2]),
        FSPTPTR: Number(this.address() & 0xf_ffff_ffff_f000n),
        SRE: this.random.below(2),
        SSPTPTR: this.random.below(2) === 0 ? 0 : AT.DATA,
      }),
    );
  }

  /** A well-formed descriptor about anything, or bits. */
  *garbageDescriptor(): Steps {
    const { random } = this;
    const did = random.below(8);
    const pasid = random.below(80);
    const address = Number(this.address() & 0xf_ffff_ffff_f000n);
    const isPage = random.below(2) === 0;
    const words = this.pick<() => ArrayLike<bigint>>([
      () => pasidCacheDesc({ granularity: this.pick([0, 1, 3]), did, pasid }),
      () => pasidCacheDesc({ granularity: 3 }),
      () => ccDesc({ granularity: this.pick([1, 2, 3]), did, sid: GUEST_RID.DEVICE }),
      () => iotlbDesc({ granularity: this.pick([1, 2, 3]), did, address, am: random.below(20) }),
      () =>
        isPage
          ? pasidIotlbDesc({ granularity: 3, did, pasid, address, am: random.below(64) })
          : pasidIotlbDesc({ granularity: 2, did, pasid }),
      () => waitDesc({ statusWrite: true, statusData: random.next(), statusAddress: address }),
      () => waitDesc({ drainPageRequests: true, interrupt: true }),
      () =>
        pageGroupRespDesc({
          rid: this.pick([GUEST_RID.DEVICE, random.below(65_536)]),
          pasidPresent: true,
          pasid,
          prgi: random.below(512),
          code: this.pick([0, 1, 15]),
        }),
      () => [this.u64(), this.u64(), 0n, 0n],
      () => [BigInt(random.below(16)) | (this.u64() & ~0xe0fn), this.u64(), this.u64(), 0n],
    ])();
    yield* this.queue(words);
  }

  /** The queue from the start again, as after an error. */
  *restartQueue(): Steps {
    yield* this.unit(REG.FSTS, 4, 0x71);
    yield* this.unit(REG.GCMD, 4, GCMD.TE);
    this.#tail = 0;
    yield* this.unit(REG.IQT, 8, 0);
    yield* this.unit(REG.IQA, 8, BigInt(AT.QUEUE) | (1n << 11n));
    yield* this.unit(REG.GCMD, 4, (GCMD.QIE | GCMD.TE) >>> 0);
  }

  /** A submission with any PASID, whose addresses are anything. */
  submit(): number {
    const any = this.random.below(80);
    const pasid = this.pick([any, any, this.random.below(4096), this.random.below(2 ** 20)]);
    this.cpu.wrmsr(
      IA32_PASID,
      this.pick([encodeIa32Pasid(pasid), encodeIa32Pasid(pasid), this.u64()]),
    );
    const flags = this.pick([
      DescriptorFlag.COMPLETION_VALID | DescriptorFlag.REQUEST_COMPLETION,
      DescriptorFlag.BLOCK_ON_FAULT |
        DescriptorFlag.COMPLETION_VALID |
        DescriptorFlag.REQUEST_COMPLETION,
      this.random.next() & 0xff_ffff,
    ]);
    const size = this.pick([64, 4096, 0x1_0000, this.random.next()]);
    const descriptor = encodeDescriptor({
      opcode: this.pick([0, 1, 2, 3, 4, 5, 6, 0x10, 0x11, this.random.below(256)]),
      flags,
      // ENQCMD refuses a descriptor that names a PASID itself.
      pasid: this.random.below(16) === 0 ? this.random.below(2 ** 20) : 0,
      source: this.address(),
      destination: this.address(),
      completion: this.address() | 0x40n,
      size,
      interruptHandle: this.random.below(16),
    });
    const result = this.cpu.enqcmd(PORTAL_VA, descriptor);
    return typeof result === 'number' ? result : -2;
  }

  /** One hostile act. */
  *act(): Steps {
    const { random } = this;
    switch (random.below(16)) {
      case 0:
        return yield* this.unit(4 * random.below(0x400), this.pick([4, 8]), this.u64());
      case 1:
        return yield* this.unit(
          this.pick([REG.IQA, REG.RTADDR, REG.PQA, REG.IRTA]),
          8,
          this.address() | (this.u64() & 0xfffn),
        );
      case 2:
        return yield* this.unit(REG.GCMD, 4, random.next());
      case 3:
        return yield* this.unit(
          this.pick([REG.IQT, REG.PQH, REG.FSTS, REG.PRS, REG.ICS]),
          8,
          this.u64() & this.pick([0xff0n, 0x7_fff0n, 0xffff_ffff_ffff_ffffn]),
        );
      case 4:
      case 5:
      case 6:
        if (random.below(3) === 0) yield* this.restartQueue();
        for (let i = random.below(4); i >= 0; i--) yield* this.garbageDescriptor();
        return;
      case 7:
        for (let i = random.below(8); i >= 0; i--) this.garbageEntry(random.below(80));
        return yield* this.queue([7n | (3n << 4n), 0n, 0n, 0n]);
      case 8: {
        const rid = this.pick([0, 8, 16, 24, random.below(256)]);
        const at = ecamAddress(LAYOUT.ECAM, rid, 4 * random.below(1024));
        return yield* this.store(at, this.pick([1, 2, 4, 8]), this.u64());
      }
      case 9: {
        const at = this.pick([8 * random.below(0x2000), 4 * random.below(0x100)]);
        return yield* this.store(this.registers + at, this.pick([4, 8]), this.u64());
      }
      case 10: {
        const command = random.below(16);
        const word = CmdReg.encode({ command, operand: random.below(2 ** 20), interrupt: 0 });
        return yield* this.store(this.registers + DsaReg.CMD, 4, word);
      }
      case 11: {
        const value = this.pick([1n, 2n, this.u64(), 0xffff_ffffn]);
        return yield* this.store(this.share + 4 * random.below(16), this.pick([4, 8]), value);
      }
      case 12:
        this.submit();
        return;
      case 13: {
        const at = Number(this.address()) + random.below(4096);
        yield* this.load(at, this.pick([1, 2, 4, 8]));
        return yield* this.store(at, this.pick([1, 2, 4, 8]), this.u64());
      }
      case 14:
        // Its own tables, under the eyes of the unit.
        this.cpu.write64(AT.ROOT + 8 * random.below(0xa_0000 / 8), this.u64());
        return;
      default:
        yield { kind: 'pause', ns: random.below(20_000) };
    }
  }
}

/** The guest program: `operations` acts, the unit set up anew now and then, then power-off. */
export function* hostileGuest(
  cpu: Vcpu,
  options: { readonly ramBytes: number; readonly seed: number; readonly operations: number },
  tally: { accepted: number } = { accepted: 0 },
): Steps<number> {
  const me = new Hostile(cpu, options.ramBytes, options.seed);
  yield* me.bringUp();
  for (let i = 0; i < options.operations; i++) {
    if (i % 200 === 0) {
      yield* me.enableUnit();
      yield* me.enableQueue();
      for (let pasid = 0; pasid < 80; pasid++) me.garbageEntry(pasid);
      yield* me.queue([7n | (3n << 4n), 0n, 0n, 0n]);
      for (let n = 0; n < 8; n++) if (me.submit() === 0) tally.accepted++;
    }
    yield* me.act();
  }
  yield { kind: 'shutdown', code: 7 };
  return 7;
}
