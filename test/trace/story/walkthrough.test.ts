import test from 'ava';
import fc from 'fast-check';
import { engine } from '../../../trace/catalogue/engine.ts';
import { guest } from '../../../trace/catalogue/guest.ts';
import { host } from '../../../trace/catalogue/host.ts';
import { vmm } from '../../../trace/catalogue/vmm.ts';
import { vtd } from '../../../trace/catalogue/vtd.ts';
import {
  type Line,
  Walkthrough,
  type WalkthroughOptions,
} from '../../../trace/story/walkthrough.ts';
import { Tracer } from '../../../trace/tracer.ts';

function walked(options?: WalkthroughOptions) {
  const time = { ns: 0 };
  const lines: Line[] = [];
  const trace = new Tracer(() => time.ns);
  const story = new Walkthrough((line) => lines.push(line), options);
  let events = 0;
  trace.listen((record) => {
    events++;
    story.add(record);
  });
  return { trace, story, lines, time, events: () => events };
}

/** A line as it is printed, without colours. */
function plain(line: Line): string {
  if (line.kind === 'phase') return `${line.number}. ${line.text}`;
  return line.kind === 'event' ? line.margin + line.text : line.text;
}

const of = <K extends Line['kind']>(lines: readonly Line[], kind: K) =>
  lines.filter((line): line is Extract<Line, { kind: K }> => line.kind === kind);

const indentOf = (line: { text: string }): number => line.text.search(/\S/);

/** Sum of the `12×name` counts. */
const foldedIn = (lines: readonly Line[]): number =>
  of(lines, 'fold')
    .flatMap(({ text }) => [...text.matchAll(/(\d+)\u00d7/g)])
    .reduce((sum, [, count]) => sum + Number(count), 0);

const step = (trace: Tracer, pid: number, text: string, vm = 'vm0'): number =>
  trace.emit(guest.program, { vm, pid, step: text });

const ioctl = (trace: Tracer, name: string, args = '') =>
  trace.span(host.ioctl, { pid: 1, fd: 3, name, args });

test('an event has the time, the layer, its name and its values', (t) => {
  const { trace, lines } = walked();
  trace.emit(host.attachPasid, { device: '0000:00:01.0', pasid: 1, domain: 'hwpt 5', hwpt: 0 });
  t.deepEqual(lines.map(plain), [
    '    +0 ns host   attach_device_pasid device=00:01.0 pasid=1 domain=hwpt 5',
  ]);
});

