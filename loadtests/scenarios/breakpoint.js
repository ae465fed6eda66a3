// Ever more shoppers, until the objectives break: R is the last step at which they held. A shopper is one hold and one sale
// of a SKU among many. This script plays one step; run.sh climbs, with a fresh engine for each.

import { audit, open, stock } from '../lib/audit.js';
import { chooser, shopper } from '../lib/model.js';
import { guarded, plan, steady } from '../lib/plan.js';
import { settings, sizes } from '../lib/settings.js';
import { commit, reserve } from '../lib/shopping.js';
import { summary } from '../lib/summary.js';

// Not one run that k6 ends at a broken threshold: it cancels what is under way, and whoever was being answered just then is
// in no ledger, which the audit rightly calls lost.
const size = sizes({ hold_s: 30, skus: 100, hold_p99_ms: 250, from: 0.25, to: 16, factor: 1.4 });

export const options = plan({ scenarios: { step: steady('shop', settings.rate, size.hold_s, { slowest_s: 0.8 }) } });
// Here a step that breaks is what was looked for, and dropped arrivals are one way to.
delete options.thresholds.dropped_iterations;

export const setup = () => stock({ count: size.skus, units: 1000000 });

const choose = chooser(size.skus, 1);

export const shop = guarded((data) => {
  const who = shopper();
  const held = reserve(who, [{ sku: open(data).name(choose(who.random)), quantity: 1 }], { ttl_s: 20 });
  if (held) commit(who, held);
});

export const teardown = (data) => audit(data, { settles_s: 20 });

// What ended the climb at this step, if anything did. A generator out of breath ends it too, and then R is the generator's
// and not the engine's.
function endOf(value, p99_ms) {
  const late_ms = value('arrival_lateness', 'p(99)');
  if (value('dropped_iterations', 'count') > 0) return 'the generator dropped arrivals';
  if (late_ms > 100) return `the generator was ${late_ms.toFixed(0)} ms late`;
  if (value('refused_busy', 'count') > 0) return 'the engine refused for now';
  if (p99_ms >= size.hold_p99_ms) return 'the engine was slow';
  return null;
}

export const handleSummary = summary((data) => {
  const value = (metric, stat) => ((data.metrics[metric] || {}).values || {})[stat] || 0;
  const p99_ms = value('hold_accepted', 'p(99)');
  const ended = endOf(value, p99_ms);
  const told = `p99 ${p99_ms.toFixed(1)} ms${ended ? `; ${ended}` : ''}`;
  const wanted = `p99 below ${size.hold_p99_ms} ms, none refused for now, dropped or late`;
  return {
    measured_rate: ended ? 0 : settings.rate,
    paces_itself: true,
    rows: [[`${settings.rate} arrivals a second`, told, wanted, ended ? null : true]],
  };
});
