/** Every fault condition by every kind of request, with and without FPD, on both kinds of memory. */
import type { ExecutionContext } from 'ava';
import { type AddressType, AT, type CompletionStatus } from '../../../devices/pci/fabric.ts';
import { type Bench, CA, OK, SID, UR, vpn } from './bench.ts';
import { faultId, faultRule } from './fault-rules.ts';
import { type Req, SCENES, type Scene } from './fault-scenes.ts';
import { LEGACY_SCENES, type LegacyScene } from './legacy-scenes.ts';
import { rule } from './rule.ts';
import { or, PASID, SS_VA, second, VA } from './stages.ts';

const plain = { access: 'read', noWrite: false, exec: false, last: true } as const;
const both = [false, true] as const;

/** With a PASID also privileged and, where it counts, execute requests. */
function attributes(hasPasid: boolean): { hasPasid: boolean; priv: boolean; exec: boolean }[] {
  if (!hasPasid) return [{ hasPasid, priv: false, exec: false }];
  return both.flatMap((priv) => both.map((exec) => ({ hasPasid, priv, exec })));
}

const REQUESTS: readonly Req[] = both.flatMap((hasPasid) => [
  ...attributes(hasPasid).flatMap((who): Req[] => [
    ...(['read', 'write', 'atomic', 'zero-length read'] as const)
      .filter((access) => access === 'read' || !who.exec)
      .map((access): Req => ({ ...plain, ...who, kind: 'untranslated', access })),
    ...both.map((noWrite): Req => ({ ...plain, ...who, kind: 'translation', noWrite })),
  ]),
  ...(['read', 'write'] as const).map(
    (access): Req => ({ ...plain, kind: 'translated', hasPasid, priv: false, access }),
  ),
  ...both.flatMap((last) =>
    both
      .filter((priv) => hasPasid || !priv)
      .map((priv): Req => ({ ...plain, kind: 'page request', hasPasid, priv, last })),
  ),
]);

/** Any memory. */
const FRAME = 0x20_0000n;

const TYPES: Readonly<Record<Exclude<Req['kind'], 'page request'>, AddressType>> = {
  untranslated: AT.UNTRANSLATED,
  translation: AT.TRANSLATION,
  translated: AT.TRANSLATED,
};

/** What the specification says a request meets in a scene: a code, or 0. */
function expectedCode(scene: Scene, r: Req): number {
  const { code, level, meets = (): boolean => true } = scene;
  if (level === 'context') return code;
  switch (r.kind) {
    case 'translated':
      if (level === 'ats') return code;
      if (r.hasPasid) return 0x49;
      return scene.translatedToo === true ? code : 0;
    case 'page request':
      // Without DTE there is no PRE either, which is what a page request meets.
      if (level === 'ats') return 0x47;
      if (level === 'prefix') return r.hasPasid ? code : 0;
      return level === 'pre' || level === 'entry' ? code : 0;
    default: {
      const onWay =
        (level === 'ats' && r.kind === 'translation') ||
        (level === 'prefix' && r.hasPasid) ||
        level === 'entry';
      if (onWay) return code;
      if (r.exec) return 0x5c;
      return level === 'walk' && meets(r) ? code : 0;
    }
  }
}

function text(r: Req): string {
  const flags = [
    r.kind,
    r.kind === 'translation' ? (r.noWrite ? 'NW' : '') : r.access,
    r.hasPasid ? 'PASID' : '',
    r.priv ? 'privileged' : '',
    r.exec ? 'execute' : '',
    r.kind === 'page request' && !r.last ? 'not last' : '',
  ];
  return flags.filter((flag) => flag !== '').join(' ');
}

/** T1T2 of a record. */
function typeOf(r: Req): number {
  if (r.kind === 'page request') return 1;
  if (r.kind === 'translation') return 2;
  if (r.access === 'atomic') return 3;
  return r.access === 'write' ? 0 : 2;
}

