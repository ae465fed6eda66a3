// The shop: what each click asks of the engine, and what is shown of its answers. Start at the end.
//
// Whatever a shopper does here goes through the public API, as from any storefront. Only a new drop, a last unit and a crowd
// are asked of routes under /demo, which exist with --demo alone.

import { Shown, call, engineNow, newKey } from "./calls.js";
import { Stream, Streams } from "./stream.js";
import {
  ORDER, STEP, STOCK, busy, byId, clock, copy, fill, make, money, number, plural, say, setText, show, warn, words,
} from "./view.js";

const HOLD_S = 120;
const POLL_MS = 1500;
const POLL_SOON_MS = 200;
const MEMORY = "doorbuster-demo";

const METHODS = [
  ["ok", "A card that works", "paid at once"],
  ["authorize", "Authorised first", "captured once the unit is sold"],
  ["requires_action", "3-D Secure", "the bank asks you first"],
  ["slow", "A slow bank", "paid after two seconds"],
  ["timeout", "A silent bank", "no answer; the engine looks it up"],
  ["declined", "Declined", "402, and the unit is back"],
  ["error", "The bank fails", "402, worth another try"],
];

const shown = Object.fromEntries(["drop", "hold", "pay", "duel", "crowd"].map((name) => [name, new Shown(byId(`calls-${name}`))]));
const streams = new Streams();
const shop = {
  drop: null,
  opens_at: 0,
  goods: [],
  figures: new Map(),
  product: "",
  started_at: "",
  crowd: null,
  score: { Ada: 0, Grace: 0 },
  // What this tab must not forget: it is told apart from other tabs, and outlives a reload and the engine.
  memory: { hold: null, order: null },
};

const remember = (name, value) => {
  shop.memory[name] = value;
  try {
    sessionStorage.setItem(MEMORY, JSON.stringify(shop.memory));
  } catch {
    // Without storage a reload forgets; everything else works.
  }
};

const recall = () => {
  try {
    Object.assign(shop.memory, JSON.parse(sessionStorage.getItem(MEMORY) ?? "{}"));
  } catch {
    // Nothing is remembered.
  }
};

// --- The drop and the shelf ---

const isOpen = () => shop.drop?.open === true;

const showDrop = () => {
  const drop = shop.drop;
  show("stage-none", !drop);
  show("stage-soon", Boolean(drop) && !drop.open);
  show("stage-open", isOpen());
  setText("drop-number", drop ? `Limited edition · drop ${drop.number}` : "Limited edition");
  setText("announce", drop ? "Announce the next drop" : "Announce the drop");
  byId("announce").classList.toggle("primary", !drop || (isOpen() && (shop.figures.get(drop.sku)?.sellable ?? 1) === 0));
  byId("announce").hidden = Boolean(drop) && !drop.open;
  if (drop) setText("inside-command", `curl '${location.origin}/v1/admin/actors/sku/${drop.sku}' \\\n  -H "Authorization: Bearer $DOORBUSTER_ADMIN_KEY"`);
  else setText("inside-command", `curl '${location.origin}/v1/admin/actors?limit=5' \\\n  -H "Authorization: Bearer $DOORBUSTER_ADMIN_KEY"`);
  showStock();
};

const showStock = () => {
  const drop = shop.drop;
  if (drop && drop.open) {
    const figure = shop.figures.get(drop.sku);
    const left = figure ? figure.sellable : drop.books.available;
    setText("left", number(left));
    setText("left-words", left === 0 ? `left of ${plural(drop.units, "pair")}` : `of ${plural(drop.units, "pair")} left`);
    const state = figure ? STOCK[figure.state] : "";
    setText("stock-words", left === 0 ? "Sold out, or held by somebody. What is given back shows here at once." : `Live from the engine: ${state}.`);
    const bar = byId("bar");
    bar.setAttribute("aria-valuemax", drop.units);
    bar.setAttribute("aria-valuenow", Math.max(0, left));
    fill("bar-fill", left / drop.units);
  }
  const figure = shop.figures.get(shop.product);
  setText("product-stock", figure ? `${number(figure.sellable)} left, ${STOCK[figure.state]}` : "");
  for (const goods of shop.goods) {
    const live = shop.figures.get(goods.sku);
    const text = byId(`stock-${goods.sku}`);
    if (live && text) text.textContent = `${number(live.sellable)} left, ${STOCK[live.state]}`;
  }
};

