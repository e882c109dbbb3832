import { bytesText, cell, countText } from '../format.ts';
import type { Model } from '../state/model.ts';
import { type Span, span } from './line.ts';

/** The virtual machines with what their processes do, then units and devices: for large windows. */
export function machineLines(model: Model, width: number): Span[][] {
  const title = (text: string): Span[] => [
    span('─ ', 'muted'),
    span(text, 'title'),
    span(` ${'─'.repeat(Math.max(0, width - text.length - 4))}`, 'muted'),
  ];
  const machines: Span[][] = [];
  for (const vm of model.machines.vms.values()) {
    const { name, status, device, ramBytes, processes } = vm;
    machines.push([
      span(` ${cell(name, 6)}`, 'guest'),
      span(cell(status, 8)),
      span(`${bytesText(ramBytes)} of RAM, ${device}`, 'muted'),
    ]);
    for (const { pid, pasid, step, code } of processes.values()) {
      const bound = pasid < 0 ? '' : `PASID ${pasid}`;
      const does = code === undefined ? step : `ended with code ${code}`;
      machines.push([
        span(`   process ${cell(String(pid), 6)}`),
        span(cell(bound, 11), 'attached'),
        span(cell(does, width - 29), 'muted'),
      ]);
    }
  }
  const { units, devices } = model.hardware;
  const hardware: Span[][] = [
    ...Array.from(units.values(), (unit) => {
      const told =
        `${countText(unit.walks)} walks, ${countText(unit.loads)} entries read,` +
        ` ${countText(unit.hits)} IOTLB hits, ${countText(unit.descriptors)} descriptors,` +
        ` ${countText(unit.dropped)} cached entries dropped`;
      const stopped = unit.queueError === '' ? '' : `  queue stopped: ${unit.queueError}`;
      return [
        span(` unit of ${cell(unit.unit, 8)}`, 'vtd'),
        span(told, 'muted'),
        span(stopped, 'bad'),
      ];
    }),
    ...Array.from(devices.values(), ({ device, queued, done, retries, bytes }) => [
      span(` device ${cell(device, 9)}`, 'device'),
      span(
        `${countText(done)} descriptors done, ${queued} queued, ${retries} retries, ${bytesText(bytes)} moved`,
        'muted',
      ),
    ]),
  ];
  return [
    ...(machines.length === 0 ? [] : [title('Machines'), ...machines]),
    ...(hardware.length === 0 ? [] : [title('Silicon'), ...hardware]),
  ];
}
