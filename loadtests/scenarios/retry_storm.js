// Every write three times at once with the same key, now and then the key with another body, and later the same again:
// one effect, one answer, byte for byte.

import { sleep } from 'k6';

import { attempt, attempts, call, count, counters, meaning, note, parsed, say, times } from '../lib/client.js';
import { audit, open, stock } from '../lib/audit.js';
import { shopper } from '../lib/model.js';
import { guarded, plan, steady } from '../lib/plan.js';
import { settings, sizes } from '../lib/settings.js';
import { checkout, commitment, orderVerdict, reservation, reservedVerdict, sum, withoutPromise } from '../lib/shopping.js';

export { handleSummary } from '../lib/summary.js';

const copies = 3;
const size = sizes({ seconds: 60, units: 100000, other_body_percent: 5 });

export const options = plan({
  // Seven to ten requests a shopper.
  scenarios: { storm: steady('shop', settings.rate / 3, size.seconds, { slowest_s: 4 }) },
  latency: { hold_accepted: 'p(99)<250' },
});

export const setup = () => stock({ units: size.units });

// Sends copies at once and gives the one answer that all of them are; `null` where there was none.
function storm(who, request, declared) {
  const heard = attempts(Array.from({ length: copies }, () => request));
  const done = [];
  for (const response of heard) {
    const means = meaning(response);
    count(request, response, means, declared);
    if (means === 'done') done.push(response);
  }
  // Those who were told that the first copy still runs ask again.
  let answer = { response: done[0], means: 'done' };
  if (done.length < copies) answer = call(request, declared, who);
  if (answer.means === 'done') done.push(answer.response);
  alike(request, done);
  return answer;
}

// Once more, alone; the mark of a repeat must be there, except on a kept refusal.
function again(who, request, first, declared) {
  const { response, means } = call(request, declared, who);
  if (means !== 'done') return;
  alike(request, [first, response]);
  if (response.status < 300 && response.headers['Idempotent-Replayed'] !== 'true') {
    counters.replayDiffers.add(1);
    say(`law 5: the repeat of ${request.key} is not marked as one`);
  }
}

function alike(request, answers) {
  const first = answers[0];
  for (const other of answers.slice(1)) {
    if (other.status !== first.status || other.body !== first.body) {
      counters.replayDiffers.add(1);
      say(`law 5: ${request.key} was answered ${first.status} ${first.body} and ${other.status} ${other.body}`);
    }
  }
}

export const shop = guarded((data) => {
  const who = shopper();
  const sku = open(data).name(0);
  const items = [{ sku, quantity: 1 + who.below(3) }];
  if (who.chance(0.2)) {
    order(who, items);
    return;
  }
  const request = reservation(who, items);
  const answer = storm(who, request, [201]);
  if (answer.means !== 'done') {
    note(request, answer.response, withoutPromise(answer), [sku]);
    return;
  }
  times.accepted.add(answer.response.timings.duration);
  const verdict = reservedVerdict(answer.response);
  note(request, answer.response, verdict, [sku]);
  counters.granted.add(sum(items));
  if (who.chance(size.other_body_percent / 100)) {
    const other = attempt({ ...request, body: JSON.stringify({ items: [{ sku, quantity: 7 }], ttl_s: 30 }) });
    if (other.status !== 422 || parsed(other).code !== 'idempotency_key_reused') {
      counters.unexpected.add(1);
      say(`a key for another body was answered ${other.status}`);
    }
  }
  const sale = commitment(who, { id: verdict.id });
  const sold = storm(who, sale, [200]);
  if (sold.means === 'unknown') counters.unsure.add(sum(items));
  if (sold.means === 'done') counters.committed.add(sum(items));
  note(sale, sold.response, sold.means === 'done' ? { is: 'committed', id: verdict.id } : withoutPromise(sold), [sku]);
  sleep(who.random());
  again(who, request, answer.response, [201]);
  if (sold.means === 'done') again(who, sale, sold.response, [200]);
});

function order(who, items) {
  const names = items.map((item) => item.sku);
  const request = { name: 'cart', method: 'POST', path: '/v1/carts', key: who.key('cart'), body: JSON.stringify({ items }) };
  const made = storm(who, request, [201]);
  if (made.means !== 'done') return;
  const body = parsed(made.response);
  note(request, made.response, { is: 'carted', id: body.id }, names);
  const pay = checkout(who, { id: body.id, token: body.token }, who.chance(0.8) ? 'ok' : 'declined');
  const paid = storm(who, pay, [201, 402]);
  if (paid.means === 'unknown') counters.unsure.add(sum(items));
  const verdict = paid.means === 'done' ? orderVerdict(paid.response) : withoutPromise(paid);
  if (verdict.is === 'ordered') counters.ordered.add(sum(items));
  note(pay, paid.response, verdict, names);
  if (paid.means === 'done') again(who, pay, paid.response, [201, 402]);
}

export const teardown = (data) => audit(data);
