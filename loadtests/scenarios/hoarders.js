// Holds that nobody means to pay for, until the shelf is empty, and all of them end within the same second: the units must
// be back at once, all of them, and be sold again.

import { sleep } from 'k6';
import { Trend } from 'k6/metrics';

import { attempt, counters, parsed, say } from '../lib/client.js';
import { audit, open, stock } from '../lib/audit.js';
import { shopper } from '../lib/model.js';
import { guarded, once, plan, steady } from '../lib/plan.js';
import { settings, sizes } from '../lib/settings.js';
import { reserve } from '../lib/shopping.js';

export { handleSummary } from '../lib/summary.js';

const lag = new Trend('expiry_lag', true);

const size = sizes({ hoarders: 100000, pause_s: 5 });
const hoarding_s = Math.max(1, Math.ceil(size.hoarders / settings.rate));
const end_s = hoarding_s + size.pause_s;

export const options = plan({
  scenarios: {
    hoard: steady('hoard', settings.rate, hoarding_s),
    watch: once('watch', { start_s: hoarding_s, seconds: size.pause_s + 60 }),
  },
  latency: { expiry_lag: 'max<2000', hold_accepted: 'p(99)<250' },
});

// A unit less than there are hoarders for, so that the shelf is empty before the end.
export const setup = () => stock({ units: Math.max(1, Math.floor(settings.rate * hoarding_s) - 1) });

export const hoard = guarded((data) => {
  const who = shopper();
  // Holds live whole seconds, so each ends in the last second before the common end.
  const ttl_s = Math.floor((data.began_ms + end_s * 1000 - Date.now()) / 1000);
  reserve(who, [{ sku: open(data).name(0), quantity: 1 }], { ttl_s: Math.max(1, ttl_s) });
});

export const watch = guarded((data) => {
  const end_ms = data.began_ms + end_s * 1000;
  const read = () => parsed(attempt({ name: 'watch', method: 'GET', path: `/v1/admin/skus/${open(data).name(0)}/stock`, admin: true }));
  const before = read();
  say(`${before.reserved} of ${data.units} units were held before the common end`);
  sleep(Math.max(0, (end_ms - Date.now()) / 1000));
  for (;;) {
    const now = read();
    const late_ms = Date.now() - end_ms;
    if (now.reserved === 0 || late_ms > 60000) {
      lag.add(late_ms);
      if (now.available !== data.units) counters.unexpected.add(1);
      return;
    }
    sleep(0.02);
  }
});

export const teardown = (data) => audit(data, { settles_s: 5, sellsOut: true });
