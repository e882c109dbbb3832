/** The fixed part of the differential run; `npm run differential` goes on from here. */
import { differential, reachable } from './differential.ts';
import { rule } from './rule.ts';

const REQUESTS = 20_000;

for (const seed of [3, 6]) {
  rule(
    ['ATS-1', 'CACHE-10', 'CACHE-11', 'LOG-1'],
    `random tables and requests agree with the second opinion, and reach every code, seed ${seed}`,
    (t) => {
      const { codes, failure, granted, requests } = differential({ requests: REQUESTS, seed });
      t.is(failure, null);
      t.is(requests, REQUESTS);
      t.true(granted > REQUESTS / 20, `${granted} granted`);
      t.deepEqual(
        reachable().filter((code) => !codes.has(code)),
        [],
      );
    },
  );
}
