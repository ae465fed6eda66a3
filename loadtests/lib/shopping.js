// What shoppers do, one function each: it sends, counts units, and writes the final answer down.

import { call, counters, note, parsed, times } from './client.js';

const problem = (response) => parsed(response).code || `status_${response.status}`;

// The verdict of an answer that promised nothing.
export const withoutPromise = ({ response, means }) =>
  means === 'unknown' ? { is: 'unknown' } : { is: 'refused', code: problem(response) };

export const reservation = (who, items, more = {}) => ({
  name: 'reserve',
  method: 'POST',
  path: '/v1/reservations',
  key: who.key(more.step || 'reserve'),
  body: JSON.stringify({ items, ttl_s: more.ttl_s || 30 }),
  tags: more.tags,
});

export function reservedVerdict(response) {
  const body = parsed(response);
  return { is: 'reserved', id: body.id, items: body.items, until_ms: Date.parse(body.expires_at) };
}

export const sum = (items) => items.reduce((all, item) => all + item.quantity, 0);

// Asks for units; gives `{id, items}` where they are held, else null. `more`: ttl_s, step, tags.
export function reserve(who, items, more = {}) {
  const request = reservation(who, items, more);
  const answer = call(request, [201, 409], who);
  const { response, means } = answer;
  const took = response.timings.duration;
  const names = items.map((item) => item.sku);
  if (means === 'done') {
    times.accepted.add(took, more.tags);
    const verdict = reservedVerdict(response);
    note(request, response, verdict, names);
    counters.granted.add(sum(verdict.items), more.tags);
    return { id: verdict.id, items: verdict.items, until_ms: verdict.until_ms, request, response, names };
  }
  if (means === 'busy') times.busy.add(took, more.tags);
  else if (means === 'refused') times.soldOut.add(took, more.tags);
  note(request, response, withoutPromise(answer), names);
  return null;
}

export const commitment = (who, held, step = 'commit', tags = undefined) => ({
  name: 'commit',
  method: 'POST',
  path: `/v1/reservations/${held.id}/commit`,
  key: who.key(step),
  tags,
});

// Sells what is held. A hold whose time is over is refused (410), and that is an honest answer.
export function commit(who, held, step = 'commit', tags = undefined) {
  const request = commitment(who, held, step, tags);
  const answer = call(request, [200, 410], who);
  if (answer.means === 'done') {
    counters.committed.add(sum(held.items));
    note(request, answer.response, { is: 'committed', id: held.id }, held.names);
    return true;
  }
  if (answer.means === 'unknown') counters.unsure.add(sum(held.items));
  note(request, answer.response, withoutPromise(answer), held.names);
  return false;
}

// Gives back what is held.
export function release(who, held) {
  const request = { name: 'release', method: 'DELETE', path: `/v1/reservations/${held.id}`, key: who.key('release') };
  const answer = call(request, [200, 410], who);
  const verdict = answer.means === 'done' ? { is: 'released', id: held.id } : withoutPromise(answer);
  note(request, answer.response, verdict, held.names);
  return answer.means === 'done';
}

// Fills a cart; gives `{id, token}` or null.
export function cart(who, items, step = 'cart') {
  const request = { name: 'cart', method: 'POST', path: '/v1/carts', key: who.key(step), body: JSON.stringify({ items }) };
  const answer = call(request, [201], who);
  const names = items.map((item) => item.sku);
  if (answer.means !== 'done') {
    note(request, answer.response, withoutPromise(answer), names);
    return null;
  }
  const body = parsed(answer.response);
  note(request, answer.response, { is: 'carted', id: body.id }, names);
  return { id: body.id, token: body.token, items, names };
}

export const checkout = (who, filled, method, step = 'checkout') => ({
  name: 'checkout',
  method: 'POST',
  path: `/v1/carts/${filled.id}/checkout`,
  key: who.key(step),
  token: filled.token,
  body: JSON.stringify({ email: `shopper-${who.number}@example.com`, payment: { provider: 'fake', method } }),
});

export function orderVerdict(response) {
  const body = parsed(response);
  if (response.status === 201) return { is: 'ordered', id: body.id };
  if (response.status === 202) return { is: 'pending', id: body.order.id };
  return { is: 'declined' };
}

// Checks a cart out; gives the order's id where it was placed, else null.
export function checkOut(who, filled, method = 'ok', step = 'checkout') {
  const request = checkout(who, filled, method, step);
  const answer = call(request, [201, 202, 402, 409], who);
  if (answer.means !== 'done') {
    if (answer.means === 'unknown') counters.unsure.add(sum(filled.items));
    note(request, answer.response, withoutPromise(answer), filled.names);
    return null;
  }
  const verdict = orderVerdict(answer.response);
  if (verdict.is === 'ordered') counters.ordered.add(sum(filled.items));
  // Its payment may still come.
  if (verdict.is === 'pending') counters.unsure.add(sum(filled.items));
  note(request, answer.response, verdict, filled.names);
  return verdict.is === 'ordered' ? verdict.id : null;
}

// Reads that nobody needs the body of.
const read = (name, path, who) => call({ name, method: 'GET', path, blind: true }, [200], who);
export const readSku = (who, sku) => read('sku', `/v1/skus/${sku}`, who);
export const readAvailability = (who, sku) => read('availability', `/v1/skus/${sku}/availability`, who);
export const readList = (who) => read('skus', '/v1/skus?limit=20', who);

// An ordinary visit: six reads; 8 of 100 fill a cart, half of those check out, and 30 of 100 carts become orders.
export function visit(who, shop, choose, units) {
  const sku = shop.name(choose(who.random));
  readList(who);
  for (let reads = 0; reads < 3; reads += 1) readSku(who, shop.name(choose(who.random)));
  readSku(who, sku);
  readAvailability(who, sku);
  if (!who.chance(0.08)) return;
  const filled = cart(who, [{ sku, quantity: units }]);
  if (!filled || !who.chance(0.5)) return;
  checkOut(who, filled, who.chance(0.6) ? 'ok' : 'declined');
}

// A bot looks at one SKU again and again and buys nothing.
export function lurk(who, sku) {
  for (let reads = 0; reads < 10; reads += 1) readAvailability(who, sku);
}
