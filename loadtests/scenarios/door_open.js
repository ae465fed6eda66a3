// One SKU, far more shoppers than units, and all of them at the door: polling before it opens, then from nothing to the
// full rate within a second. Nine of ten try for the hot SKU; holders pay, think better of it, or walk off.

import { audit, open, stock } from '../lib/audit.js';
import { shopper, units } from '../lib/model.js';
import { guarded, plan, ramping, steady } from '../lib/plan.js';
import { settings, sizes } from '../lib/settings.js';
import { cart, checkOut, commit, readAvailability, release, reserve } from '../lib/shopping.js';
import { summary } from '../lib/summary.js';

const size = sizes({ poll_s: 10, hold_s: 60, decay_s: 15, units_max: 10000, demand: 20, walks_off_ttl_s: 5 });
const arrivals = settings.rate * (size.hold_s + size.decay_s / 2) * 0.9;
const stocked = Math.max(1, Math.min(size.units_max, Math.floor((arrivals * 1.75) / size.demand)));

export const options = plan({
  scenarios: {
    polling: steady('poll', settings.rate / 5, size.poll_s),
    door: ramping('shop', 0, [[settings.rate, 1], [settings.rate, size.hold_s], [0, size.decay_s]], { start_s: size.poll_s }),
  },
  latency: { hold_accepted: 'p(99)<250' },
});

export const setup = () => stock({ units: stocked });

export const poll = guarded((shop) => readAvailability(shopper(), open(shop).name(0)));

export const shop = guarded((data) => {
  const who = shopper();
  const sku = open(data).name(0);
  if (!who.chance(0.9)) {
    readAvailability(who, sku);
    return;
  }
  const items = [{ sku, quantity: units(who) }];
  const fate = who.random();
  if (fate < 0.05) {
    const filled = cart(who, items);
    if (filled) checkOut(who, filled);
    return;
  }
  const walksOff = fate < 0.1;
  const held = reserve(who, items, { ttl_s: walksOff ? size.walks_off_ttl_s : 30 });
  if (!held || walksOff) return;
  if (fate < 0.15) release(who, held);
  else commit(who, held);
});

export const teardown = (data) => audit(data, { sellsOut: true });

export const handleSummary = summary(() => ({ sells_one_out: true }));
