/**
 * The accelerator's data path beside a plain copy of the same bytes: one MEMMOVE's data through the
 * device-TLB, the fabric and the remapping unit, into memory whose pages are scattered.
 */
import { DeviceTlb } from '../../devices/dsa/device-tlb.ts';
import { DEFAULT_MODEL } from '../../devices/dsa/model.ts';
import { Landing, Transfer } from '../../devices/dsa/transfer.ts';
import { Translator } from '../../devices/dsa/translator.ts';
import { type Client, Work } from '../../devices/dsa/work.ts';
import { AT, type PciFunction } from '../../devices/pci/fabric.ts';
import { decodeDescriptor, encodeDescriptor } from '../../devices/spec/dsa/descriptor.ts';
import { Opcode } from '../../devices/spec/dsa/opcodes.ts';
import { PciCommand, PciHeader } from '../../devices/spec/pci.ts';
import { Sanitizer } from '../../devices/vtd/sanitizer/sanitizer.ts';
import { VirtualClock } from '../../host/machine/clock.ts';
import { InterruptController } from '../../host/machine/interrupts.ts';
import { Upstream } from '../../host/machine/upstream.ts';
import { Tracer } from '../../trace/tracer.ts';
import { FrameEncoder, inlineSlots } from '../../trace/wire/encoder.ts';
import type { BenchOptions, Case, Figure, Group } from './measure.ts';
import { against, interleaved } from './measure.ts';
import { type NestedUnit, nestedUnit, shuffle } from './nested.ts';

const PAGE = 4096;
const SIZES = [
  { key: '64', name: '64 B', bytes: 64 },
  { key: '4k', name: '4 KiB', bytes: 4096 },
  { key: '64k', name: '64 KiB', bytes: 2 ** 16 },
  { key: '2m', name: '2 MiB', bytes: 2 ** 21 },
] as const;
/** What the IOTLB surely holds. */
const PAGES = 2048;
const BYTES_PER_TURN = 2 ** 22;
/** What a MEMMOVE goes round in, at either side: as many pages as the device-TLB holds. */
const reach = (bytes: number): number => Math.max(bytes, 2 ** 19);
const callsOf = (bytes: number): number => Math.max(1, Math.min(1024, BYTES_PER_TURN / bytes));

export const dma: Group = {
  name: 'dma',
  about: 'data through the fabric and the unit beside a plain copyWithin of the same length',
  async run(options) {
    const found: Figure[] = [];
    for (const { key, name, bytes } of SIZES) {
      options.progress(name);
      found.push(...(await writes(options, key, name, bytes)));
      found.push(...(await memmoves(options, key, name, bytes)));
    }
    return found;
  },
};

/** A device's buffer into scattered pages, by untranslated requests with a PASID, the IOTLB hot. */
async function writes(options: BenchOptions, key: string, name: string, bytes: number) {
  const plain = `copyWithin into ${PAGES} pages, ${name}`;
  const dmaName = `DMA write, ${name}`;
  const recorded = `${dmaName}, hits recorded`;
  const sanitized = `${dmaName}, sanitizer on`;
  const recorder = new Tracer(() => 0);
  recorder.attach(
    new FrameEncoder(
      inlineSlots(() => undefined),
      { hot: true },
    ),
  );
  const cases = [
    plainWrites(plain, bytes),
    dmaWrites(dmaName, bytes, new Tracer(() => 0)),
    dmaWrites(recorded, bytes, recorder),
    dmaWrites(sanitized, bytes, new Tracer(() => 0), new Sanitizer()),
  ];
  return against(await interleaved(cases, options), plain, { [dmaName]: `dma-${key}/memcpy` });
}

/** The data of the accelerator's MEMMOVE, by translated requests, the device-TLB hot. */
async function memmoves(options: BenchOptions, key: string, name: string, bytes: number) {
  const plain = `copyWithin in ${(2 * reach(bytes)) / 2 ** 20} MiB, ${name}`;
  const move = `MEMMOVE, ${name}`;
  const cases = [plainCopy(plain, bytes), moves(move, bytes, new Tracer(() => 0))];
  return against(await interleaved(cases, options), plain, { [move]: `memmove-${key}/memcpy` });
}