/** Sends one request and holds everything that may be seen of it against the fault table. */
function check(
  t: ExecutionContext,
  bench: Bench,
  r: Req,
  where: { va: bigint; pasid: number; code: number; fpd: boolean; translatedToo?: boolean },
): void {
  const { code, fpd } = where;
  // A translated request names a frame.
  const va = r.kind === 'translated' && where.translatedToo !== true ? FRAME : where.va;
  const pasid = r.hasPasid ? where.pasid : -1;
  // Caches are emptied: each request meets the tables.
  bench.w32(0x18, 0xc000_0000);
  const tail = bench.r32(0xc8);
  bench.responses.length = 0;
  let status: CompletionStatus = OK;
  let records: boolean = code !== 0;
  if (r.kind === 'page request') {
    bench.unit.pageRequest(SID, pasid, r.priv, vpn(va), true, false, r.last, 7);
    const answers = code !== 0 && r.last ? [{ sid: SID, pasid, prgi: 7, code: 1 }] : [];
    t.deepEqual(bench.responses, answers, text(r));
    t.is(bench.r32(0xc8) !== tail, code === 0, `${text(r)}: queued`);
    bench.w32(0xc0, bench.r32(0xc8));
  } else {
    const request = { sid: SID, pasid, page: vpn(va), type: TYPES[r.kind] };
    bench.unit.request({ ...request, ...r });
    const { tr } = faultRule(code === 0 ? 0x71 : code);
    if (code !== 0) {
      status = UR;
      if (r.kind === 'translation') {
        status = tr === 'UR' ? UR : tr === 'CA' ? CA : OK;
        records = status !== OK || code === 0x91;
      } else if (r.kind === 'translated') {
        status = [0x50, 0x52, 0x58, 0x5a, 0x5b].includes(code) ? CA : UR;
      }
    }
    const result = bench.unit.result;
    t.is(result.fault.toString(16), code.toString(16), text(r));
    t.is(result.status, status, text(r));
    if (code !== 0 && status === OK) t.false(result.read || result.write, text(r));
  }
  if (fpd && code !== 0 && faultRule(code).qualified) records = false;
  const fault = bench.takeFault();
  if (!records) {
    t.is(fault, null, `${text(r)}: record`);
    return;
  }
  t.deepEqual(
    fault,
    {
      code,
      sid: SID,
      address: va,
      pasid: Math.max(pasid, 0),
      hasPasid: r.hasPasid,
      priv: r.hasPasid && r.priv,
      type: typeOf(r),
      at: r.kind === 'page request' ? 0 : TYPES[r.kind],
    },
    text(r),
  );
}

for (const scene of SCENES) {
  const { code, name, make, options = {}, fields = {}, pasid = PASID, skips } = scene;
  const { translatedToo = false } = scene;
  const va = scene.va ?? (make === second ? SS_VA : VA);
  for (const flat of both) {
    const memory = flat ? 'flat' : 'scattered';
    rule(
      [faultId(code), 'FPD-1', 'LOG-1', 'LOG-8'],
      `${make.name}: ${name}, ${memory} memory`,
      (t) => {
        for (const fpd of both) {
          const stage = make({ flat, ...options }, { sre: true, ...fields });
          const { bench } = stage;
          bench.w64(0xd0, bench.tables.page());
          if (fpd) or(stage, stage.context, 2n);
          scene.breakIt(stage);
          for (const r of REQUESTS) {
            if (skips?.(r) === true) continue;
            check(t, bench, r, { va, pasid, code: expectedCode(scene, r), fpd, translatedToo });
          }
        }
      },
    );
  }
}

rule(
  ['FR-49', 'FR-5C'],
  'sound tables: only execute and translated with PASID are refused',
  (t) => {
    const sound: Scene = { ...SCENES[0]!, code: 0x71, level: 'walk', meets: () => false };
    for (const make of [second, ...SCENES.map((scene) => scene.make)].slice(0, 60)) {
      const stage = make({}, { sre: true });
      stage.bench.w64(0xd0, stage.bench.tables.page());
      for (const r of REQUESTS) {
        const where = { va: make === second ? SS_VA : VA, pasid: PASID, fpd: false };
        check(t, stage.bench, r, { ...where, code: expectedCode(sound, r) });
      }
    }
  },
);

function legacyCode(scene: LegacyScene, r: Req): number {
  if (r.kind === 'page request') return 0x32;
  if (r.hasPasid) return 0x31;
  const { code, meets } = scene;
  if (r.kind === 'translated') return meets.translated ? code : 0;
  if (r.kind === 'translation') return meets.translation ? code : 0;
  const writes = r.access === 'write' || r.access === 'atomic';
  const reads = r.access !== 'write';
  return (writes && meets.write) || (reads && meets.read) ? code : 0;
}

for (const scene of LEGACY_SCENES) {
  rule([faultId(scene.code), 'FR-31', 'FR-32', 'LEG-2'], `legacy: ${scene.name}`, (t) => {
    for (const flat of both) {
      for (const fpd of both) {
        const { bench, context } = scene.make({ flat });
        if (fpd) bench.tables.or(context, 2n);
        for (const r of REQUESTS) {
          const code = legacyCode(scene, r);
          const { va, code: own } = scene;
          check(t, bench, r, { va, pasid: PASID, code, fpd, translatedToo: own === 0x04 });
        }
      }
    }
  });
}
