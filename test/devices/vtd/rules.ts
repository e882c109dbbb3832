/** The rules of the VT-d specification that the unit keeps, and those that it does not model. */

import { FAULT_RULES } from './fault-rules.ts';

export interface Rule {
  /** Chapter or section of the specification. */
  readonly section: string;
  readonly text: string;
}

const rule = (section: string, text: string): Rule => ({ section, text });

const RULES = {
  // Registers
  'REG-ACCESS-1': rule(
    '10.2',
    'accesses are 4 or 8 bytes and aligned; others read 0 and write nothing',
  ),
  'REG-ACCESS-2': rule('10.2', 'a 64-bit register takes one 64-bit or two 32-bit accesses'),
  'REG-ACCESS-3': rule('10.2', 'read-only registers keep their values; reserved bits do not stick'),
  'REG-CAP-1': rule(
    '10.4.2',
    'CAP and ECAP show what the unit was made with; bits of features that are not modelled read 0',
  ),
  'REG-CAP-2': rule('10.4', 'registers of features that the unit lacks read 0 and keep nothing'),
  'REG-CAP-3': rule(
    '10.4.3',
    'dependencies between capabilities are checked where sets of them are made',
  ),
  'REG-MTRR-1': rule(
    '10.4',
    'with ECAP.MTS the MTRR registers hold what software writes, within HAW; memory has one type',
  ),
  'REG-GCMD-1': rule(
    '10.4.4',
    'GCMD reads 0; levels stay in GSTS, one-shot bits act and do not stay',
  ),
  'REG-GCMD-2': rule('10.4.4', 'WBF acts only with CAP.RWBF, and WBFS reads 0 when it is done'),
  'REG-GCMD-3': rule('10.4.4', 'QIE needs ECAP.QI; IRE, SIRTP and CFI need ECAP.IR'),
  'REG-SRTP-1': rule('10.4.6', 'RTADDR takes effect with SRTP only; RTPS rises when it is done'),
  'REG-SRTP-2': rule(
    '6.6',
    'with CAP.ESRTPS, SRTP drops all context, PASID and translation caches; without, nothing',
  ),
  'REG-SRTP-3': rule('10.4.6', 'with CAP.ESRTPS the translation mode may change while TES is 1'),
  'REG-TE-1': rule(
    '10.4.4',
    'TE off: memory requests pass untouched, translation and translated requests get UR',
  ),
  'REG-TE-2': rule('10.4.4', 'turning TE off drops every cached translation'),
  'REG-SIRTP-1': rule('10.4', 'IRTA takes effect with SIRTP only'),
  'REG-SIRTP-2': rule(
    '6.6',
    'with CAP.ESIRTPS, SIRTP drops the interrupt entry cache; without, it does not',
  ),
  'REG-CCMD-1': rule(
    '10.4.7',
    'CCMD in legacy mode without queue: global, domain, device with FM; CAIG says what was done; ICC clears',
  ),
  'REG-CCMD-2': rule(
    '10.4.7',
    'CCMD in another mode or with the queue on completes as ignored (CAIG 0)',
  ),
  'REG-CCMD-3': rule('10.4.7', 'the command is taken when the upper half is written'),
  'REG-IOTLB-1': rule(
    '10.4.8',
    'IOTLB_REG in legacy mode without queue: global, domain, page under IVA; IAIG says what was done; IVT clears',
  ),
  'REG-IOTLB-2': rule(
    '10.4.8',
    'IOTLB_REG in another mode, with the queue on, or AM beyond MAMV completes as ignored (IAIG 0)',
  ),
  'REG-IVA-1': rule('10.4.8', 'IVA is write-only'),

  // Events
  'EVT-1': rule(
    '7.4',
    'a condition sets pending; unmasked, it sends the message (data, address, upper address) and clears pending',
  ),
  'EVT-2': rule('7.4', 'no second event while a status bit of the source is set'),
  'EVT-3': rule('7.4', 'unmasking with pending set sends the message then'),
  'EVT-4': rule('7.4', 'clearing all status bits of the source clears pending'),
  'EVT-5': rule('10.4.10', 'IM is 1 at reset; IP is read-only'),
  'EVT-6': rule('7.4', 'messages of the unit itself are neither DMA- nor interrupt-remapped'),

  // Fault log
  'LOG-1': rule(
    '10.4.14',
    'a record holds FI, SID, type, PP, PV, PRIV, AT and reason of the request',
  ),
  'LOG-2': rule('10.4.9', 'FRI is the first record since PPF rose; PPF is the OR of all F'),
  'LOG-3': rule(
    '7.2.1',
    'the next record still in use: PFO, the fault is dropped, the event raised',
  ),
  'LOG-4': rule('7.2.1', 'nothing is recorded while PFO is set'),
  'LOG-5': rule('10.4.14', 'F is write-1-to-clear, the rest of a record read-only'),
  'LOG-6': rule('7.2.1', 'the write index starts again only when TES and IES are both 0'),
  'LOG-7': rule('7.2.1', 'faults of one source are not merged: each takes a record'),
  'LOG-8': rule('7.1.3', 'of translation requests only UR, CA and 91h are recorded'),
  'LOG-9': rule('10.4.14', 'the record of an interrupt fault has the index in FI 63:48'),
  'FPD-1': rule(
    '7.1.3',
    'FPD of the context, directory or PASID entry suppresses qualified faults only; the request is blocked all the same',
  ),
  'FPD-2': rule('9.4', 'FPD is honoured although P is 0'),
  'FPD-3': rule(
    '7.1.3',
    'FPD of a cached entry counts for the faults of later walks, of that PASID only',
  ),

  // Requests
  'REQ-1': rule(
    '3.14',
    'FEEx_xxxx without PASID is never memory: untranslated accesses other than interrupts fault 29h, zero-length reads pass',
  ),
  'REQ-2': rule(
    '3.14',
    'a translation request without PASID into FEEx_xxxx: write only and U=1; with NW nothing',
  ),
  'REQ-3': rule('3.14', 'with a PASID FEEx_xxxx is ordinary address space'),
  'REQ-4': rule('3.4.3', 'without PASID: RID_PASID (0 without RPS) and RID_PRIV apply'),
  'REQ-5': rule(
    '4.2.3',
    'translated requests: DTE, width and interrupt window are checked, nothing else',
  ),
  'REQ-6': rule('3.4.3', 'privileged and user requests are translated and cached apart'),
  'REQ-7': rule('3.4.2', 'bus and function 80h-FFh use the upper half of the root entry'),
  'REQ-8': rule(
    '3.10',
    'an AtomicOp needs read and write permission, sets D, and is recorded as T1T2=11',
  ),
  'REQ-9': rule('10.4.2', 'a zero-length read of a write-only page passes with CAP.ZLR only'),
  'ATS-1': rule(
    '4.2',
    'R and W are the effective permissions of all levels and stages; none is success without permissions',
  ),
  'ATS-2': rule('4.2', 'with NWFS, NW=1 is a read and W is answered 0; without, NW does not count'),
  'ATS-3': rule('4.2', 'W granted means that D is set in the leaf, of both stages'),
  'ATS-4': rule('4.2', 'S covers the smaller page of the two stages'),
  'ATS-5': rule(
    '4.2',
    'PRIV is 1 exactly for privileged requests; without SRE they get no permission',
  ),
  'ATS-6': rule('3.9', 'N is PGSNP or SNP of the second-stage leaf, from walk and IOTLB alike'),
  'PT-1': rule(
    '3.4.4',
    'pass-through: identity with R and W, answered as a large range outside the interrupt window',
  ),

  // Structures
  'ENT-ROOT-1': rule(
    '9.2',
    'scalable root entry: every reserved bit of the half in use, and pointer bits beyond HAW, give 3Ah',
  ),
  'ENT-CTX-1': rule(
    '9.4',
    'scalable context entry: every reserved bit gives 42h, no other bit does',
  ),
  'ENT-CTX-2': rule(
    '9.4',
    'fields of absent capabilities (DTE, PASIDE, PRE, HPTE, EPTR, RID_PASID, RID_PRIV) are reserved',
  ),
  'ENT-CTX-3': rule('9.4', 'PRE without DTE, or RID_PASID beyond PDTS, is invalid: 43h'),
  'ENT-CTX-4': rule('9.4', 'the directory covers 2^(PDTS+13) PASIDs'),
  'ENT-DIR-1': rule('9.5', 'PASID directory entry: every reserved bit gives 52h'),
  'ENT-PASID-1': rule('9.6', 'PASID entry: every reserved bit gives 5Ah, no ignored one does'),
  'ENT-PASID-2': rule(
    '9.6',
    'fields of absent capabilities (SSADE, PWSNP, PGSNP, CD, EMTE, SRE, EAFE) are reserved',
  ),
  'ENT-PASID-6': rule(
    '9.6',
    'with ECAP.MTS, CD, EMTE and PAT are accepted and shown, and change no translation',
  ),
  'ENT-PASID-3': rule('9.6', 'PGTT, AW and FSPM that the unit lacks are invalid: 5Bh'),
  'ENT-PASID-4': rule(
    '9.6',
    'a nested first-stage root is a guest address, bounded by the second stage: 5Bh',
  ),
  'ENT-PASID-5': rule(
    '9.6',
    'AW and SSPTPTR do not count for first-stage and pass-through entries, FSPM and FSPTPTR not for second-stage',
  ),
  'ENT-LEG-1': rule(
    '9.1',
    'legacy root and context entries: every reserved bit gives Ah or Bh; bits 6:3 of the second word are ignored',
  ),
  'ENT-LEG-2': rule('9.3', 'TT and AW that the unit lacks are invalid: 3'),
  'LEG-1': rule('3.4.2', 'legacy mode: second stage, with or without ATS, or pass-through, by TT'),
  'LEG-2': rule(
    '7.1.3',
    'legacy mode has codes of its own; an empty entry is a missing permission',
  ),

  // First stage
  'FS-ENT-1': rule(
    '9.7',
    'first-stage entries: reserved are address bits beyond HAW, PS at levels 4 and 5 and at level 3 without FS1GP, low address bits of large pages',
  ),
  'FS-ENT-2': rule(
    '9.7',
    'first-stage entries: PWT, PCD, PAT, G, bits 62:52 and XD are accepted and have no effect',
  ),
  'FS-ADDR-1': rule(
    '3.6',
    'the address must be canonical for 48 bits (4 levels) or 57 (5 levels): 80h',
  ),
  'FS-LEVEL-1': rule('3.6', '4 and 5 levels, 4 KiB, 2 MiB and 1 GiB pages'),
  'FS-PERM-1': rule(
    '3.6.1',
    'user: U/S at all levels for any access, R/W at all levels for writes',
  ),
  'FS-PERM-2': rule(
    '3.6.1',
    'supervisor: reads always, writes need R/W at all levels only with WPE; U/S, SMEP and NXE do not count',
  ),
  'FS-AD-1': rule(
    '3.6.2',
    'A is set in every entry used, D in the leaf of a write only, EA with EAFE beside A',
  ),
  'FS-AD-2': rule('3.6.2', 'D is set only when a write is granted'),
  'FS-AD-3': rule(
    '3.6.2',
    'an update that is needed faults 90h when walks do not snoop; one that is not needed does not',
  ),
  'FS-AD-4': rule('3.6.2', 'an update that memory refuses: 91h'),

  // Second stage
  'SS-ENT-1': rule(
    '9.8',
    'second-stage entries: reserved are bit 62, address bits beyond HAW, SNP outside leaves and without SC, PS where no page size is, low address bits of large pages',
  ),
  'SS-ENT-2': rule(
    '9.8',
    'second-stage entries: X, EMT, IPAT, and bits 61:52 and 63 are accepted and have no effect',
  ),
  'SS-ADDR-1': rule('3.7', 'the address must be below 2^min(MGAW, AW): 84h'),
  'SS-LEVEL-1': rule('3.7', '3, 4 and 5 levels, 4 KiB pages, 2 MiB and 1 GiB by SSLPS'),
  'SS-PERM-1': rule(
    '3.7.1',
    'permission is the AND of R and of W over the levels; none at all is 79h',
  ),
  'SS-AD-1': rule(
    '3.7.2',
    'with SSADE, A in every entry and D in the leaf of a write; without, both are ignored',
  ),
  'SS-AD-2': rule('3.7.2', 'an update without snooping: 7Ch; one that memory refuses: 7Dh'),

  // Nested
  'NEST-1': rule(
    '3.8',
    'first-stage tables and the output are guest addresses: 74h beyond the second stage',
  ),
  'NEST-2': rule(
    '3.8',
    'a table page needs R: 75h for the root, 76h below; with SSADE also W: 77h',
  ),
  'NEST-3': rule(
    '3.8',
    'setting bits of a first-stage entry needs W of its page, 77h, and sets D there with SSADE',
  ),
  'NEST-4': rule('3.8', 'the final page: read needs both stages to allow it, write too'),
  'NEST-5': rule('3.8', 'D is set in both leaves'),

  // Caches
  'CACHE-1': rule(
    '6.2',
    'what was not invalidated is still served: context, PASID, paging structures, IOTLB',
  ),
  'CACHE-2': rule(
    '6.5.2.1',
    'cc: global, device with function mask; domain is global in scalable mode, by DID in legacy',
  ),
  'CACHE-3': rule('6.5.2.2', 'pc: global, domain, PASID in domain; drops PASID entries only'),
  'CACHE-4': rule(
    '6.5.2.3',
    'iotlb: global, domain, page; a page drops all of the domain in the first-stage class',
  ),
  'CACHE-5': rule(
    '6.5.2.4',
    'p_iotlb: all of a PASID, or pages of it in the first-stage class only; AM up to 52',
  ),
  'CACHE-6': rule(
    '6.5.2',
    'IH keeps the paging-structure caches; they go as the table of descriptors says',
  ),
  'CACHE-7': rule('6.2.4', 'entries of requests without PASID carry RID_PASID'),
  'CACHE-8': rule('6.2.4', 'a large page goes as a whole'),
  'CACHE-9': rule('6.1', 'nothing that faulted is cached, unless caching mode is used'),
  'CACHE-10': rule('6.1', 'entries may go at any time: translations stay right'),
  'CACHE-11': rule(
    '6.1',
    'translations may come that nobody asked for: no fault, no D, and invalidations reach them',
  ),
  'CACHE-12': rule('6.2.1', 'W is cached only once D is set; a later write sets it'),
  'IEC-1': rule('6.5.2.7', 'interrupt entries are cached until iec: global, or 2^IM indices'),
  'CM-1': rule(
    '6.1',
    'caching mode: entries not present may be cached under DID 0, until cc, pc or iotlb reach them',
  ),
  'CM-2': rule('6.1', 'caching mode: first-stage faults are never cached'),

  // Queue
  'IQ-1': rule(
    '6.5.2',
    'descriptors are taken in order, asynchronously, whether or not TES is set; the head moves when one is fetched',
  ),
  'IQ-2': rule('6.5.2', 'the queue wraps; disabling it returns the head to 0'),
  'IQ-3': rule(
    '6.5.2',
    'scalable mode takes 256-bit descriptors; legacy mode 128 or 256, and types 1 to 5 only',
  ),
  'IQ-WAIT-1': rule(
    '6.5.2.8',
    'SW writes the data, IF sets IWC and raises the event, when everything before is done',
  ),
  'IQ-WAIT-2': rule('6.5.2.8', 'FN keeps later descriptors from starting'),
  'IQ-WAIT-3': rule('6.5.2.8', 'PD completes behind the page requests received'),
  'IQ-DEV-1': rule(
    '6.5.2.5',
    'device-TLB invalidations: range by S and address, PASID, GI; waits stand behind the answers',
  ),
  'IQ-DEV-2': rule('6.5.2.5', 'at most 32 requests are under way, and at most MIP of a function'),
  'IQ-IQE-1': rule(
    '6.5.2.10',
    'IQE 3 or 4: unknown type, reserved bit, bad granularity, or a descriptor of a feature that is absent; the head stays',
  ),
  'IQ-IQE-2': rule('6.5.2.10', 'every reserved bit of every descriptor type is IQE 4'),
  'IQ-IQE-3': rule(
    '6.5.2.10',
    'IQE 1 tail out of range, 6 misaligned, 2 fetch, 5 width, 7 translation mode',
  ),
  'IQ-IQE-4': rule(
    '6.5.2.10',
    'the queue goes on from the head when software clears IQE, not before',
  ),
  'IQ-ITE-1': rule(
    '6.5.2.10',
    'no answer: ITE with its source, waits are aborted, fetching stops until ITE is cleared',
  ),
  'IQ-ICE-1': rule(
    '6.5.2.10',
    'an answer nobody waits for: ICE with its source; processing goes on',
  ),
  'IQ-PGRP-1': rule(
    '7.7',
    'page group responses go to the function with PASID, index and code, in order',
  ),
  'IQ-VIRT-1': rule('6.1', 'a virtual unit hands every descriptor on and waits until it is done'),

  // Page requests
  'PRQ-1': rule(
    '7.3',
    'a request becomes a 32-byte descriptor at the tail; PQT moves, PPR raises the event',
  ),
  'PRQ-2': rule(
    '7.3',
    'page tables do not count; the ring wraps and is full one slot before the head',
  ),
  'PRQ-3': rule(
    '7.3.1',
    'no room: PRO; the last of a group is answered Success; nothing is queued while PRO is set',
  ),
  'PRQ-4': rule(
    '7.3.1',
    'a request that fails its checks: recorded; the last of a group is answered Invalid, others are dropped',
  ),
  'PRQ-5': rule(
    '7.3.2',
    'a stop marker (PASID, last, no access) is queued, or lost without room, and never answered',
  ),
  'PRQ-6': rule('7.3.1', 'remapping or page requests off: Invalid for the last of a group'),
  'PRQ-7': rule(
    '7.3.1',
    'before queueing, stale translations of the page go: page (first, second stage), domain (nested)',
  ),

  // Interrupt remapping
  'IR-1': rule('5.1.2', 'remapping off: compatibility messages pass'),
  'IR-2': rule('5.1.2', 'compatibility format: blocked unless CFI is set and EIME is not'),
  'IR-3': rule(
    '5.1.3',
    'remappable format: handle, plus subhandle with SHV, selects the entry; the message goes out in its form',
  ),
  'IR-4': rule(
    '9.10',
    'source validation: none, requester under SQ, bus range; type 3 is reserved',
  ),
  'IR-5': rule('9.10', 'every reserved bit of an entry gives 24h'),
  ...FAULT_RULES,
} as const satisfies Readonly<Record<string, Rule>>;

