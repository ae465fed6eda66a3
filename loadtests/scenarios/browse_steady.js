// An ordinary day at half the rate: people look, a few fill a cart, fewer pay. Nothing may be slow here.

import { audit, open, stock } from '../lib/audit.js';
import { chooser, shopper, units } from '../lib/model.js';
import { guarded, plan, steady } from '../lib/plan.js';
import { settings, sizes } from '../lib/settings.js';
import { lurk, visit } from '../lib/shopping.js';

export { handleSummary } from '../lib/summary.js';

const size = sizes({ skus: 1000, units: 100000, minutes: 10 });
const choose = chooser(size.skus, 1);

export const options = plan({
  scenarios: { browse: steady('browse', settings.rate / 2, size.minutes * 60) },
  latency: { 'http_req_duration{name:availability}': 'p(99)<50', 'http_req_duration{name:sku}': 'p(99)<50' },
});

export const setup = () => stock({ count: size.skus, units: size.units });

export const browse = guarded((data) => {
  const who = shopper();
  const shop = open(data);
  // Three of ten visitors of a shop are machines.
  if (who.chance(0.3)) lurk(who, shop.name(choose(who.random)));
  else visit(who, shop, choose, units(who));
});

export const teardown = (data) => audit(data);