test('indentation follows causes', (t) => {
  const { trace, lines } = walked();
  {
    using _exit = trace.span(vmm.vmExit, {
      vm: 'vm0',
      reason: 'mmio write',
      address: 0xfed9_0088,
      bytes: 4,
      value: '0x20',
      what: 'IQT_REG',
    });
    {
      using _first = ioctl(trace, 'IOMMU_HWPT_ALLOC');
      trace.emit(host.objectNew, { pid: 1, id: 4, type: 'hwpt', parent: 0, detail: '' });
    }
    using _second = ioctl(trace, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT');
    trace.emit(host.attachPasid, { device: 'd', pasid: 1, domain: 'hwpt 4', hwpt: 0 });
  }
  trace.emit(host.detachPasid, { device: 'd', pasid: 1, domain: 'hwpt 4', hwpt: 0 });
  t.deepEqual(
    of(lines, 'event').map((line) => [indentOf(line), line.text.trim().split(' ', 1)[0]]),
    [
      [0, 'kvm_exit'],
      [1, 'ioctl'],
      [2, 'object_new'],
      [1, 'ioctl'],
      [2, 'attach_device_pasid'],
      [0, 'detach_device_pasid'],
    ],
  );
});

test('what a folded event caused is folded with it; indentation has a limit', (t) => {
  const { trace, lines } = walked();
  trace.emit(host.ioctl, { pid: 1, fd: 3, name: 'X', args: '' });
  {
    using _folded = ioctl(trace, 'X');
    trace.emit(host.pin, { pid: 1, address: 0, pages: 1 });
  }
  t.deepEqual(of(lines, 'event').map(indentOf), [0]);

  using stack = new DisposableStack();
  for (let i = 0; i < 40; i++) stack.use(ioctl(trace, `deep${i}`));
  const depths = of(lines, 'event').slice(1).map(indentOf);
  t.deepEqual(depths.slice(0, 4), [0, 1, 2, 3]);
  t.is(Math.max(...depths), 14);
  t.is(depths.at(-1), 14);
});

test('phases begin where the machine says so, are numbered, and close the one before', (t) => {
  const { trace, story, lines } = walked();
  trace.emit(engine.powerOn, { seed: 1, ramBytes: 1, functions: 1 });
  for (let i = 0; i < 3; i++) trace.emit(host.pin, { pid: 1, address: 0, pages: 1 });
  trace.emit(vmm.start, { vm: 'vm0', pid: 1, ramBytes: 1, device: 'd' });
  trace.emit(guest.boot, { vm: 'vm0', ramBytes: 1, commandLine: '' });
  step(trace, 1, 'copy the file');
  trace.emit(guest.shutdown, { vm: 'vm0', code: 0 });
  trace.emit(engine.settled, { vms: 1, processes: 1 });
  story.end();
  t.is(story.phases, 6);
  t.deepEqual(
    of(lines, 'phase').map(({ number, text }) => `${number}. ${text}`),
    [
      '1. The host boots, at 0 ns',
      '2. The VMM builds a machine around the assigned device, at 0 ns',
      '3. The guest boots: it finds its IOMMU and the device, at 0 ns',
      '4. Program: copy the file, at 0 ns',
      '5. The guest powers off; the VMM takes the machine apart, at 0 ns',
      '6. What is left, at 0 ns',
    ],
  );
  t.deepEqual(
    lines.slice(0, 5).map(({ kind }) => kind),
    ['phase', 'event', 'event', 'fold', 'phase'],
  );
  t.is(lines[3]!.text.trim(), 'more of the same: 2\u00d7pin_user_pages');
});

test('a phase tells when it begins; the times in it count from there', (t) => {
  const { trace, lines, time } = walked();
  time.ns = 500;
  trace.emit(host.pin, { pid: 1, address: 0, pages: 1 });
  time.ns = 1_000_700;
  step(trace, 1, 'bind');
  time.ns += 2_500;
  trace.emit(host.unpin, { pid: 1, pages: 1 });
  t.deepEqual(
    lines.map(plain).map((line) => line.trim()),
    [
      '+500 ns host   pin_user_pages pid=1 address=0x0 pages=1',
      '1. Program: bind, at 1000700 ns',
      '+0 ns guest  program pid=1 bind',
      '+2.50 us host   unpin_user_pages pid=1 pages=1',
    ],
  );
});

test('a phase names its machine and process only where there are several', (t) => {
  const titles = (withVm: boolean): string[] => {
    const { trace, lines } = walked({ withVm });
    trace.emit(guest.boot, { vm: 'vm3', ramBytes: 1, commandLine: '' });
    step(trace, 7, 'unbind', 'vm3');
    return of(lines, 'phase').map(({ text }) => text);
  };
  t.deepEqual(titles(false), [
    'The guest boots: it finds its IOMMU and the device, at 0 ns',
    'Program: unbind, at 0 ns',
  ]);
  t.deepEqual(titles(true), [
    'The guest boots: it finds its IOMMU and the device (vm3), at 0 ns',
    'Program: unbind (vm3 process 7), at 0 ns',
  ]);
});

test('what repeats in a phase is told once; a new phase tells it again', (t) => {
  const { trace, story, lines } = walked();
  for (const title of ['one', 'two']) {
    step(trace, 1, title);
    for (let i = 0; i < 5; i++) trace.emit(host.pin, { pid: 1, address: i * 4096, pages: 1 });
  }
  story.end();
  const pins = of(lines, 'event').filter(({ text }) => text.includes('pin_user_pages'));
  t.is(pins.length, 2);
  t.deepEqual(
    of(lines, 'fold').map(({ text }) => text.trim()),
    ['more of the same: 4\u00d7pin_user_pages', 'more of the same: 4\u00d7pin_user_pages'],
  );
});

test('the same phase of a second process adds what is new, and the steps of the path', (t) => {
  const { trace, story, lines } = walked({ withVm: true });
  for (const pid of [1, 2]) {
    step(trace, pid, 'bind');
    trace.emit(guest.bind, { vm: 'vm0', pid, rid: '00:01.0', pasid: pid, pgd: 0 });
    trace.emit(host.pin, { pid: 1, address: 0, pages: 1 });
  }
  trace.emit(host.unpin, { pid: 1, pages: 1 });
  story.end();
  t.is(of(lines, 'phase').length, 2);
  t.deepEqual(
    of(lines, 'event').map(({ text }) => text.trim().split(' ', 1)[0]),
    [
      'program',
      'iommu_sva_bind_device',
      'pin_user_pages',
      'program',
      'iommu_sva_bind_device',
      'unpin_user_pages',
    ],
  );
  t.is(lines.at(-1)!.text.trim(), 'more of the same: 1\u00d7pin_user_pages');
});

test('a refusal is told although the same call succeeded before', (t) => {
  const { trace, lines } = walked();
  const answer = { pid: 1, fd: 3, name: 'IOMMU_HWPT_ALLOC' };
  trace.emit(host.ioctlReturn, { ...answer, result: '0', out: '', reason: '' });
  trace.emit(host.ioctlReturn, { ...answer, result: '0', out: '', reason: '' });
  trace.emit(host.ioctlReturn, {
    ...answer,
    result: '-EINVAL',
    out: '',
    reason: 'flags 0x80 unknown',
  });
  t.is(of(lines, 'event').length, 2);
  t.true(of(lines, 'event')[1]!.text.includes('flags 0x80 unknown'));
});

test('told and folded add up to what happened, whatever happened', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(5), fc.nat(4), fc.nat(3)), { maxLength: 200 }),
      (happenings) => {
        const { trace, story, lines, events } = walked();
        for (const [what, a, b] of happenings) {
          trace.cause = Math.max(0, events() - b);
          if (what === 0) step(trace, a, `step ${b}`);
          else if (what === 1) trace.emit(host.pin, { pid: a, address: b, pages: 1 });
          else if (what === 2) ioctl(trace, `IOCTL_${a}`)[Symbol.dispose]();
          else if (what === 3) trace.emit(guest.shutdown, { vm: `vm${a}`, code: b });
          else {
            trace.emit(vtd.descriptor, {
              unit: a > 2 ? 'host' : 'vm0',
              descriptor: `kind${b} did=${a}`,
              qw0: 0,
              qw1: 0,
              dropped: a,
            });
          }
        }
        story.end();
        t.is(of(lines, 'event').length + foldedIn(lines), events());
        const phases = of(lines, 'phase');
        t.deepEqual(
          phases.map(({ number }) => number),
          phases.map((_, i) => i + 1),
        );
        const before = lines.length;
        story.end();
        t.is(lines.length, before, 'ended is ended');
      },
    ),
  );
});

