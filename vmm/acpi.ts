import { buildMcfg, buildRsdp, buildXsdt } from '../devices/spec/acpi.ts';
import type { DeviceScope } from '../devices/spec/dmar.ts';
import { buildDmar, DmarFlag, ScopeType } from '../devices/spec/dmar.ts';
import { ridBus, ridDevice, ridFunction } from '../devices/spec/pci.ts';
import { GUEST_ADDRESS_BITS, LAYOUT } from './layout.ts';

/** A table and the guest physical address it goes to. */
export interface PlacedTable {
  readonly address: number;
  readonly bytes: Uint8Array;
}

export interface AcpiOptions {
  /** Requester ids of the functions behind the virtual unit. */
  readonly functions: readonly number[];
  /** The ones of them that have an address translation cache (SATC). */
  readonly atsFunctions: readonly number[];
  readonly registerBytes: number;
  readonly interruptRemapping: boolean;
}

const TABLE_ALIGNMENT = 64;

/**
 * The firmware's tables: RSDP at LAYOUT.ACPI, then XSDT, MCFG (configuration space of bus 0) and DMAR
 * (the virtual unit with every function of bus 0). As in QEMU's table an ATSR with ALL_PORTS allows
 * ATS; a SATC names the integrated functions that have it.
 */
export function buildAcpi(options: AcpiOptions): readonly PlacedTable[] {
  const mcfg = buildMcfg([{ base: LAYOUT.ECAM, segment: 0, startBus: 0, endBus: 0 }]);
  const scopes = options.functions.map(endpoint);
  const ats = options.atsFunctions.map(endpoint);
  const dmar = buildDmar({
    hostAddressWidth: GUEST_ADDRESS_BITS,
    flags: options.interruptRemapping ? DmarFlag.INTR_REMAP : 0,
    drhds: [
      {
        segment: 0,
        registerBase: LAYOUT.VTD,
        registerBytes: options.registerBytes,
        includeAll: false,
        scopes,
      },
    ],
    atsrs: ats.length === 0 ? [] : [{ segment: 0, allPorts: true, scopes: [] }],
    satcs: ats.length === 0 ? [] : [{ segment: 0, atcRequired: false, scopes: ats }],
  });
  const mcfgAt = LAYOUT.ACPI + 2 * TABLE_ALIGNMENT;
  const dmarAt = align(mcfgAt + mcfg.length);
  const xsdtAt = align(dmarAt + dmar.length);
  return [
    { address: LAYOUT.ACPI, bytes: buildRsdp(xsdtAt) },
    { address: mcfgAt, bytes: mcfg },
    { address: dmarAt, bytes: dmar },
    { address: xsdtAt, bytes: buildXsdt([mcfgAt, dmarAt]) },
  ];
}

function endpoint(rid: number): DeviceScope {
  return {
    type: ScopeType.ENDPOINT,
    enumerationId: 0,
    startBus: ridBus(rid),
    path: [{ device: ridDevice(rid), fn: ridFunction(rid) }],
  };
}

function align(address: number): number {
  return Math.ceil(address / TABLE_ALIGNMENT) * TABLE_ALIGNMENT;
}
