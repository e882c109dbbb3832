import type { Tracer } from '../../../trace/tracer.ts';
import type { CacheEntry } from './cache-entry.ts';
import type { History, Trail } from './history.ts';
import type { Finding } from './report.ts';
import type { Change, Tables } from './tables.ts';

/** What the watches of all units share. */
export interface Scene {
  readonly trace: Tracer;
  readonly history: History;
  readonly tables: Tables;
  /** Virtual nanoseconds. */
  now(): number;
  /** The event that what happens now descends from. */
  here(): Trail | null;
  /** Descriptors carried out so far, of all units; `next` counts one more. */
  readonly order: { value: number };
  file(finding: Finding): void;
  /** Changes after which something cached is stale, with what that is. */
  readonly stale: Map<Change, Set<CacheEntry>>;
  /** A device is about to write to a host frame. */
  written(frame: number): void;
  /** Whether a host frame is in nobody's hands. */
  isFree(frame: number): boolean;
}

/** `entry` is not stale because of `change` any more, or not there any more. */
export function settle(scene: Scene, change: Change, entry: CacheEntry): void {
  const entries = scene.stale.get(change);
  entries?.delete(entry);
  if (entries?.size === 0) scene.stale.delete(change);
}
