/** Whatever a guest writes into registers, tables and queues, nothing is thrown and work is bounded. */
import test from 'ava';

import { AT } from '../../../devices/pci/fabric.ts';
import { Tracer } from '../../../trace/tracer.ts';
import { Bench, SID, TestMemory } from './bench.ts';
import { Tables } from './tables.ts';

const BYTES = 1 << 16;

function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** Registers that matter, more often than chance would hit them. */
const REGISTERS = [
  0x18, 0x20, 0x24, 0x28, 0x2c, 0x34, 0x38, 0x88, 0x90, 0x94, 0x9c, 0xa0, 0xb8, 0xc0, 0xc8, 0xd0,
  0xdc, 0xe0, 0x500, 0x504, 0x508, 0x50c, 0x608, 0x60c,
] as const;

const QUEUE = 0x3000n;

/** Sound structures, PASIDs 1 (first stage), 2 (nested) and 3 (second stage), and a queue page. */
function sound(memory: TestMemory): bigint {
  const tables = new Tables(memory, 0x4000);
  const page = (): bigint => {
    const at = tables.page();
    for (let i = 0n; i < 4096n; i += 8n) tables.write(at + i, 0n);
    return at;
  };
  const root = page();
  const rootEntry = tables.rootEntry(root, SID);
  tables.write(rootEntry, page() | 1n);
  const directory = page();
  const pasids = page();
  tables.write(directory, pasids | 1n);
  const context = tables.contextAddress(root, SID);
  tables.write(context + 8n, 0n);
  tables.write(context, directory | 0x41dn);
  const fs = page();
  const ss = page();
  for (let n = 0n; n < 8n; n++) {
    tables.map(ss, 4, n * 4096n, (n * 4096n) | 3n, 3n, 1, undefined, page);
    tables.map(fs, 4, n * 4096n, (n * 4096n) | 0x67n, 0x67n, 1, undefined, page);
  }
  tables.map(ss, 4, 0n, 0x83n, 3n, 2, undefined, page);
  tables.pasid(directory, 1, { fs });
  tables.pasid(directory, 2, { pgtt: 3, fs, ss, did: 2 });
  tables.pasid(directory, 3, { pgtt: 2, ss, did: 3, ssade: true });
  tables.pasid(directory, 0, { pgtt: 4, did: 4 });
  const kinds = [0x11n, 0x12n, 0x1_0002_0026n, 0x37n, 0x1_0108_0008n, 0x5_0108_0019n, 0x75n];
  for (let n = 0n; n < 128n; n++) {
    const at = QUEUE + n * 32n;
    tables.write(at, kinds[Number(n) % kinds.length]!);
    for (const word of [8n, 16n, 24n]) tables.write(at + word, 0n);
  }
  return root;
}

for (const traced of [false, true]) {
  test(`a hostile guest${traced ? ', watched' : ''}`, (t) => {
    const roll = random(traced ? 77 : 42);
    let done = 0;
    let walks = 0;
    for (let round = 0; round < 60; round++) {
      const buffer = new ArrayBuffer(BYTES);
      const words = new Uint32Array(buffer);
      // Mostly small pointers with low bits set, so that the walks get somewhere.
      for (let i = 0; i < words.length; i++) {
        const high = i % 2 === 1;
        words[i] = high ? (roll(20) === 0 ? roll(2 ** 31) : 0) : roll(20) * 4096 + roll(4096);
      }
      const memory = new TestMemory(BYTES, round % 2 === 0, buffer);
      const root = sound(memory);
      for (let i = roll(30); i > 0; i--) words[roll(words.length)] = roll(2 ** 31) * 2;
      const trace = new Tracer(() => 0);
      let events = 0;
      if (traced) trace.listen(() => events++);
      const forward = round % 3 === 0 ? { forward: (): boolean => roll(4) !== 0 } : {};
      const bench = new Bench({
        memory,
        trace,
        answers: roll(2) === 0,
        cap: { NFR: roll(4), CM: roll(2), FS5LP: 1, SAGAW: 0xe },
        ecap: { ADMS: 1 },
        ...forward,
      });
      for (let step = 0; step < 400; step++) {
        if (step % 100 === 0) {
          bench.w64(0x20, root | (1n << 10n));
          bench.w32(0x18, 0);
          bench.w64(0x88, 0n);
          bench.w64(0x90, QUEUE | (1n << 11n));
          bench.w32(0x34, 0x71);
          bench.w32(0x18, 0xc400_0000);
          bench.w32(0x88, 0x800);
        }
        const choice = roll(12);
        const vpn = roll(2) === 0 ? roll(64) : roll(2 ** 31) * 2 ** 21 + roll(2 ** 21);
        const pasid = roll(3) === 0 ? -1 : roll(3) === 0 ? roll(1 << 20) : roll(64);
        if (choice < 5) {
          const offset = roll(3) === 0 ? roll(0x1100) : REGISTERS[roll(REGISTERS.length)]!;
          const low = roll(3) === 0 ? roll(2 ** 31) * 2 + roll(2) : roll(16) * 4096 + roll(4096);
          const command = offset === 0x18 ? (roll(2) === 0 ? 0xc400_0000 : low) : low;
          const high = roll(4) === 0 ? BigInt(roll(2 ** 31)) : 0n;
          bench.unit.writeRegister(offset, roll(2) === 0 ? 4 : 8, BigInt(command) | (high << 32n));
        } else if (choice < 8) {
          const type = roll(2) === 0 ? AT.UNTRANSLATED : AT.TRANSLATION;
          bench.unit.translate(
            roll(4) === 0 ? roll(0x10000) : SID,
            pasid,
            roll(2) === 0,
            type,
            vpn,
            roll(2) === 0,
            roll(2) === 0,
          );
        } else if (choice === 8) {
          bench.unit.pageRequest(
            SID,
            pasid,
            roll(2) === 0,
            vpn,
            roll(2) === 0,
            roll(2) === 0,
            roll(2) === 0,
            roll(512),
          );
        } else if (choice === 9) {
          bench.unit.interruptRequest(SID, 0xfee0_0000 + roll(0x10_0000), roll(2 ** 31));
        } else if (choice === 10) {
          bench.unit.invalidateComplete(SID, roll(40));
          bench.unit.resume();
          bench.unit.translated(SID, vpn, roll(2) === 0);
        } else {
          bench.clock.run(roll(3000));
        }
      }
      done += bench.unit.stats.descriptors;
      walks += bench.unit.stats.loads;
      const before = bench.unit.stats.descriptors;
      bench.clock.run(100_000);
      t.true(bench.unit.stats.descriptors - before <= 1000, 'one descriptor in 100 ns at most');
      t.is(events > 0, traced);
    }
    t.true(done > 500, `${done} descriptors`);
    t.true(walks > 2000, `${walks} loads`);
  });
}