const choose = (sku) => {
  shop.product = sku;
  byId("product").value = sku;
  for (const button of document.querySelectorAll("#shelf button")) {
    button.setAttribute("aria-pressed", String(button.dataset.sku === sku));
  }
  showStock();
};

const showProducts = () => {
  const options = shop.goods.map(({ sku, name, price }) => ({ sku, text: `${name}, ${money(price)}` }));
  if (shop.drop) options.unshift({ sku: shop.drop.sku, text: `Drop ${shop.drop.number}: Runner, limited edition, £179.00` });
  byId("product").replaceChildren(
    ...options.map(({ sku, text }) => {
      const option = make("option", "", text);
      option.value = sku;
      return option;
    }),
  );
  if (!options.some(({ sku }) => sku === shop.product)) {
    const first = shop.drop ? options[0] : (options.find(({ sku }) => sku === "TEE-M") ?? options[0]);
    shop.product = first?.sku ?? "";
  }
  choose(shop.product);
};

const showShelf = () => {
  byId("shelf").replaceChildren(
    ...shop.goods.map(({ sku, name, price, sellable, state }) => {
      const stock = make("span", "", `${number(sellable)} left, ${STOCK[state]}`);
      stock.id = `stock-${sku}`;
      const button = make("button", "", make("strong", "", name), make("span", "", `${money(price)} · `), stock);
      button.type = "button";
      button.dataset.sku = sku;
      button.addEventListener("click", () => {
        choose(sku);
        say(`${name} chosen`);
        byId("hold-title").scrollIntoView({ block: "center", behavior: "smooth" });
      });
      return make("li", "", button);
    }),
  );
};

/** The shop's own goods. Drops and what other commands made are no part of the shelf. */
const loadGoods = async () => {
  const goods = [];
  let after = "";
  for (let page = 0; page < 5; page += 1) {
    const answer = await call(null, "GET", `/v1/skus?limit=100${after ? `&starting_after=${encodeURIComponent(after)}` : ""}`);
    if (!answer.ok) break;
    goods.push(...answer.json.data.filter(({ sku }) => !/^(DROP|LAST|RUSH|TRIAL)-/.test(sku)));
    if (!answer.json.has_more) break;
    after = answer.json.next_cursor;
  }
  shop.goods = goods.slice(0, 24);
  showShelf();
};

const watchStock = () => {
  const skus = shop.goods.map(({ sku }) => sku);
  if (shop.drop) skus.unshift(shop.drop.sku);
  if (skus.length === 0) return;
  const query = skus.map((sku) => `sku=${encodeURIComponent(sku)}`).join("&");
  const tell = (name, data) => {
    if (name !== "availability") return;
    shop.figures.set(data.sku, data);
    showStock();
  };
  const state = (now) => {
    byId("link").dataset.state = now;
    setText("link-text", now === "open" ? "live" : "reconnecting");
  };
  streams.set("stock", new Stream(`/v1/streams/skus?${query}`, { tell, state }));
};

const announce = async () => {
  shown.drop.begin();
  const answer = await call(shown.drop, "POST", "/demo/drops", { json: { units: 200, opens_in_s: 10 } });
  if (!answer.ok) return say(answer.json?.detail ?? "The engine does not answer.");
  shop.product = answer.json.sku;
  takeDrop(answer.json);
  say("The drop is announced. It opens in ten seconds.");
  return poll();
};

const takeDrop = (drop) => {
  const before = shop.drop;
  shop.drop = drop;
  shop.opens_at = performance.now() + (drop?.opens_in_ms ?? 0);
  if (before?.sku !== drop?.sku) {
    if (before && shop.product === before.sku) shop.product = drop?.sku ?? "";
    showProducts();
    watchStock();
  }
  if (drop?.open && before?.sku === drop.sku && !before.open) say(`The doors are open: ${plural(drop.units, "pair")}.`);
  showDrop();
};

