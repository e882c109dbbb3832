import type { EventDef } from '../event.ts';
import { device } from './device.ts';
import { engine } from './engine.ts';
import { guest } from './guest.ts';
import { host } from './host.ts';
import { sanitizer } from './sanitizer.ts';
import { vmm } from './vmm.ts';
import { vtd } from './vtd.ts';

/** Every event there is, by layer: what emission, encoding, viewers and documentation go by. */
export const CATALOGUE: readonly EventDef[] = [
  guest,
  vmm,
  host,
  vtd,
  device,
  engine,
  sanitizer,
].flatMap((events) => Object.values<EventDef>(events));