/** The same lengths to the same kind of places: pages in an order that no prefetcher guesses. */
function plainWrites(name: string, bytes: number): Case {
  const memory = new Uint8Array((1 + PAGES) * PAGE);
  const calls = callsOf(bytes);
  const length = Math.min(PAGE, bytes);
  const places = Float64Array.from({ length: PAGES }, (_, n) => (1 + n) * PAGE);
  shuffle(places);
  let next = 0;
  const run = (): void => {
    for (let i = 0; i < calls; i++) {
      for (let done = 0; done < bytes; done += length) {
        memory.copyWithin(places[next]!, 0, length);
        next = next + 1 < PAGES ? next + 1 : 0;
      }
    }
  };
  return { name, calls, run };
}

function dmaWrites(name: string, bytes: number, trace: Tracer, sanitizer?: Sanitizer): Case {
  const options = { pages: PAGES, trace, ...(sanitizer === undefined ? {} : { sanitizer }) };
  const nested = nestedUnit(options);
  const { sids, pasids, vpns } = nested.requests;
  const rid = sids[0]!;
  const pasid = pasids[0]!;
  const fabric = fabricOf(nested, rid, trace);
  const calls = callsOf(bytes);
  const buffer = new Uint8Array(Math.min(PAGE, bytes));
  const { length } = buffer;
  const { UNTRANSLATED } = AT;
  let next = 0;
  const run = (): void => {
    for (let i = 0; i < calls; i++) {
      for (let done = 0; done < bytes; done += length) {
        const page = vpns[next]!;
        next = next + 1 < PAGES ? next + 1 : 0;
        if (fabric.write(rid, pasid, false, UNTRANSLATED, page, 0, buffer, 0, length) !== 0) {
          throw new Error(`page ${page}: refused`);
        }
      }
    }
  };
  return { name, calls, run };
}

/** Copies between the halves of a buffer, going on in both from copy to copy. */
function plainCopy(name: string, bytes: number): Case {
  const half = reach(bytes);
  const memory = new Uint8Array(2 * half);
  const calls = callsOf(bytes);
  const step = Math.max(bytes, PAGE);
  const run = (): void => {
    for (let i = 0; i < calls; i++) {
      const at = (i * step) % half;
      memory.copyWithin(half + at, at, at + bytes);
    }
  };
  return { name, calls, run };
}

function moves(name: string, bytes: number, trace: Tracer): Case {
  const nested = nestedUnit({ pages: (2 * reach(bytes)) / PAGE, trace });
  const rid = nested.requests.sids[0]!;
  const transfer = transferOf(nested, rid, trace);
  const first = BigInt(Math.min(...nested.requests.vpns)) * BigInt(PAGE);
  const half = reach(bytes);
  const calls = callsOf(bytes);
  const step = Math.max(bytes, PAGE);
  const client = { pasid: nested.requests.pasids[0]!, privileged: false, config: NO_FLAGS };
  const works = Array.from({ length: calls }, (_, i) => {
    const at = first + BigInt((i * step) % half);
    const descriptor = decodeDescriptor(
      encodeDescriptor({
        opcode: Opcode.MEMMOVE,
        source: at,
        destination: at + BigInt(half),
        size: bytes,
      }),
    );
    return new Work(client as unknown as Client, descriptor, false, ORDER);
  });
  const run = (): void => {
    for (const work of works) {
      transfer.begin(work, 0);
      let landing: Landing;
      do {
        transfer.plan();
        landing = transfer.land();
      } while (landing === Landing.MORE);
      if (landing !== Landing.DONE) throw new Error(`page ${transfer.faultPage}: no access`);
    }
  };
  return { name, calls, run };
}

const NO_FLAGS = { atsDisable: 0 };
const ORDER = { sequence: 0, batchIndex: -1, cause: 0 };

/** The way up of one function, with nothing else. */
function fabricOf({ ram, unit }: NestedUnit, rid: number, trace: Tracer): Upstream {
  const fn = {
    rid,
    configRead: (offset: number) => (offset === PciHeader.COMMAND ? PciCommand.BUS_MASTER : 0),
  } as unknown as PciFunction;
  const interrupts = new InterruptController(new VirtualClock(), trace);
  return new Upstream(ram, interrupts, new Map([[rid, fn]]), unit);
}

/** The part of an accelerator that moves data. */
function transferOf(nested: NestedUnit, rid: number, trace: Tracer): Transfer {
  const fabric = fabricOf(nested, rid, trace);
  const translator = new Translator({
    rid,
    name: 'bench',
    fabric,
    trace,
    tlb: new DeviceTlb(DEFAULT_MODEL.tlb),
    controls: { atsEnabled: () => true, pasidEnabled: () => true },
  });
  return new Transfer({ rid, fabric, translator, slicePages: DEFAULT_MODEL.slicePages });
}
