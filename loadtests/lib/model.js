// Who comes and what they want. A shopper is a function of the seed, the scenario and the number of the arrival, so that
// a run can be repeated whatever the order in which virtual users pick arrivals up.

import exec from 'k6/execution';

import { settings } from './settings.js';
import { zipf } from './zipf.js';

// FNV-1a over the text: neighbouring arrivals must not begin with neighbouring states.
function hash(text) {
  let state = 0x811c9dc5;
  for (let index = 0; index < text.length; index += 1) {
    state = Math.imul(state ^ text.charCodeAt(index), 0x01000193);
  }
  return state >>> 0;
}

// mulberry32: numbers in [0, 1).
export function randomOf(text) {
  let state = hash(text);
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

// The shopper of this arrival.
export function shopper() {
  const number = exec.scenario.iterationInTest;
  const name = `${exec.scenario.name}-${number}`;
  const random = randomOf(`${settings.seed}/${name}`);
  return {
    number,
    random,
    chance: (share) => random() < share,
    below: (count) => Math.floor(random() * count),
    // Keys are the same for each copy of a request, and never shared between runs.
    key: (step) => `${settings.run}-${name}-${step}`,
  };
}

// One unit for 70 of 100, two to five for the rest.
export const units = (who) => (who.chance(0.7) ? 1 : 2 + who.below(4));

// A shop of `count` SKUs whose popularity falls like 1 / rank^skew; skew 0 is uniform.
export const chooser = (count, skew) => (skew === 0 ? (random) => Math.floor(random() * count) : zipf(count, skew));

// `wanted` different SKUs of the shop, in the order in which they came to mind.
export function several(who, choose, wanted) {
  const chosen = new Set();
  // A steep distribution over few SKUs may take long to give the last one; fewer will do.
  for (let tries = 0; chosen.size < wanted && tries < wanted * 20; tries += 1) chosen.add(choose(who.random));
  return [...chosen];
}
