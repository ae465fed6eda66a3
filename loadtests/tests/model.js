// The model's own test: k6 run loadtests/tests/model.js. Draws are repeatable, and as uneven as they claim to be.

import { check } from 'k6';
import { chooser, randomOf, several } from '../lib/model.js';
import { users } from '../lib/plan.js';

export const options = { vus: 1, iterations: 1, thresholds: { checks: ['rate==1'] } };

function share(skew, count, draws) {
  const random = randomOf(`test ${skew}`);
  const choose = chooser(count, skew);
  const seen = new Array(count).fill(0);
  for (let draw = 0; draw < draws; draw += 1) seen[choose(random)] += 1;
  return seen.map((times) => times / draws);
}

export default function () {
  const count = 100;
  for (const skew of [0.8, 1, 1.2]) {
    const weights = Array.from({ length: count }, (_, rank) => (rank + 1) ** -skew);
    const all = weights.reduce((sum, weight) => sum + weight, 0);
    const seen = share(skew, count, 20000);
    // The rarest rank that is looked at has some 350 draws: four standard deviations are a fifth of its share.
    const off = [0, 1, 2, 9].map((rank) => Math.abs(seen[rank] / (weights[rank] / all) - 1));
    check(off, { [`ranks at skew ${skew} have their share`]: (parts) => parts.every((part) => part < 0.2) });
  }
  const draws = (text) => Array.from({ length: 5 }, randomOf(text)).join();
  check(null, {
    'a seed is repeatable': () => draws('1/a-7') === draws('1/a-7'),
    'neighbours differ': () => draws('1/a-7') !== draws('1/a-8'),
    'several are different': () => {
      const random = randomOf('several');
      const found = several({ random }, chooser(5, 1), 4);
      return new Set(found).size === found.length && found.length === 4;
    },
    'users cover slow iterations': () => users(100, 2) === 300,
  });
}