// --- Hold ---

const END = {
  committed: ["Sold", "It is yours. The figure went down for good."],
  released: ["Given back", "Its unit is on the shelf again."],
  expired: ["Time is up", "Its unit went back by itself."],
};

const showHold = () => {
  const hold = shop.memory.hold;
  byId("ticket").dataset.state = hold?.state ?? "none";
  show("hold-actions", hold?.state === "held");
  if (!hold) return;
  if (hold.state === "held") {
    setText("hold-state", "Held for you");
    setText("hold-words", `${hold.items[0].quantity} × ${hold.items[0].sku}, until its time is up`);
  } else {
    const [state, text] = END[hold.state] ?? [words(hold.state), ""];
    setText("hold-state", state);
    setText("hold-words", text);
  }
  tick();
};

const takeHold = (reservation, key) => {
  if (!reservation?.id) return;
  remember("hold", { ...reservation, key: key ?? shop.memory.hold?.key });
  showHold();
};

const request = () => ({ items: [{ sku: shop.product, quantity: 1 }], ttl_s: HOLD_S });

const reserve = async () => {
  shown.hold.begin();
  const key = newKey();
  const answer = await call(shown.hold, "POST", "/v1/reservations", { json: request(), key });
  if (answer.ok) takeHold(answer.json, key);
  say(answer.ok ? "Held for two minutes." : (answer.json?.detail ?? "The engine does not answer."));
};

/** Two copies of one click, at once: one has an effect, and both get its answer. */
const doubleClick = async () => {
  shown.hold.begin();
  const key = newKey();
  const json = request();
  const both = await Promise.all([1, 2].map(() => call(shown.hold, "POST", "/v1/reservations", { json, key })));
  const taken = both.filter((answer) => answer.ok);
  if (taken.length) takeHold(taken[0].json, key);
  const same = taken.length === 2 && taken[0].text === taken[1].text;
  if (same) say("Two clicks with one key: one unit is held, and both got the same answer.");
  else say(taken.length ? "One unit is held; the other click got no answer." : (both[0].json?.detail ?? "The engine does not answer."));
};

const onHold = async (method, suffix, json, what) => {
  const hold = shop.memory.hold;
  if (!hold) return;
  shown.hold.begin();
  const answer = await call(shown.hold, method, `/v1/reservations/${hold.id}${suffix}`, { json, key: newKey() });
  if (answer.ok) takeHold(answer.json);
  else if (answer.status !== 0) await refreshHold();
  say(answer.ok ? what : (answer.json?.detail ?? "The engine does not answer."));
};

/** Asks how the hold stands now; whether the engine knows it. */
const refreshHold = async () => {
  const hold = shop.memory.hold;
  if (!hold) return null;
  const answer = await call(null, "GET", `/v1/reservations/${hold.id}`);
  if (answer.ok) takeHold(answer.json);
  if (answer.status === 404) forget("hold", "The reservation that this tab remembers is not in this engine: it has another data directory now.");
  return answer;
};

const forget = (name, why) => {
  remember(name, null);
  warn(why);
  if (name === "hold") {
    showHold();
    setText("hold-state", "Nothing held yet");
    setText("hold-words", "A hold lasts two minutes here.");
    setText("clock", "2:00");
    fill("hold-fill", 0);
  } else {
    streams.end("order");
    showOrderPlace(false);
  }
};

// --- Buy ---

const showOrderPlace = (filled) => {
  show("order", filled);
  show("order-none", !filled);
};

const showOrder = (order, changes) => {
  showOrderPlace(true);
  setText("order-title", `Order ${order.number} · ${money(order.totals.total)}`);
  const state = byId("order-state");
  state.className = `chip ${{ paid: "good", cancelled: "bad", pending_payment: "wait" }[order.state] ?? ""}`;
  setText("order-state", ORDER[order.state] ?? words(order.state));
  setText("order-payment", `payment ${words(order.payment.state)}`);
  show("order-payment", order.payment.state !== "none");
  show("confirm", order.payment.state === "requires_action");
  show("cancel", ["pending_payment", "paid"].includes(order.state));
  show("order-actions", !byId("confirm").hidden || !byId("cancel").hidden);
  const list = byId("timeline");
  for (const { position, at, kind, detail } of changes) {
    if (list.querySelector(`[data-position="${position}-${kind}"]`)) continue;
    const when = make("time", "", at.slice(11, 23));
    when.dateTime = at;
    const what = make("span", "", STEP[kind] ?? words(kind), make("code", "", kind), detail ? make("small", "", detail) : null);
    const item = make("li", "", what, when);
    item.dataset.position = `${position}-${kind}`;
    list.append(item);
  }
};

