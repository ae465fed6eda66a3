// Hours at six tenths of the rate: memory, latency and the journal's growth must be at the end what they were at the beginning.

import { Trend } from 'k6/metrics';

import { witnesses } from '../lib/client.js';
import { audit, open, stock } from '../lib/audit.js';
import { chooser, shopper, units } from '../lib/model.js';
import { guarded, plan, steady } from '../lib/plan.js';
import { settings, sizes } from '../lib/settings.js';
import { commit, lurk, release, reserve, visit } from '../lib/shopping.js';
import { summary } from '../lib/summary.js';

const hold = new Trend('soak_hold', true);

const size = sizes({ minutes: 360, skus: 1000, units: 100000000, witness_every: 50 });
const choose = chooser(size.skus, 1);
const parts = ['first', 'middle', 'last'];

// A ledger of every answer of six hours would fill the disk; of every fiftieth SKU, all answers are written down. SKUs are
// named by their number.
witnesses((sku) => Number(sku.split('-').pop()) % size.witness_every === 0);

export const options = plan({
  scenarios: { soak: steady('come', settings.rate * 0.6, size.minutes * 60) },
  latency: { hold_accepted: 'p(99)<250' },
  told: parts.map((part) => `soak_hold{part:${part}}`),
});

export const setup = () => stock({ count: size.skus, units: size.units });

export const come = guarded((data) => {
  const who = shopper();
  const shop = open(data);
  const passed = (Date.now() - data.began_ms) / (size.minutes * 60000);
  const part = parts[Math.min(2, Math.floor(passed * 3))];
  if (who.chance(0.2)) {
    lurk(who, shop.name(choose(who.random)));
    return;
  }
  if (who.chance(0.5)) {
    visit(who, shop, choose, units(who));
    return;
  }
  const held = reserve(who, [{ sku: shop.name(choose(who.random)), quantity: units(who) }], { ttl_s: 20 });
  if (!held) return;
  hold.add(held.response.timings.duration, { part });
  const fate = who.random();
  if (fate < 0.7) commit(who, held);
  else if (fate < 0.85) release(who, held);
});

export const teardown = (data) => audit(data, { settles_s: 20 });

export const handleSummary = summary((data) => {
  const p99 = (part) => data.metrics[`soak_hold{part:${part}}`].values['p(99)'];
  const grown = p99('last') / p99('first');
  return {
    // The report holds the engine's memory against the same limit.
    memory: 'flat',
    rows: [['p99 of holds, last third against first', `${grown.toFixed(2)} times`, 'at most 1.1', settings.judgesLatency ? grown <= 1.1 : null]],
  };
});
