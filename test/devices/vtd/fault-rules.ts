/**
 * The fault table of the specification (7.1.3) as the tests see it, with nothing of the model's:
 * whether FPD suppresses the fault, what a translation request is answered (`ok0`: success without
 * permissions; `eff`: success with those there are), and whether a page request gets an Invalid
 * Request. `-` where the condition cannot arise.
 */

export interface FaultRule {
  readonly section: string;
  readonly text: string;
  readonly qualified: boolean;
  readonly tr: 'UR' | 'CA' | 'ok0' | 'eff' | '-';
  readonly pr: 'IR' | '-';
}

function fault(
  text: string,
  qualified: 'Y' | 'N',
  tr: FaultRule['tr'],
  pr: FaultRule['pr'],
): FaultRule {
  return { section: '7.1.3', text, qualified: qualified === 'Y', tr, pr };
}

export const FAULT_RULES = {
  'FR-01': fault('legacy root P=0', 'N', 'UR', '-'),
  'FR-02': fault('legacy context P=0', 'Y', 'UR', '-'),
  'FR-03': fault(
    'legacy context invalid (AW, TT, or second-stage root unreachable)',
    'Y',
    'CA',
    '-',
  ),
  'FR-04': fault('legacy address beyond MGAW, AW or HAW', 'Y', 'ok0', '-'),
  'FR-05': fault('legacy no write permission', 'Y', 'eff', '-'),
  'FR-06': fault('legacy no read permission', 'Y', 'eff', '-'),
  'FR-07': fault('legacy second-stage entry access error', 'Y', 'CA', '-'),
  'FR-08': fault('legacy root access error', 'N', 'CA', '-'),
  'FR-09': fault('legacy context access error', 'N', 'CA', '-'),
  'FR-0A': fault('legacy root reserved bits', 'N', 'CA', '-'),
  'FR-0B': fault('legacy context reserved bits', 'Y', 'CA', '-'),
  'FR-0C': fault('legacy second-stage reserved bits', 'Y', 'CA', '-'),
  'FR-0D': fault('TT forbids translation and translated requests', 'Y', 'UR', '-'),
  'FR-0E': fault('legacy output in the interrupt window', 'Y', 'CA', '-'),
  'FR-20': fault('interrupt request with a reserved field', 'N', '-', '-'),
  'FR-21': fault('interrupt index beyond the table, or entry address beyond HAW', 'N', '-', '-'),
  'FR-22': fault('interrupt entry P=0', 'Y', '-', '-'),
  'FR-23': fault('interrupt entry access error', 'N', '-', '-'),
  'FR-24': fault('interrupt entry reserved', 'Y', '-', '-'),
  'FR-25': fault('compatibility format blocked', 'N', '-', '-'),
  'FR-26': fault('source-id validation failed', 'Y', '-', '-'),
  'FR-29': fault('FEEx access that is not a valid interrupt', 'N', '-', '-'),
  'FR-2A': fault('EIME=0 with ECAP.EIMER', 'N', '-', '-'),
  'FR-2B': fault('interrupt while remapping is off, with ECAP.IRREQ', 'N', '-', '-'),
  'FR-30': fault('RTADDR invalid (mode reserved or unsupported, SSIRWE)', 'N', 'CA', 'IR'),
  'FR-31': fault('legacy mode, request with PASID', 'N', 'UR', '-'),
  'FR-32': fault('legacy mode, page request', 'N', '-', 'IR'),
  'FR-33': fault('abort-DMA mode', 'N', 'UR', 'IR'),
  'FR-38': fault('root entry access error', 'N', 'CA', 'IR'),
  'FR-39': fault('root entry P=0', 'N', 'UR', 'IR'),
  'FR-3A': fault('root entry reserved', 'N', 'CA', 'IR'),
  'FR-40': fault('context entry access error', 'N', 'CA', 'IR'),
  'FR-41': fault('context entry P=0', 'Y', 'UR', 'IR'),
  'FR-42': fault('context entry reserved', 'Y', 'CA', 'IR'),
  'FR-43': fault('context entry invalid', 'Y', 'CA', 'IR'),
  'FR-44': fault('DTE=0 for a translation or translated request', 'Y', 'UR', '-'),
  'FR-45': fault('PASIDE=0, request with PASID', 'Y', 'UR', 'IR'),
  'FR-46': fault('PASID beyond PDTS', 'Y', 'UR', 'IR'),
  'FR-47': fault('PRE=0, page request', 'Y', '-', 'IR'),
  'FR-48': fault('PASID equals RID_PASID', 'Y', 'UR', 'IR'),
  'FR-49': fault('EPTR clear, translated request with PASID', 'Y', '-', '-'),
  'FR-50': fault('directory entry access error', 'N', 'CA', 'IR'),
  'FR-51': fault('directory entry P=0', 'Y', 'ok0', 'IR'),
  'FR-52': fault('directory entry reserved', 'Y', 'CA', 'IR'),
  'FR-58': fault('PASID entry access error', 'N', 'CA', 'IR'),
  'FR-59': fault('PASID entry P=0', 'Y', 'ok0', 'IR'),
  'FR-5A': fault('PASID entry reserved', 'Y', 'CA', 'IR'),
  'FR-5B': fault('PASID entry invalid (PGTT, AW, FSPM, unsupported combination)', 'Y', 'CA', 'IR'),
  'FR-5C': fault('execute requested, ERS=0', 'Y', 'ok0', '-'),
  'FR-5D': fault('supervisor request, SRE=0', 'Y', 'ok0', '-'),
  'FR-70': fault('first-stage entry access error', 'Y', 'ok0', '-'),
  'FR-71': fault('first-stage entry P=0', 'Y', 'ok0', '-'),
  'FR-72': fault('first-stage reserved bits', 'Y', 'ok0', '-'),
  'FR-73': fault('first-stage root access error', 'Y', 'ok0', '-'),
  'FR-74': fault('nested: first-stage table or output address too large', 'Y', 'ok0', '-'),
  'FR-75': fault('nested: second stage lacks R on the first-stage root', 'Y', 'ok0', '-'),
  'FR-76': fault('nested: second stage lacks R on a first-stage table', 'Y', 'ok0', '-'),
  'FR-77': fault('nested: second stage lacks W for accessed and dirty bits', 'Y', 'ok0', '-'),
  'FR-78': fault('second-stage entry access error', 'Y', 'CA', '-'),
  'FR-79': fault('second-stage entry R=W=0, alone or cumulated', 'Y', 'ok0', '-'),
  'FR-7A': fault('second-stage reserved bits', 'Y', 'CA', '-'),
  'FR-7B': fault('second-stage root access error', 'Y', 'CA', '-'),
  'FR-7C': fault('second-stage accessed or dirty update, not snooped', 'Y', 'CA', '-'),
  'FR-7D': fault('second-stage accessed or dirty update failed', 'Y', 'CA', '-'),
  'FR-80': fault('address not canonical', 'Y', 'ok0', '-'),
  'FR-81': fault('user request to a supervisor page', 'Y', 'ok0', '-'),
  'FR-83': fault('address beyond HAW (pass-through, translated)', 'Y', 'ok0', '-'),
  'FR-84': fault('address beyond AW or MGAW (second stage only)', 'Y', 'ok0', '-'),
  'FR-85': fault('no write permission', 'Y', 'eff', '-'),
  'FR-86': fault('no read permission', 'Y', 'eff', '-'),
  'FR-87': fault('output in the interrupt window', 'Y', 'CA', '-'),
  'FR-89': fault('PASID wider than PSS', 'Y', 'UR', '-'),
  'FR-90': fault('first-stage accessed, extended or dirty update, not snooped', 'Y', 'ok0', '-'),
  'FR-91': fault('first-stage accessed, extended or dirty update failed', 'Y', 'ok0', '-'),
} as const satisfies Readonly<Record<string, FaultRule>>;

/** The row of a code. */
export function faultRule(code: number): FaultRule {
  const id = faultId(code);
  return FAULT_RULES[id];
}

/** `FR-0A`. */
export function faultId(code: number): keyof typeof FAULT_RULES {
  const id = `FR-${code.toString(16).toUpperCase().padStart(2, '0')}`;
  if (!(id in FAULT_RULES)) throw new Error(`${id} is not a fault of the model`);
  return id as keyof typeof FAULT_RULES;
}
