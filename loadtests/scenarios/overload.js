// Ten times what the engine can do: what it lets in stays quick, the rest is refused at once with a time to come back, the
// work done does not fall, and afterwards all is as before. Give it --quota, or the generator is the first to break.

import { manners } from '../lib/client.js';
import { audit, open, stock } from '../lib/audit.js';
import { chooser, shopper } from '../lib/model.js';
import { guarded, plan, steady } from '../lib/plan.js';
import { settings, sizes } from '../lib/settings.js';
import { reserve } from '../lib/shopping.js';
import { summary } from '../lib/summary.js';

const size = sizes({ before_s: 60, overload_s: 600, after_s: 60, times: 10, skus: 100, recovery_s: 5, slowest_s: 2 });
// Arrivals do not come again here: the tenfold rate already is what comes back.
manners.attemptsMax = 1;

const overload_s = size.before_s;
const after_s = size.before_s + size.overload_s;
const phases = ['before', 'overload', 'recovery', 'after'];

export const options = plan({
  scenarios: {
    before: steady('shop', settings.rate, size.before_s, { env: { PHASE: 'before' } }),
    overload: steady('shop', settings.rate * size.times, size.overload_s, { start_s: overload_s, slowest_s: size.slowest_s, env: { PHASE: 'overload' } }),
    recovery: steady('shop', settings.rate, size.recovery_s, { start_s: after_s, slowest_s: 4, env: { PHASE: 'recovery' } }),
    after: steady('shop', settings.rate, size.after_s, { start_s: after_s + size.recovery_s, env: { PHASE: 'after' } }),
  },
  latency: { 'hold_accepted{phase:overload}': 'p(99)<250', 'hold_busy{phase:overload}': 'p(99)<10', 'hold_accepted{phase:after}': 'p(99)<250' },
  told: phases.flatMap((phase) => [`hold_accepted{phase:${phase}}`, `hold_busy{phase:${phase}}`]),
});

export const setup = () => stock({ count: size.skus, units: 10000000 });

const choose = chooser(size.skus, 1);

export const shop = guarded((data) => {
  const tags = { phase: __ENV.PHASE };
  const who = shopper();
  reserve(who, [{ sku: open(data).name(choose(who.random)), quantity: 1 }], { ttl_s: 20, tags });
});

export const teardown = (data) => audit(data, { settles_s: 20 });

export const handleSummary = summary((data) => {
  const count = (metric, phase) => ((data.metrics[`${metric}{phase:${phase}}`] || {}).values || {}).count || 0;
  const judged = (holds) => (settings.judgesLatency ? holds : null);
  const during = count('hold_accepted', 'overload') / size.overload_s;
  const late = count('hold_busy', 'after');
  return {
    // Until when memory is what it was before.
    memory: size.before_s,
    rows: [
      ['granted a second during the overload', during.toFixed(1), `at least 90% of R (${settings.rate})`, judged(during >= settings.rate * 0.9)],
      ['refused for now during the overload', count('hold_busy', 'overload'), 'more than none, or it was no overload', judged(count('hold_busy', 'overload') > 0)],
      [`refused for now, ${size.recovery_s} s after it`, late, 'none', judged(late === 0)],
    ],
  };
});
