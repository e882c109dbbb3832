import type { Page } from 'playwright-core';
import type { EventRecord } from '../../../trace/event.ts';
import { GAUGES } from '../../../trace/state/chain.ts';
import { eventWords, timeText } from '../../../trace/story/text.ts';
import { phaseOf } from '../../../trace/story/walkthrough.ts';
import { compileFilter, type Filter } from '../../../trace/wire/filter.ts';
import { DECODER, Run, upTo } from '../stream/rig.ts';
import {
  cells,
  drawn,
  lists,
  MINUTES,
  open,
  type Served,
  servePage,
  serveRun,
  standsAt,
  type T,
  test,
  wholeRun,
  wire,
} from './browser.ts';

const { engine, commands, records } = wholeRun();
const LAST = records.length;
let whole: Served;

test.before(async () => {
  whole = await servePage(engine, commands);
});

test.after.always(async () => {
  await whole.server.close();
  engine.close();
});

/** The page of the whole run, when it has been told all of it. */
async function wholePage(t: T): Promise<Page> {
  t.timeout(2 * MINUTES);
  const page = await open(t, whole.url);
  await lists(page, LAST);
  return page;
}

const matching = (filter: Filter): EventRecord[] => {
  const { matches } = compileFilter(DECODER.layouts, filter);
  return records.filter((record) => matches(record));
};

const first = (name: string): EventRecord => records.find(({ def }) => def.name === name)!;

/** Goes to an event with the slider, as a drag ends. */
async function seek(page: Page, seq: number): Promise<void> {
  await page.locator('#seek').fill(String(seq));
  await page.locator('#seek').dispatchEvent('change');
  await standsAt(page, seq);
}

async function textOf(page: Page, selector: string): Promise<string> {
  await drawn(page);
  return (await page.locator(selector).textContent()) ?? '';
}

/** What the page shows of the state after an event, beside what the events say. */
async function showsState(t: T, page: Page, seq: number): Promise<void> {
  const { run, pasids, objects, chain, hardware } = engine.history.stateAt(seq);
  t.is(await textOf(page, '#clock'), timeText(run.ns));
  const gauges = await page.locator('.storey span').allTextContents();
  const told = GAUGES.map(({ label, bytes }, i) => {
    const value = chain.gauges[i] ?? 0;
    return `${bytes === true ? `${Math.round(value / 1024)} KiB` : value} ${label}`;
  });
  t.deepEqual(gauges, told);
  await page.getByRole('tab', { name: 'PASIDs' }).click();
  await page.locator('#pasids').waitFor();
  const rows = [...pasids.rows.values()];
  t.deepEqual(
    (await cells(page, '#pasids')).map((row) => [...row.slice(0, 5), row[6], row[7]]),
    rows.map(({ vm, pasid, pid, device, hwpt, pageRequests, faults }) =>
      [vm || '?', pasid, pid || '', device, hwpt || '', pageRequests, faults].map(String),
    ),
  );
  await page.getByRole('tab', { name: 'Objects' }).click();
  await page.locator('#objects').waitFor();
  const shown = await cells(page, '#objects');
  t.deepEqual(
    shown.map(([pid, id, type]) => [pid, id, type]),
    [...objects.objects.values()].map(({ pid, id, type }) => [`${pid}`, `${id}`, type]),
  );
  await page.getByRole('tab', { name: 'Hardware' }).click();
  await page.locator('#units').waitFor();
  t.deepEqual(
    (await cells(page, '#units')).map(([unit, hits, walks]) => [unit, hits, walks]),
    [...hardware.units.values()].map(({ unit, hits, walks }) => [unit, `${hits}`, `${walks}`]),
  );
}

