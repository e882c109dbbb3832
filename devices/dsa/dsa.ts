import { device } from '../../trace/catalogue/device.ts';
import type { Tracer } from '../../trace/tracer.ts';
import type { Clock } from '../clock.ts';
import { AtsCapability, PasidCapability, PriCapability } from '../pci/ats.ts';
import { ConfigSpace } from '../pci/config-space.ts';
import type { Fabric, PciFunction } from '../pci/fabric.ts';
import { MsixTable } from '../pci/msix.ts';
import { addPcieCapability } from '../pci/pcie.ts';
import { dsaCapabilities } from '../spec/dsa/capabilities.ts';
import { DeviceState, DsaPci, Intcause, ResetType, SwerrCode } from '../spec/dsa/registers.ts';
import { PASID_BITS, ridToString } from '../spec/pci.ts';
import type { DeviceBug } from './bugs.ts';
import { Commands } from './commands.ts';
import { DeviceTlb } from './device-tlb.ts';
import { Engine, type EngineHost } from './engine.ts';
import { type SoftwareErrorInfo, SoftwareErrors } from './errors.ts';
import { Invalidations } from './invalidations.ts';
import { DEFAULT_MODEL, type DsaModel } from './model.ts';
import { PageRequests, PRG_COUNT, PrgCode } from './page-requests.ts';
import { Portals } from './portals.ts';
import { RegisterFile } from './register-file.ts';
import { DsaState } from './state.ts';
import { Translator } from './translator.ts';
import type { Rules } from './validate.ts';
import type { Work } from './work.ts';
import { arbitrate } from './work-queue.ts';

const BAR = { REGISTERS: 0, PORTALS: 2 } as const;
/** Where the capabilities are: the layout of the emulated device that Linux was run against. */
const CAP = { PCIE: 0x40, MSIX: 0x80, ATS: 0x100, PRI: 0x108, PASID: 0x118 } as const;
const MISC_VECTOR = 0;

export interface DsaOptions {
  readonly rid: number;
  readonly fabric: Fabric;
  readonly clock: Clock;
  readonly trace: Tracer;
  readonly model?: Partial<DsaModel>;
  /** Mistakes to make on purpose (`bugs.ts`). */
  readonly bugs?: ReadonlySet<DeviceBug>;
}

/**
 * The accelerator: a PCI function modelled on Intel DSA 1.0, with shared and dedicated work queues,
 * PASIDs, a device-TLB and page requests. It knows nothing but its bus (`Fabric`) and its clock.
 */
export class DsaDevice implements PciFunction {
  readonly rid: number;
  readonly #name: string;
  readonly #fabric: Fabric;
  readonly #clock: Clock;
  readonly #trace: Tracer;
  readonly #model: DsaModel;
  readonly #config: ConfigSpace;
  readonly #msix: MsixTable;
  readonly #ats: AtsCapability;
  readonly #pri: PriCapability;
  readonly #pasid: PasidCapability;
  readonly #state: DsaState;
  readonly #errors: SoftwareErrors;
  readonly #commands: Commands;
  readonly #registers: RegisterFile;
  readonly #portals: Portals;
  readonly #tlb: DeviceTlb;
  readonly #translator: Translator;
  readonly #pages: PageRequests;
  readonly #invalidations: Invalidations;
  readonly #bugs: ReadonlySet<DeviceBug>;
  #sequence = 0;

