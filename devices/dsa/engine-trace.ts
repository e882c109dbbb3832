import { device } from '../../trace/catalogue/device.ts';
import type { Tracer } from '../../trace/tracer.ts';
import { statusName } from '../spec/dsa/completion.ts';
import { Opcode, opcodeName } from '../spec/dsa/opcodes.ts';
import type { Work } from './work.ts';

/** The events of an engine; each returns its number, to be the cause of what follows. */
interface Outlet {
  readonly name: string;
  readonly trace: Tracer;
}

export function traceStart(outlet: Outlet, work: Work, engine: number): number {
  const { opcode, size } = work.descriptor;
  const isData = opcode !== Opcode.NOOP && opcode !== Opcode.DRAIN && opcode !== Opcode.BATCH;
  return outlet.trace.emit(device.start, {
    device: outlet.name,
    wq: work.client.wq,
    engine,
    pasid: work.client.pasid,
    operation: opcodeName(opcode),
    bytes: isData ? size : 0,
  });
}

/** The first data movement of a descriptor; an operation without a side shows 0 there. */
export function traceData(outlet: Outlet, work: Work): number {
  const { opcode, source, destination, size } = work.descriptor;
  const writes = opcode === Opcode.FILL || opcode === Opcode.MEMMOVE || opcode === Opcode.COPY_CRC;
  return outlet.trace.emit(device.firstDma, {
    device: outlet.name,
    pasid: work.client.pasid,
    from: opcode === Opcode.FILL ? 0n : source,
    to: writes ? destination : 0n,
    bytes: size,
  });
}

export function traceComplete(outlet: Outlet, work: Work): number {
  return outlet.trace.emit(device.complete, {
    device: outlet.name,
    wq: work.client.wq,
    pasid: work.client.pasid,
    operation: opcodeName(work.descriptor.opcode),
    status: statusName(work.status),
    bytes: work.completed,
  });
}