test('it shows what the model says: clock, gauges, tables, events; now and in the past', async (t) => {
  const page = await wholePage(t);
  t.is(await textOf(page, '#run'), 'ended: Verified.');
  t.is(await textOf(page, '#position'), `event ${LAST} of ${LAST}`);
  await showsState(t, page, LAST);
  const last = records.at(-1)!;
  t.is(
    await textOf(page, `#event-${LAST}`),
    `${LAST}${timeText(last.ns)}${last.def.layer}${eventWords(last, true).join(' ')}`,
  );
  const done = first('dsa:desc_complete').seq;
  await seek(page, done);
  t.is(await textOf(page, '#run'), 'paused');
  await lists(page, done);
  await showsState(t, page, done);
});

test('search and filters: what is listed is what matches', async (t) => {
  const page = await wholePage(t);
  const words = page.getByLabel('Words that events contain');
  const names = page.getByLabel('Names of events');
  const layer = page.getByLabel('Layer', { exact: true });
  await words.fill('hwpt pasid=1');
  await lists(page, matching({ text: 'hwpt pasid=1' }).length);
  await words.fill('');
  await layer.selectOption('vtd');
  await lists(page, matching({ layers: ['vtd'] }).length);
  await names.fill('walk, inv_*');
  const both = matching({ layers: ['vtd'], names: ['walk', 'inv_*'] });
  t.true(both.length > 10 && both.length < LAST / 2);
  await lists(page, both.length);
  await page.locator('#list').focus();
  await page.keyboard.press('f');
  await drawn(page);
  const listed = await page.locator('.row .seq').allTextContents();
  const wanted = both.slice(-listed.length).map(({ seq }) => String(seq));
  t.deepEqual(listed, wanted);
  await layer.selectOption('');
  await names.fill('');
  await page.getByLabel('PASID', { exact: true }).fill('2');
  await lists(page, matching({ pasids: [2] }).length);
  await page.getByLabel('PASID', { exact: true }).fill('two');
  t.is(await textOf(page, '#refusal:not([hidden])'), 'a PASID is a number: two');
  await page.getByLabel('PASID', { exact: true }).fill('');
  await names.fill('no_such');
  t.regex(await textOf(page, '#refusal:not([hidden])'), /no_such/);
  await names.fill('');
  await lists(page, LAST);
  t.true(await page.locator('#refusal').isHidden());
});

test('back and forth in time: by slider, event, phase, and to both ends', async (t) => {
  const page = await wholePage(t);
  const half = LAST >> 1;
  await seek(page, half);
  await page.getByLabel('One event (n)').click();
  await standsAt(page, half + 1);
  await page.getByLabel('Back by one event (b)').click();
  await standsAt(page, half);
  const phase = records.find((record) => record.seq > half && phaseOf(record) !== undefined)!;
  await page.getByLabel('To the next phase (p)').click();
  await standsAt(page, phase.seq);
  t.regex(await textOf(page, '#phase'), new RegExp(phaseOf(phase)!.title.slice(0, 8)));
  await page.getByLabel('To the beginning (Home)').click();
  await standsAt(page, 0);
  await lists(page, 0);
  await page.getByLabel('To the newest event (End)').click();
  await standsAt(page, LAST);
  await lists(page, LAST);
  const listed = await page.locator('.row .seq').allTextContents();
  t.is(new Set(listed).size, listed.length, 'no event twice');
});

