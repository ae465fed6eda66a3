// A shop in which a few SKUs get most of the attention, ever more unevenly: SKUs that nobody fights for must not feel it.

import { Trend } from 'k6/metrics';

import { audit, open, stock } from '../lib/audit.js';
import { chooser, shopper } from '../lib/model.js';
import { guarded, plan, steady } from '../lib/plan.js';
import { settings, sizes } from '../lib/settings.js';
import { commit, reserve } from '../lib/shopping.js';
import { summary } from '../lib/summary.js';

const cold = new Trend('cold_hold', true);

const size = sizes({ skus: 1000, units: 100000, seconds: 60, pause_s: 5 });
const skews = [0, 0.8, 1, 1.2];
const chosen = Object.fromEntries(skews.map((skew) => [skew, chooser(size.skus, skew)]));
// The first tenth of the ranks is hot.
const hot = Math.ceil(size.skus / 10);

export const options = plan({
  scenarios: Object.fromEntries(
    skews.map((skew, part) => [
      `skew_${String(skew).replace('.', '_')}`,
      steady('grab', settings.rate * 0.7, size.seconds, { start_s: part * (size.seconds + size.pause_s), env: { SKEW: String(skew) } }),
    ]),
  ),
  told: skews.map((skew) => `cold_hold{skew:${skew}}`),
});

export const setup = () => stock({ count: size.skus, units: size.units });

export const grab = guarded((data) => {
  const who = shopper();
  const rank = chosen[__ENV.SKEW](who.random);
  const held = reserve(who, [{ sku: open(data).name(rank), quantity: 1 }], { ttl_s: 20 });
  if (!held) return;
  if (rank >= hot) cold.add(held.response.timings.duration, { skew: __ENV.SKEW });
  commit(who, held);
});

export const teardown = (data) => audit(data, { settles_s: 20 });

export const handleSummary = summary((data) => {
  const p99 = (skew) => data.metrics[`cold_hold{skew:${skew}}`].values['p(99)'];
  const rows = skews.slice(1).map((skew) => {
    const times = p99(skew) / p99(0);
    return [`p99 of cold SKUs at Zipf ${skew}, against uniform`, `${times.toFixed(2)} times`, 'at most 2', settings.judgesLatency ? times <= 2 : null];
  });
  return { rows };
});