  constructor(options: DsaOptions) {
    const { rid, fabric, clock, trace, bugs = new Set() } = options;
    this.#bugs = bugs;
    const model = { ...DEFAULT_MODEL, ...options.model };
    const name = ridToString(rid);
    this.rid = rid;
    this.#name = name;
    this.#fabric = fabric;
    this.#clock = clock;
    this.#trace = trace;
    this.#model = model;
    const caps = dsaCapabilities(model.capabilities);
    this.#config = this.#makeConfig(caps.bar2Bytes);
    this.#msix = this.#makeMsix(caps.msixVectors);
    this.#tlb = new DeviceTlb(model.tlb);
    this.#ats = new AtsCapability(this.#config, CAP.ATS, () => this.#tlb.clear());
    this.#pri = this.#makePri();
    this.#pasid = new PasidCapability(this.#config, CAP.PASID, PASID_BITS, () => this.#tlb.clear());
    const controls = {
      atsEnabled: () => this.#ats.enabled,
      pasidEnabled: () => this.#pasid.enabled,
    };
    this.#translator = new Translator({ rid, name, fabric, trace, tlb: this.#tlb, controls });
    this.#pages = this.#makePages();
    this.#state = new DsaState(caps);
    this.#errors = new SoftwareErrors(trace, name);
    this.#invalidations = new Invalidations(clock, (itag) => fabric.invalidateComplete(rid, itag));
    this.#commands = this.#makeCommands();
    this.#registers = new RegisterFile({
      state: this.#state,
      commands: this.#commands,
      errors: this.#errors,
      msix: this.#msix,
    });
    this.#portals = this.#makePortals();
    const host = this.#engineHost();
    for (let i = 0; i < caps.engineCount; i++) this.#state.engines.push(new Engine(i, host));
  }

  // Putting the parts together.

  #makeConfig(bar2Bytes: number): ConfigSpace {
    const bar = { is64: true, prefetchable: true };
    const bars = [
      { bar: BAR.REGISTERS, bytes: DsaPci.BAR0_BYTES, ...bar },
      { bar: BAR.PORTALS, bytes: bar2Bytes, ...bar },
    ];
    const config = new ConfigSpace(
      {
        vendor: DsaPci.VENDOR_ID,
        device: DsaPci.DEVICE_ID,
        revision: DsaPci.REVISION,
        classCode: DsaPci.CLASS,
        bars,
      },
      () => this.#commandWritten(),
    );
    addPcieCapability(config, CAP.PCIE, () => this.reset());
    return config;
  }

  #makeMsix(vectors: number): MsixTable {
    return new MsixTable({
      config: this.#config,
      capOffset: CAP.MSIX,
      vectors,
      bar: DsaPci.MSIX_TABLE_BAR,
      tableOffset: DsaPci.MSIX_TABLE_OFFSET,
      pbaOffset: DsaPci.MSIX_PBA_OFFSET,
      send: (vector, address, data) => {
        const why = vector === MISC_VECTOR ? 'device event' : 'completion';
        using _span = this.#trace.span(device.interrupt, { device: this.#name, vector, why });
        this.#fabric.msi(this.rid, address, data);
      },
    });
  }

  #makePri(): PriCapability {
    const max = Math.max(1, Math.min(this.#model.maxPageRequests, PRG_COUNT));
    return new PriCapability(this.#config, CAP.PRI, max, {
      outstanding: () => this.#pages.outstanding,
      changed: () => this.#pages.wakeQueue(),
      // Waiters look again and find page requests off.
      reset: () => this.#pages.forgetAll(PrgCode.SUCCESS),
    });
  }

  #makePages(): PageRequests {
    const pri = this.#pri;
    return new PageRequests({
      rid: this.rid,
      name: this.#name,
      fabric: this.#fabric,
      trace: this.#trace,
      controls: {
        running: () => pri.running,
        limit: () => pri.limit,
        stopOnFailure: () => pri.responseFailure(),
        unexpected: () => pri.unexpectedResponse(),
        settled: () => pri.update(),
      },
    });
  }

  #makeCommands(): Commands {
    return new Commands({
      name: this.#name,
      clock: this.#clock,
      trace: this.#trace,
      state: this.#state,
      pci: {
        busMaster: () => this.#config.busMaster,
        pasidEnabled: () => this.#pasid.enabled,
        privilegedEnabled: () => this.#pasid.privilegedEnabled,
      },
      nextSequence: () => this.#sequence,
      overrun: () => this.#softwareError({ error: SwerrCode.COMMAND_WHILE_ACTIVE }),
      commandInterrupt: () => this.#miscInterrupt(Intcause.COMMAND, true),
      resetDevice: () => this.#errors.reset(),
    });
  }

  #makePortals(): Portals {
    return new Portals({
      name: this.#name,
      trace: this.#trace,
      state: this.#state,
      nextSequence: () => this.#sequence++,
      accepted: (group) => this.#kick(group),
      softwareError: (info) => this.#softwareError(info),
      reportDropped: this.#model.reportDroppedSubmissions,
    });
  }

  #engineHost(): EngineHost {
    const { caps } = this.#state;
    const rules: Rules = {
      opcap: caps.opcap,
      privilegedEnabled: () => this.#pasid.privilegedEnabled,
      userInterrupts: () => this.#state.userInterrupts,
      interruptAllowed: (handle, pasid) => this.#state.interruptAllowed(handle, pasid),
    };
    return {
      rid: this.rid,
      name: this.#name,
      clock: this.#clock,
      trace: this.#trace,
      fabric: this.#fabric,
      model: this.#model,
      translator: this.#translator,
      pages: this.#pages,
      rules,
      takeWork: (group) => arbitrate(this.#state.queues, group)?.shift() ?? null,
      workDone: () => this.#workDone(),
      landed: (engine) => this.#invalidations.landed(engine),
      isDrained: (drain) => this.#isDrained(drain),
      softwareError: (info) => this.#softwareError(info),
      completionInterrupt: (vector) => this.#msix.raise(vector),
    };
  }

  // What happens inside.

  #kick(group: number): void {
    for (const engine of this.#state.engines) if (engine.group === group) engine.kick();
  }

  #workDone(): void {
    for (const engine of this.#state.engines) engine.recheck();
    this.#commands.check();
  }

  #isDrained(drain: Work): boolean {
    const { wq, pasid } = drain.client;
    return !this.#state.busy(
      ({ client, sequence }) =>
        client.wq === wq && client.pasid === pasid && sequence < drain.sequence,
    );
  }

  #softwareError(info: SoftwareErrorInfo): void {
    this.#errors.record(info);
    this.#miscInterrupt(Intcause.SOFTWARE_ERROR, this.#state.softwareErrorInterrupt);
  }

  #miscInterrupt(cause: number, interrupt: boolean): void {
    this.#state.intcause |= cause;
    if (interrupt) this.#msix.raise(MISC_VECTOR);
  }

  /** Bus mastering going away under an enabled device halts it; coming back lets messages out. */
  #commandWritten(): void {
    const { state } = this.#state;
    const isOn = state === DeviceState.ENABLED || state === DeviceState.DRAINING;
    if (this.#config.busMaster) this.#msix.flush();
    else if (isOn) this.#halt();
  }

  #halt(): void {
    this.#state.state = DeviceState.HALTED;
    this.#state.resetType = ResetType.FLR;
    this.#state.abort(() => true);
    this.#softwareError({ error: SwerrCode.PCI_CONFIGURATION });
    this.#miscInterrupt(Intcause.HALT, this.#state.haltInterrupt);
  }

  // The function as the root complex sees it.

  configRead(offset: number, size: 1 | 2 | 4): number {
    return this.#config.read(offset, size);
  }

  configWrite(offset: number, size: 1 | 2 | 4, value: number): void {
    this.#config.write(offset, size, value);
  }

  barSize(bar: number): number {
    return this.#config.barSize(bar);
  }

  /** Portals read all ones. */
  barRead(bar: number, offset: number, size: number): bigint {
    if (bar === BAR.REGISTERS) return this.#registers.read(offset, size);
    return (1n << BigInt(8 * size)) - 1n;
  }

  /** A portal takes 64-byte writes only; narrower ones are dropped. */
  barWrite(bar: number, offset: number, size: number, value: bigint): void {
    if (bar === BAR.REGISTERS) this.#registers.write(offset, size, value);
  }

  barWrite64(bar: number, offset: number, bytes: Uint8Array): void {
    if (bar === BAR.PORTALS) this.#portals.post(offset, bytes);
  }

  barEnqueue(bar: number, offset: number, bytes: Uint8Array): boolean {
    return bar === BAR.PORTALS && this.#portals.enqueue(offset, bytes);
  }

  invalidate(itag: number, pasid: number, global: boolean, vpn: number, shift: number): void {
    const dropped = this.#drop(pasid, global, vpn, shift);
    const address = shift >= 64 ? 0 : vpn * 4096;
    using _span = this.#trace.span(device.tlbInvalidate, {
      device: this.#name,
      pasid,
      address,
      shift,
      dropped,
    });
    const holders = this.#state.engines.filter((engine) => engine.holds(pasid, global));
    this.#invalidations.add(itag, holders);
  }

  #drop(pasid: number, global: boolean, vpn: number, shift: number): number {
    if (this.#bugs.has('device-keeps-translations')) return 0;
    const size = this.#bugs.has('device-drops-one-page') ? 12 : shift;
    return this.#tlb.invalidate(pasid, global, vpn, size);
  }

  pageGroupResponse(pasid: number, prgi: number, code: number): void {
    this.#pages.respond(pasid, prgi, code);
  }

  /** Power-on values everywhere; data in flight, queued descriptors and page requests are gone. */
  reset(): void {
    this.#config.reset();
    this.#msix.reset();
    this.#commands.reset();
    this.#state.reset();
    this.#errors.reset();
    this.#tlb.clear();
    this.#pages.forgetAll(PrgCode.SUCCESS);
  }

  /** Emits the counters. */
  emitStats(): void {
    const { engines } = this.#state;
    this.#trace.emit(device.stats, {
      device: this.#name,
      descriptors: engines.reduce((sum, engine) => sum + engine.descriptors, 0),
      bytes: engines.reduce((sum, engine) => sum + engine.bytes, 0),
      atsRequests: this.#translator.requests,
      devTlbHits: this.#translator.hits,
      pageRequests: this.#pages.sent,
    });
  }
}
