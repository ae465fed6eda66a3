// Every endpoint once, by one shopper and one clerk. What the engine lists in /openapi.json and this visits not, or the
// other way round, fails the run: a new route comes with a visit.

import { attempt, call, note, parsed, say } from '../lib/client.js';
import { audit, open, stock } from '../lib/audit.js';
import { shopper } from '../lib/model.js';
import { guarded, once, plan } from '../lib/plan.js';
import { sizes } from '../lib/settings.js';
import { checkOut, cart, commit, release, reserve } from '../lib/shopping.js';
import { Counter } from 'k6/metrics';

export { handleSummary } from '../lib/summary.js';

const wrong = new Counter('wrong_answers');
const notVisited = new Counter('routes_not_visited');
const visited = new Counter('routes_visited');

const size = sizes({ iterations: 1 });

export const options = plan({
  scenarios: { everything: once('everything', { iterations: size.iterations, seconds: 60 }) },
  thresholds: { wrong_answers: ['count==0'], routes_not_visited: ['count==0'], routes_visited: ['count>0'] },
});

// The second SKU is the clerk's: its stock is adjusted and restocked, so the ledger does not account for it.
export const setup = () => stock({ units: 100 });

export const everything = guarded((data) => {
  const who = shopper();
  const shop = open(data);
  const sku = shop.name(0);
  const clerks = `${sku}-clerk-${who.number}`;
  const seen = new Set();

  // Visits `method template`; `path` fills the template.
  const visit = (route, path, statuses, more = {}) => {
    seen.add(route);
    const method = route.split(' ')[0];
    const body = more.json === undefined ? more.body : JSON.stringify(more.json);
    const request = { name: route, method, path, ...more, body };
    const { response } = call(request, statuses, who);
    return { status: response.status, body: parsed(response), headers: response.headers };
  };
  const expect = (what, holds) => {
    if (holds) return;
    wrong.add(1);
    say(`wrong: ${what}`);
  };
  const clerk = (step, more = {}) => ({ admin: true, key: who.key(step), ...more });

  // Health, and what the engine says of itself.
  expect('livez', visit('GET /livez', '/livez', [200]).body.status === 'ok');
  expect('readyz', visit('GET /readyz', '/readyz', [200]).body.status === 'ok');
  expect('version', visit('GET /version', '/version', [200]).body.version !== undefined);
  visit('GET /metrics', '/metrics', [200], { admin: true });
  visit('GET /docs', '/docs', [200]);
  visit('GET /problems/{code}', '/problems/insufficient-stock', [200]);

  // Catalogue and stock.
  const price = { amount: 1250, currency: 'GBP' };
  visit('PUT /v1/admin/skus/{sku}', `/v1/admin/skus/${clerks}`, [201], clerk('put', { json: { name: 'Clerk', price, on_hand: 50 } }));
  const line = JSON.stringify({ sku: `${clerks}-imported`, name: 'Imported', price, on_hand: 5 });
  const imported = clerk('import', { body: `${line}\n`, headers: { 'Content-Type': 'application/x-ndjson' } });
  expect('import', visit('POST /v1/admin/import/skus', '/v1/admin/import/skus', [200], imported).body.created === 1);
  const adjusted = clerk('adjust', { json: { delta: 10, reason: 'found behind the shelf' } });
  expect('adjustment', visit('POST /v1/admin/skus/{sku}/adjustments', `/v1/admin/skus/${clerks}/adjustments`, [200], adjusted).body.on_hand === 60);
  const counted = visit('GET /v1/admin/skus/{sku}/stock', `/v1/admin/skus/${clerks}/stock`, [200], { admin: true });
  const recount = clerk('count', { ifMatch: counted.headers.Etag, json: { on_hand: 55, reason: 'counted' } });
  expect('count', visit('PUT /v1/admin/skus/{sku}/stock', `/v1/admin/skus/${clerks}/stock`, [200], recount).body.received === 55);
  expect('ledger', visit('GET /v1/admin/skus/{sku}/ledger', `/v1/admin/skus/${clerks}/ledger`, [200], { admin: true }).body.data.length >= 3);
  expect('list', visit('GET /v1/skus', '/v1/skus?limit=2', [200]).body.data.length === 2);
  expect('sku', visit('GET /v1/skus/{sku}', `/v1/skus/${sku}`, [200]).body.sku === sku);
  expect('availability', visit('GET /v1/skus/{sku}/availability', `/v1/skus/${sku}/availability`, [200]).body.state === 'in_stock');
  expect('several', visit('GET /v1/availability', `/v1/availability?sku=${sku}&sku=${clerks}`, [200]).body.data.length === 2);

  // Reservations; those of the shop's own SKU go into the ledger.
  const items = [{ sku, quantity: 2 }];
  seen.add('POST /v1/reservations');
  const held = reserve(who, items, { step: 'first' });
  const given = reserve(who, items, { step: 'second' });
  if (held && given) {
    visit('PATCH /v1/reservations/{id}', `/v1/reservations/${given.id}`, [200], { key: who.key('extend'), json: { extend_s: 5 } });
    seen.add('POST /v1/reservations/{id}/commit');
    expect('commit', commit(who, held));
    seen.add('DELETE /v1/reservations/{id}');
    expect('release', release(who, given));
    expect('reservation', visit('GET /v1/reservations/{id}', `/v1/reservations/${held.id}`, [200]).body.state === 'committed');
  } else {
    expect('two reservations', false);
  }
  const batch = { json: { requests: [{ key: who.key('batch-1'), items: [{ sku: clerks, quantity: 1 }], ttl_s: 1 }] } };
  expect('batch', visit('POST /v1/reservations/batch', '/v1/reservations/batch', [200], batch).body.results[0].status === 201);
  const tooMany = { name: 'refused', method: 'POST', path: '/v1/reservations', key: who.key('many'), body: JSON.stringify({ items: [{ sku, quantity: 1000 }] }) };
  const refused = attempt(tooMany);
  note(tooMany, refused, { is: 'refused', code: 'insufficient_stock' }, [sku]);
  expect('a refusal that names the SKU', refused.status === 409 && parsed(refused).items[0].requested === 1000);
  expect('a key for something else', attempt({ ...tooMany, key: who.key('first') }).status === 422);
  expect('no key', attempt({ ...tooMany, key: undefined }).status === 400);
  expect('a stranger at the stock', attempt({ name: 'stranger', method: 'GET', path: `/v1/admin/skus/${sku}/stock` }).status === 401);

  // From cart to order.
  seen.add('POST /v1/carts');
  const filled = cart(who, [{ sku, quantity: 1 }]);
  seen.add('POST /v1/carts/{id}/checkout');
  const placed = filled && checkOut(who, filled);
  expect('an order', placed);
  const made = visit('POST /v1/carts', '/v1/carts', [201], { json: { items: [{ sku: clerks, quantity: 1 }] } }).body;
  const own = { token: made.token };
  const path = `/v1/carts/${made.id}`;
  const grown = visit('POST /v1/carts/{id}/lines', `${path}/lines`, [200], { ...own, json: { sku: `${clerks}-imported`, quantity: 1 } }).body;
  const [first, second] = grown.lines.map((one) => one.line_id);
  visit('PATCH /v1/carts/{id}/lines/{line_id}', `${path}/lines/${first}`, [200], { ...own, json: { quantity: 3 } });
  visit('DELETE /v1/carts/{id}/lines/{line_id}', `${path}/lines/${second}`, [200], own);
  expect('cart', visit('GET /v1/carts/{id}', path, [200], own).body.lines.length === 1);
  const payment = { provider: 'fake', method: 'requires_action' };
  const asked = { ...own, key: who.key('act'), json: { email: 'smoke@example.com', payment } };
  const order = visit('POST /v1/carts/{id}/checkout', `${path}/checkout`, [202], asked).body.order;
  const orders = `/v1/orders/${order.id}`;
  expect('confirm', visit('POST /v1/orders/{id}/confirm', `${orders}/confirm`, [200], { ...own, key: who.key('confirm') }).body.state === 'paid');
  expect('order', visit('GET /v1/orders/{id}', orders, [200], own).body.state === 'paid');
  expect('timeline', visit('GET /v1/orders/{id}/timeline', `${orders}/timeline`, [200], own).body.data.length > 2);
  const admin = `/v1/admin/orders/${order.id}`;
  visit('POST /v1/admin/orders/{id}/fulfilments', `${admin}/fulfilments`, [201], clerk('fulfil', { json: { tracking: 'T1' } }));
  visit('POST /v1/admin/orders/{id}/refunds', `${admin}/refunds`, [201], clerk('refund', { json: { restock: true, reason: 'too small' } }));
  expect('orders', visit('GET /v1/admin/orders', '/v1/admin/orders?email=smoke@example.com', [200], { admin: true }).body.data.length > 0);
  const thrown = visit('POST /v1/carts', '/v1/carts', [201], { json: {} }).body;
  visit('DELETE /v1/carts/{id}', `/v1/carts/${thrown.id}`, [204], { token: thrown.token });
  const again = visit('POST /v1/carts', '/v1/carts', [201], { json: { items: [{ sku: clerks, quantity: 1 }] } }).body;
  const paid = { token: again.token, key: who.key('pay'), json: { email: 'smoke@example.com', payment: { provider: 'fake', method: 'ok' } } };
  const second_order = visit('POST /v1/carts/{id}/checkout', `/v1/carts/${again.id}/checkout`, [201], paid).body;
  const cancel = { token: again.token, key: who.key('cancel') };
  visit('POST /v1/orders/{id}/cancel', `/v1/orders/${second_order.id}/cancel`, [200], cancel);

  // Payments: no provider is configured here but the built-in one, which keeps no books and sends no webhooks.
  const providers = visit('GET /v1/admin/payments/providers', '/v1/admin/payments/providers', [200], { admin: true }).body.data;
  expect('providers', providers.every((provider) => provider.up));
  visit('POST /v1/admin/payments/reconcile', '/v1/admin/payments/reconcile', [422], { admin: true, json: { provider: 'fake' } });
  visit('POST /v1/webhooks/stripe', '/v1/webhooks/stripe', [404], { json: {} });
  visit('POST /v1/webhooks/paypal', '/v1/webhooks/paypal', [404], { json: {} });

  // Inside the engine.
  // A stream that begins has no end, and k6 waits for one: these are asked for what is not there.
  visit('GET /v1/streams/skus', '/v1/streams/skus?sku=nothing-of-ours', [404]);
  visit('GET /v1/streams/carts/{id}', `/v1/streams/carts/${again.id}`, [404], { token: 'not-its-token' });
  visit('GET /v1/streams/orders/{id}', `/v1/streams/orders/${second_order.id}`, [404], { token: 'not-its-token' });
  visit('GET /v1/admin/actors', '/v1/admin/actors?kind=sku', [200], { admin: true });
  visit('GET /v1/admin/actors/{kind}/{key}', `/v1/admin/actors/sku/${sku}`, [200], { admin: true });

  // For the same reason one look, not all of them.
  const look = visit('GET /v1/admin/live', '/v1/admin/live?once=true', [200], { admin: true }).body;
  expect('the laws hold at a look', look.laws.ok === true && look.sale.orders_placed > 0);
  visit('GET /console', '/console', [200]);
  visit('GET /console/console.css', '/console/console.css', [200]);
  visit('GET /console/console.js', '/console/console.js', [200]);

  const table = visit('GET /openapi.json', '/openapi.json', [200]).body;
  const methods = ['get', 'put', 'post', 'patch', 'delete'];
  const listed = Object.entries(table.paths).flatMap(([route, operations]) =>
    methods.filter((method) => operations[method]).map((method) => `${method.toUpperCase()} ${route}`),
  );
  for (const route of listed.filter((one) => !seen.has(one))) {
    notVisited.add(1);
    say(`${route} is in /openapi.json and not in scenarios/smoke.js: add a visit`);
  }
  for (const route of [...seen].filter((one) => !listed.includes(one))) {
    notVisited.add(1);
    say(`${route} is visited and not in /openapi.json`);
  }
  visited.add(seen.size);
});

export const teardown = (data) => audit(data);