const watchOrder = (id, token) => {
  if (shop.memory.order?.id === id && streams.open.has("order")) return;
  remember("order", { id, token });
  byId("timeline").replaceChildren();
  const tell = (name, data) => {
    if (name !== "order" || shop.memory.order?.id !== id) return;
    remember("order", { id, token, state: data.order.state, number: data.order.number });
    showOrder(data.order, data.changes);
  };
  const state = (now) => {
    if (now === "gone") forget("order", "The order that this tab remembers is not in this engine: it has another data directory now.");
  };
  streams.set("order", new Stream(`/v1/streams/orders/${id}`, { token, tell, state }));
};

/** The cart's stream tells which order it becomes, while the bank still thinks and even where it says no. */
const watchCart = (cart) =>
  new Promise((done) => {
    const tell = (name, data) => {
      if (name === "cart" && data.order) watchOrder(data.order, cart.token);
    };
    streams.set("cart", new Stream(`/v1/streams/carts/${cart.id}`, { token: cart.token, tell, state: done }));
    // The checkout does not depend on it.
    setTimeout(done, 1500);
  });

const buy = async (method) => {
  shown.pay.begin();
  streams.end("order");
  showOrderPlace(false);
  remember("order", null);
  const items = [{ sku: shop.product, quantity: 1 }];
  const made = await call(shown.pay, "POST", "/v1/carts", { json: { currency: "GBP", items }, key: newKey() });
  if (!made.ok) return say(made.json?.detail ?? "The engine does not answer.");
  const cart = made.json;
  await watchCart(cart);
  const watching = streams.open.get("cart");
  const json = { email: "ada@example.com", payment: { provider: "fake", method }, expected_total: cart.totals.total };
  const answer = await call(shown.pay, "POST", `/v1/carts/${cart.id}/checkout`, { json, key: newKey(), token: cart.token });
  const order = answer.json?.order ?? (answer.status === 201 ? answer.json : null);
  if (order) watchOrder(order.id, cart.token);
  // What the cart has to tell of a refusal comes with the next flush.
  setTimeout(() => streams.open.get("cart") === watching && streams.end("cart"), 1500);
  if (answer.status === 201) return say(`Order ${order.number} is paid.`);
  if (answer.status === 202) return say(answer.json.status === "requires_action" ? "The bank wants you to approve." : "The bank has not answered yet; the unit is held.");
  return say(answer.json?.detail ?? "The engine does not answer.");
};

const onOrder = async (action) => {
  const order = shop.memory.order;
  if (!order) return;
  shown.pay.begin();
  const answer = await call(shown.pay, "POST", `/v1/orders/${order.id}/${action}`, { key: newKey(), token: order.token });
  say(answer.ok ? `Done: ${action}.` : (answer.json?.detail ?? "The engine does not answer."));
};

// --- Two want the last one ---

const standing = (name, state, text) => {
  const buyer = byId(name.toLowerCase());
  buyer.dataset.state = state;
  buyer.querySelector("span").textContent = text;
};