test('every line is within 100 columns unless one word alone is longer', (t) => {
  const text = fc.string({ unit: 'grapheme-ascii', maxLength: 400 });
  fc.assert(
    fc.property(fc.array(fc.tuple(text, text), { maxLength: 20 }), fc.nat(20), (texts, depth) => {
      const { trace, story, lines } = walked({ withVm: true });
      using stack = new DisposableStack();
      for (let i = 0; i < depth; i++) stack.use(ioctl(trace, `deep${i}`));
      for (const [name, args] of texts) {
        step(trace, 1, args);
        ioctl(trace, name, args)[Symbol.dispose]();
        ioctl(trace, name, args)[Symbol.dispose]();
      }
      story.end();
      for (const line of lines.map(plain)) {
        t.notRegex(line, /\n/);
        if (line.length <= 100) continue;
        const longest = Math.max(...line.split(' ').map((word) => word.length));
        t.true(longest > 100 - 17 - 14 - 4, line);
      }
    }),
  );
});

test('many folded kinds are wrapped too', (t) => {
  const { trace, story, lines } = walked();
  for (let i = 0; i < 2; i++) {
    for (const def of Object.values(vtd)) {
      const values = Object.fromEntries(
        Object.entries(def.fields).map(([field, kind]) => [field, kind === 'text' ? 'same' : 0]),
      );
      trace.emit(def as typeof vtd.register, values as never);
    }
  }
  story.end();
  const folds = of(lines, 'fold');
  t.true(folds.length > 1);
  // The levels of a walk are never folded by their shape.
  t.is(foldedIn(lines), Object.keys(vtd).length - 1);
  for (const { text } of folds) t.true(text.length <= 100, text);
});
