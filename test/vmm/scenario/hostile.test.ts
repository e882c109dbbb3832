/** Guests that mean harm: they harm themselves, and leave nothing behind. */
import test from 'ava';
import { decodeDescriptor, encodeDescriptor } from '../../../devices/spec/dsa/descriptor.ts';
import { Opcode } from '../../../devices/spec/dsa/opcodes.ts';
import { decodeIa32Pasid, encodeIa32Pasid, IA32_PASID } from '../../../devices/spec/msr.ts';
import { PASID_CACHE_GRANULARITY, pasidCacheDesc } from '../../../devices/spec/vtd/invalidation.ts';
import { PGTT, pasidEntry } from '../../../devices/spec/vtd/pasid.ts';
import type { Cpu } from '../../../guest/cpu.ts';
import { bootGuest } from '../../../guest/kernel.ts';
import { Tracer } from '../../../trace/tracer.ts';
import { AT, Hostile, hostileGuest, type Steps } from '../../../vmm/scenario/hostile-guest.ts';
import type { Vcpu } from '../../../vmm/vcpu.ts';
import { MAX_ATTACHED } from '../../../vmm/viommu/pasid.ts';
import { isSame, NOTHING, type Rig } from './rig.ts';
import { type Guest, pattern, startVms, type Vms } from './vms.ts';

const MIB = 2 ** 20;
const INPUT = pattern(9000);

/** Runs to the end; how many events there were. More than `limit` is an endless loop. */
function settle(rig: Rig, limit: number): number {
  const { clock, scheduler } = rig.machine;
  let steps = 0;
  while (clock.step()) if (++steps > limit) throw new Error(`no end after ${limit} events`);
  scheduler.rethrow();
  return steps;
}