const duel = async () => {
  shown.duel.begin();
  ["Ada", "Grace"].forEach((name) => standing(name, "", "is clicking"));
  const stage = await call(shown.duel, "POST", "/demo/duels", { json: {} });
  if (!stage.ok) return say(stage.json?.detail ?? "The engine does not answer.");
  const order = Math.random() < 0.5 ? ["Ada", "Grace"] : ["Grace", "Ada"];
  const click = async (customer) => {
    const json = { items: [{ sku: stage.json.sku, quantity: 1 }], customer };
    return { customer, answer: await call(shown.duel, "POST", "/v1/reservations", { json, key: newKey() }) };
  };
  const clicks = await Promise.all(order.map(click));
  const winners = clicks.filter(({ answer }) => answer.ok);
  for (const { customer, answer } of clicks) {
    standing(customer, answer.ok ? "won" : "lost", answer.ok ? "has the last one" : answer.code === "insufficient_stock" ? "was told: sold out" : "got no answer");
  }
  for (const { customer, answer } of winners) {
    shop.score[customer] += 1;
    await call(shown.duel, "POST", `/v1/reservations/${answer.json.id}/commit`, { key: newKey() });
  }
  const { Ada, Grace } = shop.score;
  setText("duel-score", `Ada ${Ada}, Grace ${Grace}. Both: ${winners.length > 1 ? "yes!" : "never"}.`);
  return say(winners.length === 1 ? `${winners[0].customer} has the last one.` : "Nobody has it.");
};

// --- A crowd ---

const asked = () => Math.trunc(Number(byId("shoppers").value));

const showCrowd = (crowd) => {
  const before = shop.crowd;
  shop.crowd = crowd;
  if (!crowd) return;
  for (const name of ["arrived", "bought", "sold_out", "given_back", "repeated", "doubled"]) {
    setText(`crowd-${name.replace("_", "-")}`, number(crowd[name]));
  }
  const bar = byId("crowd-bar");
  bar.setAttribute("aria-valuemax", crowd.shoppers);
  bar.setAttribute("aria-valuenow", crowd.arrived);
  fill("crowd-fill", crowd.arrived / crowd.shoppers);
  show("books", !crowd.running);
  if (crowd.running) return;
  const books = crowd.books;
  byId("books").dataset.state = crowd.sound ? "good" : "bad";
  if (!books) {
    setText("equation", "The books could not be read.");
    setText("verdict", "The engine was ending. Send another crowd.");
    return;
  }
  const held = books.reserved ? `, ${number(books.reserved)} of them held` : "";
  setText("equation", `${number(books.sold)} sold + ${number(books.on_hand)} left${held} = ${number(books.received)} that opened`);
  const lost = crowd.unanswered ? ` ${plural(crowd.unanswered, "shopper")} gave up unanswered.` : "";
  const verdict = crowd.sound
    ? `Every unit is accounted for. ${plural(crowd.shoppers, "shopper")} in ${(crowd.took_ms / 1000).toFixed(1)} s, and no unit was sold twice.${lost}`
    : `The books do not agree with what shoppers were told. Please report this.${lost}`;
  setText("verdict", verdict);
  if (before?.running) say(verdict);
};

const send = async () => {
  shown.crowd.begin();
  const answer = await call(shown.crowd, "POST", "/demo/shoppers", { json: { shoppers: asked() } });
  if (answer.ok) {
    showCrowd(answer.json);
    say(`${plural(answer.json.shoppers, "shopper")} are coming.`);
    await poll();
  } else {
    say(answer.json?.detail ?? "The engine does not answer.");
  }
};

// --- Pull the plug ---

/** After another process answers: what was told before, and what is there now. */
const compare = async () => {
  const checks = [];
  const { hold, order } = shop.memory;
  if (hold) {
    const before = hold.state;
    const answer = await refreshHold();
    const after = answer?.json?.state ?? "missing";
    const kept = answer?.ok && (after === before || (before === "held" && after === "expired"));
    checks.push([kept, `Your reservation was ${before}, and is ${after}.`]);
  }
  if (order) {
    const answer = await call(null, "GET", `/v1/orders/${order.id}`, { token: order.token });
    const after = answer.json?.state ?? "missing";
    const moved = order.state === "pending_payment" && answer.ok;
    checks.push([answer.ok && (after === order.state || moved), `Order ${order.number ?? ""} was ${ORDER[order.state] ?? "being made"}, and is ${ORDER[after] ?? after}.`]);
  }
  if (shop.drop) {
    const { received, on_hand, sold } = shop.drop.books;
    checks.push([received === on_hand + sold, `${shop.drop.sku}: ${number(sold)} sold + ${number(on_hand)} left = ${number(received)} that opened.`]);
  }
  const list = checks.map(([kept, text]) => {
    const item = make("li", "", text);
    item.dataset.state = kept ? "good" : "bad";
    return item;
  });
  const head = make("li", "", checks.length ? "The engine is back. Another process, the same books:" : "The engine is back. Hold or buy something first, and there is more to compare.");
  head.dataset.state = "good";
  byId("checks").replaceChildren(head, ...list);
  say("The engine is back.");
};

