// The engine dies at the busiest moment, and is restarted, and is stopped politely and started again: whoever was answered
// keeps what was promised, whoever was not asks again with the same key and gets one answer.

import { sleep } from 'k6';

import { call, counters, manners, say } from '../lib/client.js';
import { audit, open, stock } from '../lib/audit.js';
import { shopper } from '../lib/model.js';
import { guarded, plan, steady } from '../lib/plan.js';
import { settings, sizes } from '../lib/settings.js';
import { cart, checkOut, commit, release, reserve } from '../lib/shopping.js';
import { summary } from '../lib/summary.js';

const size = sizes({ seconds: 60, kills_at_s: [10, 25], stops_at_s: [40], outage_s: 10, demand: 2 });
// Shoppers wait out an engine that is away; those who came meanwhile are all still there when it is back.
manners.patience_s = 60;
manners.attemptsMax = 50;
manners.expectsOutages = true;

const rate = settings.rate / 2;

export const options = plan({
  scenarios: { door: steady('shop', rate, size.seconds, { slowest_s: size.outage_s }) },
  latency: { 'hold_accepted{calm:yes}': 'p(99)<250' },
  thresholds: { granted_units: ['count>0'] },
});

export function setup() {
  // Read by run.sh, which does it.
  for (const at of size.kills_at_s) say(`disturb ${at} kill`);
  for (const at of size.stops_at_s) say(`disturb ${at} term`);
  return stock({ units: Math.max(1, Math.floor((rate * size.seconds) / size.demand)) });
}

const disturbed_s = [...size.kills_at_s, ...size.stops_at_s];

export const shop = guarded((data) => {
  const who = shopper();
  const sku = open(data).name(0);
  const since_s = (Date.now() - data.began_ms) / 1000;
  const calm = disturbed_s.some((at) => since_s > at - 1 && since_s < at + size.outage_s) ? 'no' : 'yes';
  const items = [{ sku, quantity: 1 }];
  if (who.chance(0.1)) {
    const filled = cart(who, items);
    if (filled) checkOut(who, filled);
    return;
  }
  const held = reserve(who, items, { ttl_s: 60, tags: { calm } });
  if (!held) return;
  if (who.chance(0.1)) release(who, held);
  else commit(who, held);
  if (!who.chance(0.2)) return;
  // The same question some seconds later, perhaps of an engine that had to read its answer from the disk.
  sleep(1 + who.random() * 4);
  const { response, means } = call(held.request, [201], who);
  if (means === 'done' && (response.status !== held.response.status || response.body !== held.response.body)) {
    counters.replayDiffers.add(1);
    say(`law 5: ${held.request.key} was answered ${held.response.body} and ${response.body}`);
  }
});

export const teardown = (data) => audit(data, { settles_s: 60, sellsOut: true });

export const handleSummary = summary(() => ({ outage_ms_max: size.outage_s * 1000 }));
