// A day of twenty-four hours in thirty minutes: the jump at midnight, the lull of the night, the peaks of noon and evening.

import { audit, open, stock } from '../lib/audit.js';
import { chooser, shopper, units } from '../lib/model.js';
import { guarded, plan, ramping } from '../lib/plan.js';
import { settings, sizes } from '../lib/settings.js';
import { commit, lurk, reserve, visit } from '../lib/shopping.js';

export { handleSummary } from '../lib/summary.js';

const size = sizes({ skus: 1000, units: 100000, minutes: 30, hot_skus: 5, hot_percent: 20 });
const choose = chooser(size.skus, 1);

// [part of R, hours]; each is reached by its end.
const day = [
  [0.8, 0.1], [0.8, 1.4], [0.3, 2.5], [0.3, 4], [0.6, 2], [1, 2], [1, 1], [0.6, 2], [0.7, 3], [1, 1.5], [1, 1.5], [0.4, 2], [0.1, 1],
];
const hour_s = (size.minutes * 60) / 24;

export const options = plan({
  scenarios: {
    day: ramping('come', settings.rate * 0.1, day.map(([part, hours]) => [part * settings.rate, Math.max(1, Math.round(hours * hour_s))])),
  },
  latency: { http_req_duration: 'p(95)<500', 'http_req_duration{name:reserve}': 'p(99)<1000' },
});

export const setup = () => stock({ count: size.skus, units: size.units });

export const come = guarded((data) => {
  const who = shopper();
  const shop = open(data);
  const isHot = who.chance(size.hot_percent / 100);
  const pick = isHot ? (random) => Math.floor(random() * size.hot_skus) : choose;
  if (who.chance(0.3)) {
    lurk(who, shop.name(pick(who.random)));
  } else if (isHot && who.chance(0.5)) {
    // The day's offers are taken without a walk through the shop.
    const held = reserve(who, [{ sku: shop.name(pick(who.random)), quantity: units(who) }], { ttl_s: 20 });
    if (held) commit(who, held);
  } else {
    visit(who, shop, pick, units(who));
  }
});

export const teardown = (data) => audit(data);
