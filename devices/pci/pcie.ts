import { PciCap, PcieCap, PcieType } from '../spec/pci.ts';
import type { ConfigSpace } from './config-space.ts';

/** DEVCTL bits an endpoint can hold: error reporting, ordering, payload and read sizes. */
const DEVCTL_WRITABLE = 0x7fff;
/** Correctable, non-fatal, fatal, unsupported request detected. */
const DEVSTA_CLEARABLE = 0x000f;
const VERSION = 2;

/**
 * Adds the PCI Express capability (version 2) of a root-complex integrated endpoint with function
 * level reset and end-end TLP prefixes, which Linux demands before it enables PASID.
 *
 * @param flr called when software initiates a function level reset
 */
export function addPcieCapability(config: ConfigSpace, offset: number, flr: () => void): void {
  config.addCapability(PciCap.PCIE, offset);
  const flags = VERSION | (PcieType.RC_ENDPOINT << PcieCap.FLAGS_TYPE_SHIFT);
  config.define({ offset: offset + PcieCap.FLAGS, size: 2, reset: flags });
  config.define({ offset: offset + PcieCap.DEVCAP, size: 4, reset: PcieCap.DEVCAP_FLR });
  config.define({
    offset: offset + PcieCap.DEVCTL,
    size: 2,
    reset: 0,
    writable: DEVCTL_WRITABLE | PcieCap.DEVCTL_INITIATE_FLR,
    rule: (next) => next & ~PcieCap.DEVCTL_INITIATE_FLR,
    written: (next) => {
      if ((next & PcieCap.DEVCTL_INITIATE_FLR) !== 0) flr();
    },
  });
  config.define({
    offset: offset + PcieCap.DEVSTA,
    size: 2,
    reset: 0,
    clearable: DEVSTA_CLEARABLE,
  });
  const devcap2 = PcieCap.DEVCAP2_END_END_TLP_PREFIX;
  config.define({ offset: offset + PcieCap.DEVCAP2, size: 4, reset: devcap2 });
}