test('an event: its fields, what led to it, what it caused; a PASID entry bit by bit', async (t) => {
  const page = await wholePage(t);
  const entry = records.findLast(({ def }) => def.name === 'intel_iommu:pasid_entry')!;
  await page.getByLabel('Names of events').fill('intel_iommu:pasid_entry');
  await lists(page, matching({ names: ['intel_iommu:pasid_entry'] }).length);
  await page.locator(`#event-${entry.seq}`).click();
  t.is(await textOf(page, '#panel h2 >> nth=0'), `#${entry.seq} ${entry.def.name}`);
  const chain = [entry.seq];
  for (let { cause } = entry; cause !== 0; { cause } = records[cause - 1]!) chain.unshift(cause);
  t.true(chain.length > 1);
  const causes = page.locator('#causes .cause');
  t.deepEqual(
    await causes.evaluateAll((all) =>
      all.map((one) => Number((one as HTMLElement).dataset['seq'])),
    ),
    chain,
  );
  const was = Number(BigInt(entry.values['old0']!) & 1n) === 1 ? 'yes' : 'no';
  const is = Number(BigInt(entry.values['qw0']!) & 1n) === 1 ? 'yes' : 'no';
  const present = page.locator('.fields [data-field="P"]');
  t.is(await present.textContent(), is);
  t.is(await present.getAttribute('class'), is === was ? null : 'changed');
  const did = BigInt(entry.values['qw1']!) & 0xffffn;
  t.is(await textOf(page, '.fields [data-field="DID"]'), String(did));
  await causes.first().click();
  t.is(
    await textOf(page, '#panel h2 >> nth=0'),
    `#${chain[0]} ${records[chain[0]! - 1]!.def.name}`,
  );
  const effects = records.filter(({ cause }) => cause === chain[0]);
  t.is(await page.locator('#effects .cause').count(), Math.min(effects.length, 64));
});

test('the walk of an address is the one that the unit did', async (t) => {
  const page = await wholePage(t);
  const { walks } = engine.history.stateAt(LAST).tables;
  const walk = [...walks.values()].findLast(({ levels, pasid }) => levels.length > 1 && pasid > 0)!;
  await page.keyboard.press('5');
  await page.getByLabel('Address').fill(`${walk.address.slice(0, -3)}abc`);
  await page.locator('#panel').getByLabel('PASID').fill(String(walk.pasid));
  await drawn(page);
  const rows = await cells(page, '#panel table');
  t.deepEqual(
    rows.map(([, , at, entry, decoded]) => [at, entry, decoded]),
    walk.levels.map(({ address, entry, decoded }) => [address, entry, decoded]),
  );
  t.true((await textOf(page, '#panel')).includes(`${walk.address} → ${walk.result}`));
  await page.getByLabel('Address').fill('0x1');
  t.regex(await textOf(page, '#panel'), /No walk of it was told/);
  await page.getByLabel('Address').fill('nonsense');
  t.regex(await textOf(page, '#panel'), /no address/);
});

test('with the keyboard alone: help, selection, search, tabs, time, zoom', async (t) => {
  const page = await wholePage(t);
  const press = (key: string) => page.keyboard.press(key);
  const selected = () => textOf(page, '[aria-selected="true"].row .seq');
  await press('?');
  t.true(await page.locator('#keys').isVisible());
  await press('Escape');
  t.false(await page.locator('#keys').isVisible());
  await press('k');
  await press('ArrowUp');
  await page.locator(`#event-${LAST - 2}[aria-selected="true"]`).waitFor();
  await press('j');
  await page.locator(`#event-${LAST - 1}[aria-selected="true"]`).waitFor();
  await press('PageUp');
  t.true(Number(await selected()) < LAST - 5);
  await press('f');
  await page.locator(`#event-${LAST}[aria-selected="true"]`).waitFor();
  await press('/');
  await page.keyboard.type('copy');
  await lists(page, matching({ text: 'copy' }).length);
  await press('Enter');
  t.is(await page.evaluate(() => document.activeElement?.id), 'list');
  await press('/');
  await press('Backspace');
  await lists(page, LAST);
  await press('Escape');
  for (const [key, tab] of ['Event', 'PASIDs', 'Objects', 'Hardware', 'Walk'].entries()) {
    await press(String(key + 1));
    await page.locator(`[role="tab"][aria-selected="true"]:has-text("${tab}")`).waitFor();
  }
  await page.getByRole('tab', { name: 'Walk' }).focus();
  await press('ArrowLeft');
  await page.locator('[role="tab"][aria-selected="true"]:has-text("Hardware")').waitFor();
  await page.locator('#list').focus();
  const canvas = page.locator('canvas');
  const attribute = async (name: string): Promise<number> => {
    await drawn(page);
    return Number(await canvas.getAttribute(name));
  };
  const span = async (): Promise<number> =>
    (await attribute('data-to')) - (await attribute('data-from'));
  const before = await span();
  for (let i = 0; i < 12; i++) await press('+');
  t.true((await span()) < before / 10);
  t.true((await attribute('data-named')) > 0, 'events have names when zoomed in');
  const at = await attribute('data-to');
  await press('h');
  t.true((await attribute('data-to')) < at);
  for (let i = 0; i < 30; i++) await press('-');
  t.true((await span()) >= before);
  await press('b');
  await standsAt(page, LAST - 1);
  await press('n');
  await standsAt(page, LAST);
  await press('Home');
  await standsAt(page, 0);
  await press('End');
  await standsAt(page, LAST);
});

