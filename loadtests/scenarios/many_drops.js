// Fifty small drops at once, and carts that want several of them in any order: all of a reservation or none of it, nobody
// waits for ever, and at the end no unit is stuck between two carts.

import { say } from '../lib/client.js';
import { audit, open, stock } from '../lib/audit.js';
import { chooser, several, shopper } from '../lib/model.js';
import { guarded, plan, steady } from '../lib/plan.js';
import { settings, sizes } from '../lib/settings.js';
import { cart, checkOut, commit, release, reserve } from '../lib/shopping.js';
import { Counter } from 'k6/metrics';

export { handleSummary } from '../lib/summary.js';

const torn = new Counter('torn_reservations');

// Two and a half SKUs a cart on average; `demand` times what there is is asked for.
const size = sizes({ skus: 50, units: 200, demand: 2, seconds: 60 });
const arrivals = Math.ceil((size.skus * size.units * size.demand) / 2.5);
const rate = Math.min(settings.rate, arrivals / size.seconds);
const stocked = Math.max(1, Math.floor((rate * size.seconds * 2.5) / (size.skus * size.demand)));
const choose = chooser(size.skus, 0);

export const options = plan({
  scenarios: { drops: steady('grab', rate, size.seconds, { slowest_s: 3 }) },
  latency: { hold_accepted: 'p(99)<250' },
  thresholds: { torn_reservations: ['count==0'] },
});

export const setup = () => stock({ count: size.skus, units: stocked });

export const grab = guarded((data) => {
  const who = shopper();
  const shop = open(data);
  const items = several(who, choose, 1 + who.below(4)).map((number) => ({ sku: shop.name(number), quantity: 1 }));
  if (who.chance(0.2)) {
    const filled = cart(who, items);
    if (filled) checkOut(who, filled, who.chance(0.8) ? 'ok' : 'declined');
    return;
  }
  const walksOff = who.chance(0.05);
  const held = reserve(who, items, { ttl_s: walksOff ? 3 : 20 });
  if (!held) return;
  const names = (list) => list.map((item) => `${item.sku}x${item.quantity}`).sort().join(' ');
  if (names(held.items) !== names(items)) {
    torn.add(1);
    say(`law 6: asked for ${names(items)} and was given ${names(held.items)}`);
  }
  if (walksOff) return;
  if (who.chance(0.1)) release(who, held);
  else commit(who, held);
});

export const teardown = (data) => audit(data, { settles_s: 20, sellsOut: true });
