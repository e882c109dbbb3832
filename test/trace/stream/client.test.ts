import { connect, createServer, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import type { EventRecord } from '../../../trace/event.ts';
import { type ClientOptions, RequestError, StreamClient } from '../../../trace/stream/client.ts';
import { Run, serve, upTo } from './rig.ts';

/** A way to the server that can be cut. */
async function cuttable(t: ExecutionContext, port: number) {
  const pairs: Socket[] = [];
  const proxy = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    pairs.push(near, far);
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of pairs) socket.destroy();
    proxy.close();
  });
  const cut = (): void => {
    for (const socket of pairs.splice(0)) socket.destroy();
  };
  return { url: `ws://127.0.0.1:${(proxy.address() as { port: number }).port}/`, cut };
}

function follow(t: ExecutionContext, options: Omit<ClientOptions, 'events'>) {
  const records: EventRecord[] = [];
  const lost: string[] = [];
  let resumed = 0;
  let wake: () => void = () => undefined;
  const client = new StreamClient({
    ...options,
    events: {
      hello: (_hello, again) => {
        if (again) resumed++;
        wake();
      },
      events: (view) => {
        records.push(...(view?.records() ?? []));
        wake();
      },
      lost: (reason) => {
        lost.push(reason);
        wake();
      },
    },
  });
  t.teardown(() => client.close());
  const until = async (test: () => boolean): Promise<void> => {
    while (!test()) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { client, records, lost, until, resumed: () => resumed };
}

test('events arrive as they were told', async (t) => {
  const run = new Run();
  const { url } = await serve(t, run);
  const told: EventRecord[] = [];
  run.trace.listen((record) => {
    told.push(record);
  });
  run.tell(300, 'été');
  const { records, until } = follow(t, { url, after: 0 });
  await until(() => records.length === 300);
  t.deepEqual(records, told);
});

test('a connection that breaks is taken up again without loss or repetition', async (t) => {
  const run = new Run();
  const { port } = await serve(t, run);
  const { url, cut } = await cuttable(t, port);
  const { records, until, resumed, lost } = follow(t, { url, after: 0 });
  for (let i = 1; i <= 5; i++) {
    run.tell(1000);
    await until(() => records.length > 1000 * i - 500);
    cut();
    run.tell(7);
    await until(() => resumed() === i);
  }
  await until(() => records.length === 5035);
  t.deepEqual(
    records.map(({ seq }) => seq),
    upTo(5035),
  );
  t.is(lost.length, 5);
});

test('a request is answered, or refused with its reason', async (t) => {
  const run = new Run();
  run.tell(10);
  const { url } = await serve(t, run);
  const { client, records, until } = follow(t, { url, after: 0 });
  await until(() => records.length === 10);
  t.like(await client.request('seek', { seq: 4 }), { seq: 4, ns: 40 });
  const error = await t.throwsAsync(client.request('seek', { seq: 99 }), {
    instanceOf: RequestError,
  });
  t.is(error.code, 'out_of_range');
  t.regex(error.message, /99.*0 to 10/);
});

test('a viewer that is not let in does not try for ever', async (t) => {
  const { url } = await serve(t, new Run(), { token: 'secret' });
  const { lost, until } = follow(t, { url });
  await until(() => lost.length === 1);
  t.regex(lost[0] ?? '', /token/);
});