test('the pointer on the timeline: wheel zooms, dragging pans, a click selects', async (t) => {
  const page = await wholePage(t);
  const canvas = page.locator('canvas');
  const box = (await canvas.boundingBox())!;
  const from = async (): Promise<number> => {
    await drawn(page);
    return Number(await canvas.getAttribute('data-from'));
  };
  const begin = await from();
  await page.mouse.move(box.x + 600, box.y + 60);
  await page.mouse.down();
  await page.mouse.move(box.x + 900, box.y + 60, { steps: 4 });
  await page.mouse.up();
  t.true((await from()) < begin);
  const panned = await from();
  await page.mouse.wheel(0, -300);
  await page.waitForFunction(
    (was) => Number(document.querySelector('canvas')?.dataset['from']) !== was,
    panned,
  );
  await canvas.click({ position: { x: 640, y: 90 } });
  const seq = Number(await textOf(page, '[aria-selected="true"].row .seq'));
  t.true(seq >= (await from()) && seq <= Number(await canvas.getAttribute('data-to')));
});

test('a connection that breaks: it says so, comes back, and has every event once', async (t) => {
  t.timeout(2 * MINUTES);
  const run = new Run();
  run.tell(40);
  const { port } = await serveRun(t, run);
  const line = await wire(t, port);
  const page = await open(t, `http://127.0.0.1:${line.port}/`);
  await lists(page, 40);
  line.cut();
  await page.locator('#connection[data-state="lost"]').waitFor();
  t.true(await page.locator('#seek').isDisabled());
  run.tell(25);
  await line.mend();
  await page.locator('#connection[data-state="live"]').waitFor();
  await lists(page, 65);
  run.tell(10);
  await lists(page, 75);
  await page.evaluate(() => document.querySelector('#list')!.scrollTo(0, 0));
  const seen = new Set<number>();
  for (let top = 0; top < 75 * 20; top += 100) {
    await page.evaluate((y) => document.querySelector('#list')!.scrollTo(0, y), top);
    await drawn(page);
    const some = await page.locator('.row .seq').allTextContents();
    t.is(new Set(some).size, some.length);
    for (const seq of some) seen.add(Number(seq));
  }
  t.deepEqual(
    [...seen].sort((a, b) => a - b),
    upTo(75),
  );
});

test('pause, step and speed are asked of the run; without the right to, they cannot be', async (t) => {
  t.timeout(2 * MINUTES);
  const run = new Run();
  run.tell(20);
  const { url } = await serveRun(t, run, { controlToken: 'key' });
  const page = await open(t, `${url}?token=key`);
  await lists(page, 20);
  await page.keyboard.press(' ');
  await page.locator('#run[data-state="paused"], #run[data-state="running"]').waitFor();
  await page.getByLabel('Speed').selectOption('10');
  await page.waitForFunction(() => {
    const speed = document.querySelector<HTMLSelectElement>('[data-control="speed"]');
    return speed?.value === '10';
  });
  while (run.commands.length < 2) await drawn(page);
  t.deepEqual(run.commands, [{ type: 'pause' }, { type: 'speed', eventsPerSecond: 10 }]);
  const watcher = await open(t, url);
  await lists(watcher, 20);
  t.true(await watcher.locator('#seek').isDisabled());
  t.true(await watcher.locator('[data-control="pause"]').isDisabled());
});