export type RuleId = keyof typeof RULES;

export interface RuleTest {
  readonly ids: readonly RuleId[];
  readonly title: string;
}

/** Where `rule` puts its tests instead of declaring them, when somebody collects. */
export const COLLECTOR: unique symbol = Symbol.for('vsva.vtd.rules');

/** All modelled rules by id. */
export const rules: ReadonlyMap<string, Rule> = new Map(Object.entries(RULES));

/** What is not modelled, and why. The capability bits read 0. */
export const NOT_MODELLED: readonly (readonly [section: string, text: string, why: string])[] = [
  [
    '7.4',
    'reads of status, control and PQT push messages and page requests in flight',
    'nothing is ever in flight between the unit and memory or the interrupt fabric',
  ],
  [
    '10.4',
    'PMEN and protected memory ranges',
    'CAP.PLMR and PHMR read 0: software without them never enables it',
  ],
  ['10.4', 'advanced fault logging', 'removed from the architecture; AFLOG reads 0'],
  ['10.4', 'virtual command interface', 'ECAP.VCS reads 0: PASIDs are not virtualised'],
  ['10.4', 'performance monitoring, enhanced commands', 'ECAP.PMS and CAP.ECMDS read 0'],
  [
    '9.4',
    'host permission tables, PASIDs in translated requests (60h, A0h-A5h)',
    'ECAP bits 55, 56 and 59 read 0; HPTE and EPTR are reserved',
  ],
  ['5.2', 'posted interrupts (27h, 28h)', 'CAP.PI reads 0; the bit is reserved in an entry'],
  [
    '9.8',
    'interrupt permissions IR and IW in second-stage entries',
    'ECAP.SSIRWS reads 0; RTADDR.SSIRWE is an invalid address register (30h)',
  ],
  [
    '7.1.3',
    'the answer to a page request whose PASID is wider than PSS (89h)',
    'the fault table has none; the unit answers Invalid, as for the other faults of a PASID',
  ],
  [
    '7.1.3',
    'fault 34h (execute requested, version 8 and later)',
    'the unit is version 1.0, where the same request faults 5Ch',
  ],
  ['3.6', 'execute permission, NXE and SMEP', 'ECAP.ERS reads 0, as in the current revision'],
  ['7.1.3', 'fault 82h', 'historical: there is no execute check'],
  [
    '10.4.4',
    'requests in flight during SRTP, pending RTPS and WBFS',
    'a command is done when its write returns, which the specification allows',
  ],
  [
    '6.5.3',
    'drain of reads and writes in flight',
    'a request is over before the next thing happens: every drain is done at once',
  ],
  [
    '5.1.5',
    'x2APIC destinations above 255',
    'the machine has one processor; the low 8 bits go out',
  ],
  [
    '10.4.2',
    'CAP.ND below 16 bits',
    "domain ids beyond ND are software's mistake; all 16 bits are compared",
  ],
  ['6.2', 'ECAP.MHMV', "IM beyond MHMV is software's mistake; any IM is carried out"],
];