const AWAY = "The engine does not answer. This page waits, and goes on when it is back.";

// --- The clockwork ---

let polling = 0;

/** Asks how the stage stands, often while something happens. */
async function poll() {
  clearTimeout(polling);
  const mine = {};
  poll.latest = mine;
  let wait_ms = POLL_MS;
  if (!document.hidden) {
    const answer = await call(null, "GET", "/demo/state");
    if (poll.latest !== mine) return;
    if (answer.ok) {
      if (byId("notice").textContent === AWAY) warn("");
      const { started_at, process, drop, crowd } = answer.json;
      const restarted = shop.started_at !== "" && shop.started_at !== started_at;
      shop.started_at = started_at;
      setText("kill-command", `kill -9 ${process}`);
      takeDrop(drop);
      showCrowd(crowd);
      if (restarted) {
        await compare();
        // It may have been started on another directory, with another catalogue.
        await loadGoods();
        showProducts();
        watchStock();
      }
      if (crowd?.running || (drop && !drop.open && drop.opens_in_ms < 1000)) wait_ms = POLL_SOON_MS;
    } else {
      warn(AWAY);
    }
  }
  if (poll.latest === mine) polling = setTimeout(poll, wait_ms);
}

/** Every clock of the page. */
function tick() {
  if (shop.drop && !shop.drop.open) setText("countdown", clock(shop.opens_at - performance.now()).padStart(5, "0"));
  const hold = shop.memory.hold;
  if (!hold) return;
  if (hold.state !== "held") {
    setText("clock", { committed: "✓", released: "↩", expired: "0:00" }[hold.state] ?? "");
    fill("hold-fill", 0);
    return;
  }
  const left_ms = Date.parse(hold.expires_at) - engineNow();
  setText("clock", clock(left_ms));
  fill("hold-fill", left_ms / (HOLD_S * 1000));
  if (left_ms < -500 && !tick.asking) {
    tick.asking = true;
    refreshHold().finally(() => {
      setTimeout(() => {
        tick.asking = false;
      }, 2000);
    });
  }
}

const onClick = (id, work) => {
  const button = byId(id);
  button.addEventListener("click", () => busy(button, work));
};

const begin = async () => {
  recall();
  byId("methods").replaceChildren(
    ...METHODS.map(([method, label, hint]) => {
      const button = make("button", "", make("strong", "", label), make("span", "", hint));
      button.type = "button";
      button.dataset.method = method;
      button.addEventListener("click", () => busy(byId("methods"), () => busy(button, () => buy(method))));
      return button;
    }),
  );
  onClick("announce", announce);
  onClick("reserve", reserve);
  onClick("twice", doubleClick);
  onClick("commit", () => onHold("POST", "/commit", undefined, "Sold."));
  onClick("extend", () => onHold("PATCH", "", { extend_s: 60 }, "One minute more."));
  onClick("release", () => onHold("DELETE", "", undefined, "Given back."));
  onClick("confirm", () => onOrder("confirm"));
  onClick("cancel", () => onOrder("cancel"));
  onClick("duel", duel);
  onClick("send", send);
  byId("product").addEventListener("change", (event) => choose(event.target.value));
  byId("shoppers").addEventListener("input", () => {
    setText("send", Number.isFinite(asked()) && asked() > 0 ? `Send ${plural(asked(), "shopper")}` : "Send shoppers");
  });
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", () => copy(button, byId(button.dataset.copy).textContent));
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) poll();
  });
  setInterval(tick, 250);
  await loadGoods();
  await poll();
  showProducts();
  watchStock();
  await refreshHold();
  const order = shop.memory.order;
  if (order) watchOrder(order.id, order.token);
};

begin();