test('a token: the page keeps the one of its address, and says when it is missing', async (t) => {
  t.timeout(2 * MINUTES);
  const run = new Run();
  run.tell(10);
  const { url } = await serveRun(t, run, { token: 'let me in' });
  await lists(await open(t, `${url}?token=let+me+in`), 10);
  const page = await open(t, url);
  t.regex(await textOf(page, '#refusal:not([hidden])'), /a token is needed/);
});

test('a flood of events: the page answers, keeps the newest, and fetches the rest again', async (t) => {
  t.timeout(2 * MINUTES);
  const run = new Run();
  const { url } = await serveRun(t, run);
  const page = await open(t, url);
  await page.locator('#connection[data-state="live"]').waitFor();
  for (let i = 0; i < 100; i++) {
    run.tell(1000);
    await new Promise(setImmediate);
    if (i === 50) await page.getByRole('tab', { name: 'Hardware' }).click();
  }
  await page.locator('#units').waitFor();
  await standsAt(page, 100_000);
  const kept = Number(await page.locator('#list').getAttribute('data-count'));
  t.true(kept >= 50_000 && kept <= 56_000, `${kept} events are kept`);
  await page.getByRole('button', { name: 'Load earlier events' }).click();
  await lists(page, kept + 1000);
  await seek(page, 500);
  await lists(page, 500);
  t.true(await page.locator('#earlier').isHidden());
});

/** The ratio of brightness between a text and what is behind it (WCAG 2). */
const contrast = (page: Page, selector: string): Promise<number> =>
  page.evaluate((wanted) => {
    const element = document.querySelector(wanted)!;
    const context = document.createElement('canvas').getContext('2d')!;
    const light = (colour: string, under = ''): number => {
      for (const one of [under, colour]) {
        context.fillStyle = one;
        if (one !== '') context.fillRect(0, 0, 1, 1);
      }
      const parts = [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)].map((part) => {
        const share = part / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * parts[0]! + 0.7152 * parts[1]! + 0.0722 * parts[2]!;
    };
    let ground = element;
    const isClear = (one: Element): boolean => {
      const { backgroundColor } = getComputedStyle(one);
      return backgroundColor === 'rgba(0, 0, 0, 0)' || backgroundColor.startsWith('color(');
    };
    while (isClear(ground)) ground = ground.parentElement!;
    const [a, b] = [
      light(getComputedStyle(element).color),
      light(getComputedStyle(ground).backgroundColor),
    ].sort((one, other) => other - one) as [number, number];
    return (a + 0.05) / (b + 0.05);
  }, selector);

test('light and dark, wide and narrow: everything fits, and can be read', async (t) => {
  const page = await wholePage(t);
  const grounds: string[] = [];
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    grounds.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    const layers = ['guest', 'vmm', 'host', 'vtd', 'device'].map((name) => `.storey.${name} b`);
    for (const text of ['#run', '.gap span', '#panel .source', '.row .seq', ...layers]) {
      t.true((await contrast(page, text)) >= 4.5, `${text} in ${colorScheme}`);
    }
  }
  t.not(grounds[0], grounds[1]);
  const size = () =>
    page.evaluate(() => {
      const { scrollWidth, scrollHeight } = document.documentElement;
      return [scrollWidth, scrollHeight];
    });
  t.deepEqual(await size(), [1280, 720]);
  t.true((await page.locator('#list').boundingBox())!.height > 200);
  await page.setViewportSize({ width: 390, height: 844 });
  for (const tab of ['1', '2', '3', '4', '5']) {
    await page.keyboard.press(tab);
    await drawn(page);
    t.is((await size())[0], 390, `tab ${tab} on a phone`);
  }
  for (const part of ['#list', '#panel', 'canvas']) {
    t.true((await page.locator(part).boundingBox())!.width > 300, part);
  }
});
