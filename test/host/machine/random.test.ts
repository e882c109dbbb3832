import test from 'ava';
import { Random } from '../../../host/machine/random.ts';

test('the same seed gives the same numbers, another seed others', (t) => {
  const draw = (seed: number): number[] => {
    const random = new Random(seed);
    return Array.from({ length: 20 }, () => random.next());
  };
  t.deepEqual(draw(1), draw(1));
  t.notDeepEqual(draw(1), draw(2));
  t.true(draw(0).some((n) => n !== 0));
});

test('the generator is xoshiro128**: successive states follow its definition', (t) => {
  // An independent statement of the generator in bigint arithmetic.
  const mask = 0xffff_ffffn;
  const rotl = (x: bigint, k: bigint): bigint => ((x << k) | (x >> (32n - k))) & mask;
  let x = 42n;
  const splitmix = (): bigint => {
    x = (x + 0x9e37_79b9n) & mask;
    let z = x;
    z = ((z ^ (z >> 16n)) * 0x21f0_aaadn) & mask;
    z = ((z ^ (z >> 15n)) * 0x735a_2d97n) & mask;
    return z ^ (z >> 15n);
  };
  const s = [splitmix(), splitmix(), splitmix(), splitmix()];
  const random = new Random(42);
  for (let i = 0; i < 100; i++) {
    const want = (rotl((s[1]! * 5n) & mask, 7n) * 9n) & mask;
    const u = (s[1]! << 9n) & mask;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= u;
    s[3] = rotl(s[3]!, 11n);
    t.is(random.next(), Number(want));
  }
});

test('below stays below and reaches every value', (t) => {
  const random = new Random(3);
  const seen = new Set<number>();
  for (let i = 0; i < 2000; i++) {
    const n = random.below(7);
    t.true(n >= 0 && n < 7);
    seen.add(n);
  }
  t.is(seen.size, 7);
  t.is(random.below(1), 0);
  for (const n of [0, -1, 1.5, 2 ** 32 + 1]) {
    t.throws(() => random.below(n), { instanceOf: RangeError });
  }
});