/** The guest's CPU with some of its instructions replaced. */
function tampered(cpu: Vcpu, change: Partial<Cpu>): Cpu {
  const changed = change as Record<PropertyKey, unknown>;
  return new Proxy<Cpu>(cpu, {
    get(target, key) {
      if (key in changed) return changed[key];
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** The real guest kernel, with two processes, on such a CPU; and an honest VM beside it. */
function runTampered(change: (cpu: Vcpu) => Partial<Cpu>, limit = 100_000): Vms {
  const tracer = new Tracer(() => 0);
  const guest: Guest = (cpu) => bootGuest(tampered(cpu, change(cpu)), tracer);
  const world = startVms({ guests: [guest, undefined], input: INPUT, procs: 2 });
  settle(world.rig, limit);
  return world;
}

test('a program that writes a PASID into its descriptor is ended by #GP', (t) => {
  let first = -1;
  const lies: number[] = [];
  const { rig, vms } = runTampered((cpu) => ({
    enqcmd: (address, descriptor) => {
      const own = decodeIa32Pasid(cpu.rdmsr(IA32_PASID));
      if (own === undefined) return cpu.enqcmd(address, descriptor);
      if (first < 0) first = own;
      if (own === first) return cpu.enqcmd(address, descriptor);
      const lie = descriptor.slice();
      lie[0] = first;
      const result = cpu.enqcmd(address, lie);
      lies.push(Number(result));
      return result;
    },
  }));
  t.true(lies.length > 0);
  t.true(lies.every((result) => result === -1));
  const [hostile, other] = vms;
  t.is(hostile!.result?.code, 1);
  t.is(hostile!.result!.outputs.filter((output) => output === null).length, 1);
  t.is(hostile!.result!.outputs.filter((output) => output !== null).length, 1);
  t.true(isSame(hostile!.result!.outputs.find((output) => output !== null)!, INPUT));
  t.is(other!.result?.code, 0);
  t.deepEqual(rig.kernel.leftovers(), NOTHING);
});

test('a process under a PASID that nobody bound moves no byte; the others are as ever', (t) => {
  let first = -1;
  const { rig, vms } = runTampered(
    (cpu) => ({
      wrmsr: (index, value) => {
        const pasid = decodeIa32Pasid(value);
        if (index !== IA32_PASID || pasid === undefined) {
          cpu.wrmsr(index, value);
          return;
        }
        if (first < 0) first = pasid;
        cpu.wrmsr(index, pasid === first ? value : encodeIa32Pasid(0xf_ffff));
      },
    }),
    // No record can be written, so the program polls for the 12 s after which it counts as lost.
    20_000_000,
  );
  const [hostile, other] = vms;
  t.is(hostile!.result?.code, 1, 'the guest ends, and says that a program failed');
  const outputs = hostile!.result!.outputs.map(
    (output) => output !== null && isSame(output, INPUT),
  );
  t.deepEqual(outputs.sort(), [false, true]);
  t.is(hostile!.result!.outputs.filter((output) => output === null).length, 1);
  t.is(other!.result?.code, 0);
  t.deepEqual(rig.kernel.leftovers(), NOTHING);
});

test("a process that names another process's addresses gets a fault and not one byte", (t) => {
  const sources = new Map<bigint, bigint>();
  let stolen = 0;
  const { rig, vms } = runTampered((cpu) => {
    return {
      enqcmd: (address, descriptor) => {
        const pasid = cpu.rdmsr(IA32_PASID);
        const d = decodeDescriptor(descriptor);
        if (d.opcode === Opcode.MEMMOVE && pasid !== 0n) {
          sources.set(pasid, d.source);
          const [victim] = sources;
          if (victim !== undefined && victim[0] !== pasid) {
            stolen++;
            return cpu.enqcmd(address, encodeDescriptor({ ...copyOf(d), source: victim[1] }));
          }
        }
        return cpu.enqcmd(address, descriptor);
      },
    };
  });
  t.true(stolen > 0);
  const [hostile, other] = vms;
  t.is(hostile!.result?.code, 1);
  const good = hostile!.result!.outputs.filter(
    (output) => output !== null && isSame(output, INPUT),
  );
  t.is(good.length, 1, 'the victim has what it should');
  t.is(hostile!.result!.outputs.filter((output) => output === null).length, 1);
  t.is(other!.result?.code, 0);
  t.deepEqual(rig.kernel.leftovers(), NOTHING);
});

/** The fields that a MEMMOVE has. */
function copyOf(d: ReturnType<typeof decodeDescriptor>): Parameters<typeof encodeDescriptor>[0] {
  const { opcode, flags, completion, destination, size, interruptHandle } = d;
  return { opcode, flags, completion, destination, size, interruptHandle };
}

/** A program of the host that has nothing to do with any VM; its memory must stay as it is. */
function bystander(rig: Rig): () => boolean {
  const user = rig.user('bystander');
  const bytes = pattern(256 * 1024);
  const address = user.map(bytes.length);
  user.write(address, bytes);
  return () => {
    const same = isSame(user.read(address, bytes.length), bytes);
    user.process.kill();
    rig.machine.clock.run();
    return same;
  };
}

for (const seed of [1, 2, 3, 4, 5, 6, 7, 8]) {
  test(`thousands of random hostile acts, seed ${seed}`, (t) => {
    const operations = 2500;
    const ramBytes = 4 * MIB;
    const tally = { accepted: 0 };
    const hostile: Guest = (cpu) => hostileGuest(cpu, { ramBytes, seed, operations }, tally);
    const { rig, vms } = startVms({
      guests: [hostile, undefined],
      input: INPUT,
      seed,
      guestBytes: ramBytes,
    });
    const untouched = bystander(rig);
    settle(rig, 100 * operations);
    const [bad, good] = vms;
    t.is(bad!.result?.code, 7, 'it ran to its power-off');
    t.is(bad!.result?.crash, undefined);
    t.true(tally.accepted > 0, 'the device took work from it');
    t.is(good!.result?.code, 0);
    t.true(isSame(good!.result!.outputs[0]!, INPUT));
    t.true(untouched());
    t.deepEqual(rig.kernel.leftovers(), NOTHING);
  });
}

test('a VMM killed in the middle of a hostile guest leaves nothing', (t) => {
  const ramBytes = 4 * MIB;
  for (let k = 300; k < 9000; k += 600) {
    const { rig, vms } = startVms({
      guests: [(cpu) => hostileGuest(cpu, { ramBytes, seed: k, operations: 600 })],
      input: INPUT,
      guestBytes: ramBytes,
    });
    for (let i = 0; i < k; i++) rig.machine.clock.step();
    vms[0]!.process.kill();
    settle(rig, 100_000);
    t.deepEqual(rig.kernel.leftovers(), NOTHING, `killed after ${k} events`);
  }
});

/** Runs `acts` on a unit that is on, then powers off. */
function alone(acts: (me: Hostile) => Steps, ramBytes = 4 * MIB): Guest {
  return function* guest(cpu) {
    const me = new Hostile(cpu, ramBytes, 1);
    yield* me.bringUp();
    yield* me.enableUnit();
    yield* acts(me);
    yield { kind: 'shutdown', code: 7 };
    return 7;
  };
}

function runAlone(acts: (me: Hostile) => Steps, limit = 200_000): Vms {
  const world = startVms({ guests: [alone(acts)], input: INPUT, guestBytes: 4 * MIB });
  settle(world.rig, limit);
  return world;
}

const ALL = pasidCacheDesc({ granularity: PASID_CACHE_GRANULARITY.GLOBAL });

test('a PASID table that is full of valid entries ends at a limit, and all of it goes', (t) => {
  let most = 0;
  const world: Vms = startVms({
    guests: [
      alone(function* fill(me) {
        for (let pasid = 0; pasid < 64 * 64; pasid++) {
          const entry = pasidEntry.encode({
            P: 1,
            PGTT: PGTT.FIRST_STAGE,
            DID: 2,
            FSPTPTR: 0x1000,
          });
          me.words(AT.TABLES + pasid * pasidEntry.bytes, entry);
        }
        // The same tables again and again, for 2^20 PASIDs.
        for (let i = 0; i < 512; i++) {
          me.cpu.write64(AT.DIRECTORY + 8 * i, BigInt(AT.TABLES + 4096 * (i % 64)) | 1n);
        }
        yield* me.queue(ALL);
        most = world.rig.kernel.leftovers().pasidEntries;
      }),
    ],
    input: INPUT,
    guestBytes: 4 * MIB,
  });
  settle(world.rig, 2_000_000);
  t.is(world.vms[0]!.result?.code, 7);
  t.true(most > 1000 && most <= MAX_ATTACHED, `${most} PASIDs at once`);
  t.deepEqual(world.rig.kernel.leftovers(), NOTHING);
});

test('queues and root tables outside RAM stop the virtual unit and nothing else', (t) => {
  const places = [4 * MIB, 0xb000_0000, 0xfed9_0000, 0xfee0_0000, 2 ** 45, 2 ** 46, 2 ** 52 - 4096];
  const { rig, vms } = runAlone(function* acts(me) {
    for (const place of places) {
      for (const register of [0x90, 0x20, 0xd0, 0xb8]) {
        yield* me.unit(0x18, 4, 0);
        yield* me.unit(register, 8, BigInt(place) | 0xc07n);
        yield* me.unit(0x18, 4, 0x4500_0000);
        yield* me.unit(0x18, 4, 0xc600_0000);
        yield* me.unit(0x88, 8, 0x7_ffe0);
        yield* me.unit(0x88, 8, 0x20);
        for (let n = 0; n < 4; n++) me.submit();
        yield { kind: 'pause', ns: 50_000 };
      }
      yield* me.restartQueue();
      yield* me.queue(ALL);
    }
  });
  t.is(vms[0]!.result?.code, 7);
  t.deepEqual(rig.kernel.leftovers(), NOTHING);
});

test('a table that points at itself, a ring of tables: walks end', (t) => {
  const { rig, vms } = runAlone(function* acts(me) {
    for (let i = 0; i < 512; i++)
      me.cpu.write64(AT.FIRST_STAGE + 8 * i, BigInt(AT.FIRST_STAGE) | 7n);
    for (let pasid = 0; pasid < 80; pasid++) {
      const entry = pasidEntry.encode({
        P: 1,
        PGTT: PGTT.FIRST_STAGE,
        DID: 2,
        FSPTPTR: AT.FIRST_STAGE,
      });
      me.words(AT.TABLES + pasid * pasidEntry.bytes, entry);
    }
    yield* me.queue(ALL);
    for (let n = 0; n < 200; n++) {
      me.submit();
      yield { kind: 'pause', ns: 20_000 };
    }
  });
  t.is(vms[0]!.result?.code, 7);
  t.deepEqual(rig.kernel.leftovers(), NOTHING);
});

test('accesses no CPU could make are ignored', (t) => {
  const { rig, vms } = runAlone(function* acts(me) {
    const odd = [-1, -4096, 0.5, NaN, Infinity, 2 ** 53, 2 ** 52 - 1, 0xfed9_0001, 1e300];
    for (const address of odd) {
      for (const size of [1, 2, 4, 8] as const) {
        yield* me.store(address, size, -1n);
        yield* me.store(address, size, 1n << 200n);
        yield* me.load(address, size);
        me.cpu.write64(address, 1n << 99n);
        me.cpu.read64(address);
        me.cpu.read32(address);
        me.cpu.write32(address, address);
        me.cpu.readBytes(address, new Uint8Array(16));
        me.cpu.writeBytes(address, new Uint8Array(16));
        me.cpu.copy(address, 0x2000, 64);
        me.cpu.copy(0x2000, address, 64);
        me.cpu.zero(address, 5000);
        me.cpu.setCr3(address, true);
        me.cpu.readVirtual(-1n, new Uint8Array(16));
        me.cpu.writeVirtual(1n << 70n, new Uint8Array(16));
        me.cpu.enqcmd(-64n, new Uint8Array(3));
        me.cpu.movdir64b(1n << 64n, new Uint8Array(100));
        yield { kind: 'pause', ns: address };
      }
    }
  });
  t.is(vms[0]!.result?.code, 7);
  t.is(vms[0]!.result?.crash, undefined);
  t.deepEqual(rig.kernel.leftovers(), NOTHING);
});

test('a guest whose code crashes ends like a triple fault, and nothing is left', (t) => {
  for (const after of [0, 1, 50, 400]) {
    const { rig, vms } = startVms({
      guests: [
        function* guest(cpu) {
          const ramBytes = 4 * MIB;
          let left = after;
          const run = hostileGuest(cpu, { ramBytes, seed: 9, operations: 5000 });
          let reply = 0n;
          for (;;) {
            if (left-- === 0) throw new Error('the guest is broken');
            const step = run.next(reply);
            if (step.done === true) return step.value;
            reply = yield step.value;
          }
        },
      ],
      input: INPUT,
      guestBytes: 4 * MIB,
    });
    settle(rig, 100_000);
    t.is(vms[0]!.result?.code, 255);
    t.is(vms[0]!.process.exitCode, 0, 'the VMM itself ended in order');
    t.deepEqual(rig.kernel.leftovers(), NOTHING);
  }
});
