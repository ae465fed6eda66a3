// Stock before a run, and the audit after it: conservation, nothing sold twice, nothing that could have been sold and
// was not. What was acknowledged and what the engine recorded are compared in the report, from the figures given here,
// and by `doorbuster trial judge` from the ledger, line by line.

import { sleep } from 'k6';
import { Counter } from 'k6/metrics';

import { attempts, call, note, parsed, say, surprise } from './client.js';
import { settings } from './settings.js';
import { commit, reserve } from './shopping.js';

const conservation = new Counter('conservation_mismatch');
const oversold = new Counter('oversold_units');
const undersold = new Counter('undersold_units');
const doubleCharge = new Counter('double_charge');
const recordedSold = new Counter('recorded_sold_units');
const recordedReceived = new Counter('recorded_received_units');
const recordedReserved = new Counter('recorded_reserved_units');
const ordersAudited = new Counter('orders_audited');

const atOnce = 20;
const chunks = (count) => Array.from({ length: Math.ceil(count / atOnce) }, (_, part) => part * atOnce);
const name = (shop, number) => `${shop.prefix}-${number}`;

// A shop as scenarios see it: how many SKUs, and what each is called.
export const open = (shop) => ({ ...shop, name: (number) => name(shop, number) });

// Makes `count` SKUs of `units` each; the result is what `setup` returns.
export function stock({ count = 1, units, ...more }) {
  if (settings.adminKey === '') throw new Error('DOORBUSTER_ADMIN_KEY is not set; stock cannot be made or audited without it');
  const shop = { prefix: settings.run, count, units, began_ms: 0, ...more };
  const body = JSON.stringify({ name: 'Load test', price: { amount: 1999, currency: 'GBP' }, on_hand: units });
  for (const first of chunks(count)) {
    const requests = [];
    for (let number = first; number < Math.min(first + atOnce, count); number += 1) {
      const sku = name(shop, number);
      requests.push({ name: 'make sku', method: 'PUT', path: `/v1/admin/skus/${sku}`, key: `${sku}-make`, admin: true, body });
    }
    attempts(requests).forEach((response, index) => {
      const request = requests[index];
      const sku = name(shop, first + index);
      if (response.status !== 201) {
        surprise(request, response);
        throw new Error(`the stock could not be made: ${response.status} ${response.error || response.body}`);
      }
      note(request, response, { is: 'sku', sku, units }, [sku]);
    });
  }
  shop.began_ms = Date.now();
  // run.sh waits for this line before it disturbs anything.
  say(`begin ${shop.began_ms}`);
  return shop;
}

function readAll(shop) {
  const read = [];
  for (const first of chunks(shop.count)) {
    const requests = [];
    for (let number = first; number < Math.min(first + atOnce, shop.count); number += 1) {
      requests.push({ name: 'audit', method: 'GET', path: `/v1/admin/skus/${name(shop, number)}/stock`, admin: true });
    }
    attempts(requests).forEach((response, index) => {
      if (response.status !== 200) surprise(requests[index], response);
      else read.push(parsed(response));
    });
  }
  return read;
}

// The laws of one SKU's figures, the overselling and its opposite apart.
function lawful(shop, now) {
  const wrong = [];
  if (now.received !== shop.units) wrong.push(`received ${now.received}, opened with ${shop.units}`);
  if (now.received !== now.on_hand + now.sold) wrong.push('received is not on_hand + sold');
  if (now.available !== now.on_hand - now.reserved) wrong.push('available is not on_hand - reserved');
  for (const figure of ['on_hand', 'reserved', 'available', 'sellable', 'sold']) {
    if (!(now[figure] >= 0)) wrong.push(`${figure} is ${now[figure]}`);
  }
  return wrong;
}

// What one unit's clerk does after the doors are closed: everything still there is asked for in one piece and sold. If
// that is refused, units are stuck: the shop has told people "sold out" with units on the shelf.
function sweep(shop) {
  for (const now of readAll(shop)) {
    if (now.available === 0) continue;
    const clerk = { key: (step) => `${settings.run}-clerk-${now.sku}-${step}`, chance: () => true, random: () => 0.5 };
    const held = reserve(clerk, [{ sku: now.sku, quantity: now.available }]);
    if (held) commit(clerk, held);
    else say(`undersold: ${now.sku} shows ${now.available} available and refuses them`);
  }
}

// `settles_s`: how long the last hold may live. `sellsOut`: everybody who may had wanted more than there was, so that in the
// end, with what came back swept up, every unit must be sold.
export function audit(shop, { settles_s = 30, sellsOut = false } = {}) {
  // The longest hold, and the five seconds that law 6 allows an orphan.
  const patient_until = Date.now() + (settles_s + 5) * 1000;
  let read = readAll(shop);
  while (read.some((now) => now.reserved !== 0) && Date.now() < patient_until) {
    sleep(0.25);
    read = readAll(shop);
  }
  if (sellsOut) {
    sweep(shop);
    read = readAll(shop);
  }
  if (read.length !== shop.count) conservation.add(shop.count - read.length);
  for (const now of read) {
    for (const wrong of lawful(shop, now)) {
      conservation.add(1);
      say(`law 1: ${now.sku}: ${wrong}`);
    }
    const over = now.sold + now.reserved - shop.units;
    if (over > 0) oversold.add(over);
    if (sellsOut && now.sold < shop.units) {
      undersold.add(shop.units - now.sold);
      say(`undersold: ${now.sku} sold ${now.sold} of ${shop.units}`);
    }
    if (now.reserved !== 0) {
      conservation.add(1);
      say(`law 6: ${now.sku} still has ${now.reserved} reserved after every hold's time`);
    }
    recordedSold.add(now.sold);
    recordedReserved.add(now.reserved);
    recordedReceived.add(now.received);
  }
  auditOrders();
}

// No order is charged beyond its total, and a paid one is charged exactly that. The newest 5,000 are read.
function auditOrders() {
  let after = '';
  for (let pages = 0; pages < 50; pages += 1) {
    const path = `/v1/admin/orders?limit=100${after}`;
    const { response } = call({ name: 'audit orders', method: 'GET', path, admin: true }, [200]);
    const page = parsed(response);
    for (const order of page.data || []) {
      ordersAudited.add(1);
      const captured = order.payment.captured.amount;
      const total = order.totals.total.amount;
      const isPaid = order.state === 'paid';
      if (captured > total || (isPaid && captured !== total)) {
        doubleCharge.add(1);
        say(`law 7: order ${order.id} of ${total} is charged ${captured}`);
      }
    }
    if (!page.has_more) return;
    after = `&starting_after=${page.next_cursor}`;
  }
}
