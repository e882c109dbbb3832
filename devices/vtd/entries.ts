/** What the context and PASID caches hold: entries decoded for the walks. */

/**
 * How the requests of one PASID of one function are translated: a PASID-table entry, or in legacy
 * mode a context entry. Roots are page numbers.
 */
export class PasidConfig {
  /** One of PGTT. */
  pgtt = 0;
  did = 0;
  /** PASID by which cached translations are dropped. */
  pasid = 0;
  /** FPD of this entry or of the directory entry above it. */
  fpd = false;
  fsRoot = 0;
  fsLevels = 0;
  ssRoot = 0;
  ssLevels = 0;
  /** First page number that the second stage does not translate. */
  ssPages = 0;
  /** Second-stage accessed and dirty bits are kept. */
  ssade = false;
  sre = false;
  wpe = false;
  eafe = false;
  /** Page walks snoop, so accessed and dirty bits can be updated. */
  snooped = false;
  /** Accesses are forced to snoop. */
  forceSnoop = false;
  /** Nested, in the commonest shape: see `StraightWalk`. */
  straight = false;
}

/** A context entry, legacy or scalable. */
export class ContextConfig {
  sid = 0;
  fpd = false;
  dte = false;
  paside = false;
  pre = false;
  /** PASIDs that the directory covers. */
  pasids = 0;
  /** Byte address of the PASID directory. */
  directory = 0;
  ridPasid = 0;
  ridPriv = false;
  /** Legacy mode: how to translate; null in scalable mode. */
  legacy: PasidConfig | null = null;
}
