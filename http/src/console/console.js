// The live console: reads /v1/admin/live and shows it. Nothing is fetched from elsewhere, no text becomes markup.
'use strict';

(() => {
  const KEY = 'doorbuster-admin-key';
  const THEME = 'doorbuster-theme';
  // A part that is older than this is shown as stale.
  const STALE_MS = 3500;
  // No snapshot for so long means that the connection is dead, whatever the system believes.
  const SILENCE_MS = 6000;
  const BACKOFF_MS = [1000, 2000, 4000, 8000, 15000];
  const SPARK_POINTS = 60;
  const ACTOR_REFRESH_MS = 2000;

  const at = (id) => document.getElementById(id);
  const svgns = 'http://www.w3.org/2000/svg';

  // ---- figures as text

  const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
  const tenth = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
  const count = (value) => whole.format(value);
  const rate = (value) => (value >= 100 ? whole.format(value) : tenth.format(value));
  const micros = (value) => {
    if (value === null || value === undefined) return '–';
    if (value < 1000) return `${value} µs`;
    if (value < 1e6) return `${(value / 1e3).toFixed(value < 1e4 ? 2 : value < 1e5 ? 1 : 0)} ms`;
    return `${(value / 1e6).toFixed(2)} s`;
  };
  const span = (seconds) => {
    if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
    if (seconds < 90) return `${Math.round(seconds)} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    return `${Math.round(seconds / 3600)} h`;
  };
  const bytes = (value) => {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    let unit = 0;
    while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
    return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
  };
  const money = ({ amount, currency }) => {
    const format = new Intl.NumberFormat('en', { style: 'currency', currency });
    const digits = format.resolvedOptions().maximumFractionDigits;
    return format.format(amount / 10 ** digits);
  };
  const clock = (text) => new Date(text).toLocaleTimeString('en-GB');

  // ---- making and changing elements, only where something changed

  const say = (element, text) => { if (element.textContent !== text) element.textContent = text; };
  const look = (element, name, value) => { if (element.getAttribute(name) !== value) element.setAttribute(name, value); };
  const make = (tag, options = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === 'text') element.textContent = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };

  // Rows by key: those that stay are the same elements, so that focus and selection stay too. While somebody is in the list,
  // nothing changes its place under them.
  const rows = (list, items, keyOf, create, update) => {
    const known = list.rowsByKey || (list.rowsByKey = new Map());
    const keep = list.contains(document.activeElement);
    const seen = new Set();
    let before = null;
    for (const item of items) {
      const key = keyOf(item);
      seen.add(key);
      let row = known.get(key);
      if (!row) { row = create(item); known.set(key, row); list.append(row); }
      update(row, item);
      if (!keep) {
        const place = before ? before.nextSibling : list.firstChild;
        if (place !== row) list.insertBefore(row, place);
      }
      before = row;
    }
    for (const [key, row] of known) {
      if (!seen.has(key)) { row.remove(); known.delete(key); }
    }
    const empty = at(`${list.id}-empty`);
    if (empty) empty.hidden = items.length > 0;
  };

  // Pairs of a name and a figure: [name, text, level].
  const pairs = (list, items) => {
    const terms = list.termsByName || (list.termsByName = new Map());
    const seen = new Set();
    for (const [name, text, level] of items) {
      seen.add(name);
      let pair = terms.get(name);
      if (!pair) {
        pair = [make('dt', { text: name }), make('dd')];
        terms.set(name, pair);
        list.append(...pair);
      }
      say(pair[1], text);
      look(pair[1], 'class', level || '');
    }
    for (const [name, pair] of terms) {
      if (!seen.has(name)) { pair[0].remove(); pair[1].remove(); terms.delete(name); }
    }
    const empty = at(`${list.id}-empty`);
    if (empty) empty.hidden = items.length > 0;
  };

  // ---- sparklines

  const series = new Map();
  const spark = (id, value) => {
    const points = series.get(id) || [];
    series.set(id, points);
    points.push(value || 0);
    if (points.length > SPARK_POINTS) points.shift();
    const svg = at(id);
    if (!svg.firstChild) {
      for (const kind of ['under', 'over']) {
        const path = document.createElementNS(svgns, 'path');
        path.setAttribute('class', kind);
        svg.append(path);
      }
    }
    const top = Math.max(...points, 1e-9);
    const step = 120 / (SPARK_POINTS - 1);
    const begin = 120 - (points.length - 1) * step;
    const line = points.map((point, index) => `${(begin + index * step).toFixed(1)} ${(30 - (point / top) * 28).toFixed(1)}`);
    svg.lastChild.setAttribute('d', `M${line.join('L')}`);
    svg.firstChild.setAttribute('d', `M${begin.toFixed(1)} 32L${line.join('L')}L120 32Z`);
  };

  // ---- age: each part tells when it was measured

  const parts = new Map();
  for (const tile of document.querySelectorAll('[data-part]')) {
    const age = make('p', { class: 'age' });
    tile.append(age);
    parts.set(tile, { age, name: tile.dataset.part, measured: 0 });
  }
  const measured = (name, when) => {
    for (const part of parts.values()) if (part.name === name) part.measured = when;
  };
  const grow = () => {
    const now = performance.now();
    for (const [tile, part] of parts) {
      if (!part.measured) continue;
      const old = Math.max(0, now - part.measured);
      const stale = old > STALE_MS;
      tile.classList.toggle('stale', stale);
      say(part.age, stale ? `stale, ${span(old / 1000)} old` : old < 1500 ? 'now' : `${Math.round(old / 1000)} s ago`);
    }
    const light = at('light');
    const seen = light.dataset.seen;
    if (seen && now - Number(seen) > STALE_MS && light.dataset.state !== 'bad') {
      look(light, 'data-state', 'unknown');
      say(at('light-text'), 'Laws: not known now');
    }
  };

  // Said aloud once, not every second.
  const announce = (text) => { at('announcer').textContent = text; };

  // ---- a snapshot on the board

  const actorButton = (kind, key) => {
    // Ids are long and differ at once; a SKU's name is the merchant's own.
    const short = kind !== 'sku' && key.length > 16 ? `${key.slice(0, 13)}…` : key;
    const button = make('button', { type: 'button', class: 'link', text: short, title: key });
    button.addEventListener('click', () => openActor(kind, key));
    return button;
  };
  const level = (value, warning, bad) => (value >= bad ? 'bad' : value >= warning ? 'warning' : '');

  const showSale = ({ sale, window_ms: windowMs }) => {
    say(at('orders-now'), rate(sale.orders_per_s.mean));
    spark('spark-orders', sale.orders_per_s.now);
    say(at('orders-more'), `over ${span(windowMs / 1000)}; ${count(sale.orders_placed)} since the start`);
    const revenue = at('revenue');
    const texts = sale.revenue.length ? sale.revenue.map(money) : ['–'];
    rows(revenue, texts.map((text, index) => ({ text, index })), ({ index }) => index,
      ({ index }) => make('span', { class: index ? 'more' : 'first' }), (row, { text }) => say(row, text));
    say(at('revenue-more'), sale.revenue.length ? 'of orders placed since the start, refunds not taken off' : 'no order since the start');
    pairs(at('reservations'), [
      ['made', rate(sale.reservations_per_s.mean)],
      ['sold', rate(sale.sold_per_s.mean)],
      ['given back', rate(sale.released_per_s.mean)],
      ['expired', rate(sale.expired_per_s.mean)],
      ['payments declined', rate(sale.declined_per_s.mean), sale.declined_per_s.mean > 0 ? 'warning' : ''],
    ]);
  };

  const showTraffic = ({ traffic, window_ms: windowMs }) => {
    const reserve = traffic.calls.find((call) => call.call === 'reserve') || {};
    say(at('p99'), micros(reserve.p99_us));
    look(at('p99'), 'class', `figure ${level(reserve.p99_us || 0, 250e3, 1e6)}`);
    spark('spark-p99', reserve.p99_us);
    say(at('p99-more'), reserve.p50_us === null ? `nobody reserved in ${span(windowMs / 1000)}` : `median ${micros(reserve.p50_us)}, over ${span(windowMs / 1000)}`);
    say(at('requests'), rate(traffic.requests_per_s.mean));
    spark('spark-requests', traffic.requests_per_s.now);
    say(at('requests-more'), `${count(traffic.in_flight)} in the engine now`);
    say(at('shed'), `${tenth.format(traffic.shed_percent)} %`);
    look(at('shed'), 'class', `figure ${level(traffic.shed_percent, 0.1, 5)}`);
    spark('spark-shed', traffic.shed_percent);
    rows(at('calls'), traffic.calls, (call) => call.call,
      (call) => make('tr', {}, make('th', { scope: 'row', text: call.call }), ...Array.from({ length: 4 }, () => make('td', { class: 'number' }))),
      (row, call) => {
        [rate(call.per_s), micros(call.p50_us), micros(call.p99_us), micros(call.max_us)]
          .forEach((text, index) => say(row.children[index + 1], text));
      });
    const soft = ['insufficient_stock', 'not_found', 'payment_declined'];
    pairs(at('refusals'), traffic.refusals.map(({ code, per_s: perS }) => [code.replaceAll('_', ' '), rate(perS), soft.includes(code) ? '' : 'warning']));
  };

  const showSkus = ({ skus }) => {
    rows(at('skus'), skus.data, (sku) => sku.sku, (sku) => {
      const bar = document.createElementNS(svgns, 'svg');
      for (const [name, value] of [['class', 'bar'], ['viewBox', '0 0 1000 10'], ['preserveAspectRatio', 'none'], ['aria-hidden', 'true']]) bar.setAttribute(name, value);
      for (const kind of ['sold', 'held']) {
        const part = document.createElementNS(svgns, 'rect');
        for (const [name, value] of [['class', kind], ['y', '0'], ['height', '10'], ['x', '0'], ['width', '0']]) part.setAttribute(name, value);
        bar.append(part);
      }
      return make('li', {},
        make('div', { class: 'name' }, actorButton('sku', sku.sku), make('span', { class: 'quiet' })),
        make('span', { class: 'share' }),
        bar,
        make('p', { class: 'counts quiet' }, ...Array.from({ length: 5 }, () => make('span'))));
    }, (row, sku) => {
      const [name, share, bar, counts] = row.children;
      say(name.lastChild, sku.name === sku.sku ? '' : sku.name);
      const all = Math.max(sku.received, 1);
      const part = (units) => Math.max(0, Math.min(1000, Math.round((units / all) * 1000)));
      const [sold, held] = bar.children;
      look(sold, 'width', String(part(sku.sold)));
      look(held, 'x', String(part(sku.sold)));
      look(held, 'width', String(Math.min(part(sku.reserved), 1000 - part(sku.sold))));
      say(share, `${Math.floor((sku.sold / all) * 100)} %`);
      const gone = sku.sellable <= 0;
      const when = gone ? 'sold out' : sku.sold_out_in_s === null ? '' : `gone in ${span(sku.sold_out_in_s)}`;
      const texts = [`${count(sku.sold)} sold`, `${count(sku.reserved)} held`, `${count(Math.max(0, sku.sellable))} left`, `of ${count(sku.received)}`, when];
      texts.forEach((text, index) => say(counts.children[index], text));
      look(counts.children[4], 'class', gone ? 'gone' : '');
    });
  };

  const showActors = ({ actors }) => {
    rows(at('actors'), actors.data, (actor) => `${actor.kind} ${actor.key}`,
      (actor) => make('tr', {},
        make('td', {}, make('span', { class: 'kind', text: actor.kind }), actorButton(actor.kind, actor.key)),
        ...Array.from({ length: 4 }, () => make('td', { class: 'number' }))),
      (row, actor) => {
        [rate(actor.rate), count(actor.queue_depth), micros(actor.wait_us.p99), micros(actor.service_us.p99)]
          .forEach((text, index) => say(row.children[index + 1], text));
      });
  };

  const showJournal = ({ journal }) => {
    const syncBad = level(journal.sync_p99_us || 0, 50e3, 250e3);
    const figures = [
      ['events a second', rate(journal.events_per_s.mean)],
      ['written a second', bytes(journal.bytes_per_s.mean)],
      ['events a sync', tenth.format(journal.events_per_sync)],
      ['sync, median', micros(journal.sync_p50_us)],
      ['sync, p99', micros(journal.sync_p99_us), syncBad],
      ['batches waiting', count(journal.queue_batches)],
      ['room for records', bytes(journal.claimable_bytes), journal.claimable_bytes === 0 ? 'bad' : ''],
    ];
    if (journal.checkpoint_failures) figures.push(['checkpoint rounds given up', count(journal.checkpoint_failures), 'warning']);
    if (journal.frames_skipped) figures.push(['frames this page passed over', count(journal.frames_skipped), 'warning']);
    pairs(at('journal'), figures);
  };

  const showFollowers = ({ followers }) => {
    const names = { projection: 'Postgres projection', announcements: 'Redis announcements', rescue: 'rescue copy' };
    pairs(at('followers'), followers.map((follower) => {
      const name = names[follower.name] || follower.name;
      if (!follower.configured) return [name, 'not configured'];
      const lag = follower.lag_s > 0 ? `${span(follower.lag_s)} behind, ${count(follower.lag_frames || 0)} frames` : 'up to date';
      return [name, lag, level(follower.lag_s, 5, 30)];
    }));
  };

  const showPayments = ({ payments }) => {
    const figures = [];
    for (const provider of payments) {
      figures.push([provider.name, provider.up ? 'answers' : 'does not answer', provider.up ? '' : 'bad']);
      if (provider.waiting) {
        figures.push([`${provider.name}: orders waiting`, count(provider.waiting), 'warning']);
        figures.push([`${provider.name}: the first since`, span(provider.waiting_oldest_ms / 1000)]);
        figures.push([`${provider.name}: drained in`, provider.drain_ms ? span(provider.drain_ms / 1000) : 'once it answers']);
      }
      if (provider.pace_wait_ms) figures.push([`${provider.name}: a call waits`, span(provider.pace_wait_ms / 1000)]);
    }
    pairs(at('payments'), figures);
  };

  let lawful = null;
  const showLaws = ({ laws }, now) => {
    const light = at('light');
    const broken = laws.checks.filter((check) => !check.ok);
    look(light, 'data-state', laws.ok ? 'good' : 'bad');
    light.dataset.seen = String(now);
    const text = laws.ok ? 'Laws OK' : `Law ${broken.map((check) => check.law).join(', ')} broken`;
    say(at('light-text'), text);
    if (lawful !== null && lawful !== laws.ok) announce(text);
    lawful = laws.ok;
    rows(at('laws'), laws.checks, (check) => check.law,
      (check) => make('li', {}, make('span', { class: 'dot', 'aria-hidden': 'true' }),
        make('div', {}, make('p', {}, make('strong', { text: `Law ${check.law} ` }), make('span')), make('p', { class: 'quiet', text: check.what }), make('p', { class: 'found' }))),
      (row, check) => {
        look(row, 'data-state', check.ok ? 'good' : 'bad');
        const texts = row.lastChild.children;
        const unit = check.law === 1 ? 'SKUs' : 'records';
        say(texts[0].lastChild, check.ok ? `holds on ${count(check.looked_at)} ${unit}` : 'is broken');
        say(texts[2], check.found || '');
      });
  };

  let loudest = 0;
  const showEvents = ({ events }) => {
    rows(at('events'), events, (event) => event.number, (event) => {
      const what = make('span', { class: `what ${event.level}` });
      if (event.level !== 'info') what.append(make('strong', { text: `${event.level}: ` }));
      what.append(event.text);
      if (event.actor) what.append(' ', actorButton(event.actor.kind, event.actor.key));
      return make('li', {}, make('time', { datetime: event.at, text: clock(event.at) }), what);
    }, () => {});
    const alarm = events.find((event) => event.level === 'alarm');
    if (alarm && alarm.number > loudest) { loudest = alarm.number; announce(alarm.text); }
  };

  const show = (snapshot) => {
    const now = performance.now();
    const taken = Date.parse(snapshot.at);
    // Ages by the engine's own clock, so that it does not matter whether ours agrees.
    const when = (atMs) => now - Math.max(0, taken - atMs);
    say(at('engine'), `version ${snapshot.engine.version}, ${snapshot.engine.durability} durability, ${count(snapshot.engine.skus)} SKUs, up ${span((taken - Date.parse(snapshot.engine.started_at)) / 1000)}`);
    showSale(snapshot);
    showTraffic(snapshot);
    showSkus(snapshot);
    showActors(snapshot);
    showJournal(snapshot);
    showFollowers(snapshot);
    showPayments(snapshot);
    showLaws(snapshot, now);
    showEvents(snapshot);
    for (const part of ['sale', 'traffic', 'journal', 'followers', 'payments', 'events']) measured(part, now);
    measured('skus', when(snapshot.skus.at_ms));
    measured('laws', when(snapshot.skus.at_ms));
    measured('actors', when(snapshot.actors.at_ms));
    grow();
  };

  // ---- the connection

  const call = async (path, key, signal, accept) => {
    const response = await fetch(path, { headers: { Authorization: `Bearer ${key}`, Accept: accept }, cache: 'no-store', signal });
    if (response.ok) return response;
    let problem = {};
    try { problem = await response.json(); } catch { /* not from the engine */ }
    const error = new Error(problem.detail || `the answer was ${response.status}`);
    error.status = response.status;
    throw error;
  };

  const state = (name, text) => {
    look(at('connection'), 'data-state', name);
    say(at('connection-text'), text);
    at('retry').hidden = name !== 'waiting';
  };

  let session = null;

  // Reads events until the stream ends; says why it did.
  const read = async (response, heard) => {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return 'the engine closed the connection';
      text += decoder.decode(value, { stream: true });
      let end;
      while ((end = text.indexOf('\n\n')) >= 0) {
        const block = text.slice(0, end);
        text = text.slice(end + 2);
        const field = (name) => block.split('\n').find((line) => line.startsWith(name))?.slice(name.length).trim();
        const data = field('data:');
        if (!data) continue;
        if (field('event:') === 'end') return `the engine ended it: ${JSON.parse(data).reason.replaceAll('_', ' ')}`;
        heard(JSON.parse(data));
      }
    }
  };

  const watch = async (key) => {
    const mine = { over: false, wake: null, abort: null };
    session = mine;
    let failures = 0;
    let entered = false;
    while (!mine.over) {
      let why;
      mine.abort = new AbortController();
      let silence = setTimeout(() => mine.abort.abort(), SILENCE_MS * 2);
      try {
        state(failures ? 'waiting' : 'off', failures ? 'Connecting again…' : 'Connecting…');
        const response = await call('/v1/admin/live', key, mine.abort.signal, 'text/event-stream');
        why = await read(response, (snapshot) => {
          clearTimeout(silence);
          silence = setTimeout(() => mine.abort.abort(), SILENCE_MS);
          if (mine.over) return;
          if (!entered) { entered = true; enter(key); }
          if (failures) announce('Connected again');
          failures = 0;
          state('on', 'Live');
          show(snapshot);
        });
      } catch (error) {
        if (mine.over) return;
        if (error.status === 401) return leave('That is not the admin key of this engine.');
        why = error.name === 'AbortError' ? 'nothing came any more' : error.status ? error.message : 'the engine cannot be reached';
        if (!entered && error.status && error.status < 500) return leave(why);
      } finally {
        clearTimeout(silence);
      }
      if (mine.over) return;
      if (failures === 0 && entered) announce('Connection lost');
      const base = BACKOFF_MS[Math.min(failures, BACKOFF_MS.length - 1)];
      failures += 1;
      if (!entered) say(at('refused'), `No connection: ${why}. Trying again.`);
      await wait(mine, base * (0.75 + Math.random() / 2), why);
    }
  };

  const wait = (mine, length, why) => new Promise((resolve) => {
    const until = performance.now() + length;
    const tell = () => state('waiting', `Connection lost: ${why}. Again in ${Math.max(1, Math.ceil((until - performance.now()) / 1000))} s`);
    tell();
    const ticking = setInterval(tell, 500);
    const done = () => { clearInterval(ticking); clearTimeout(timer); mine.wake = null; resolve(); };
    const timer = setTimeout(done, length);
    mine.wake = done;
  });

  // ---- in and out

  const remember = (key) => { try { sessionStorage.setItem(KEY, key); } catch { /* the browser keeps nothing; then it is typed again */ } };
  const remembered = () => { try { return sessionStorage.getItem(KEY); } catch { return null; } };
  const forget = () => { try { sessionStorage.removeItem(KEY); } catch { /* nothing was kept */ } };

  const enter = (key) => {
    remember(key);
    const hadFocus = at('door').contains(document.activeElement);
    at('door').hidden = true;
    at('board').hidden = false;
    at('leave').hidden = false;
    at('key').value = '';
    say(at('refused'), '');
    if (hadFocus) at('main').focus({ preventScroll: true });
    announce('Connected. The figures change once a second.');
  };

  const leave = (why = '') => {
    if (session) { session.over = true; session.abort?.abort(); session.wake?.(); session = null; }
    forget();
    if (at('actor').open) at('actor').close();
    at('board').hidden = true;
    at('leave').hidden = true;
    at('door').hidden = false;
    say(at('refused'), why);
    state('off', 'Not connected');
    look(at('light'), 'data-state', 'unknown');
    delete at('light').dataset.seen;
    say(at('light-text'), 'Laws: not looked at yet');
    lawful = null;
    at('key').focus();
  };

  at('enter').addEventListener('submit', (event) => {
    event.preventDefault();
    const key = at('key').value.trim();
    if (!key) return;
    if (session) { session.over = true; session.abort?.abort(); session.wake?.(); }
    say(at('refused'), '');
    watch(key);
  });
  at('leave').addEventListener('click', () => leave());
  at('retry').addEventListener('click', () => session?.wake?.());

  // ---- one actor

  let looking = null;
  const openActor = (kind, key) => {
    looking = { kind, key, timer: null, shown: false };
    say(at('actor-title'), `${kind} ${key}`);
    say(at('actor-error'), '');
    at('actor-body').hidden = true;
    if (!at('actor').open) at('actor').showModal();
    readActor(looking);
  };
  const readActor = async (mine) => {
    try {
      const path = `/v1/admin/actors/${mine.kind}/${encodeURIComponent(mine.key)}`;
      const response = await call(path, remembered() || '', undefined, 'application/json');
      const actor = await response.json();
      if (looking !== mine) return;
      say(at('actor-error'), '');
      showActor(actor);
    } catch (error) {
      if (looking !== mine) return;
      say(at('actor-error'), error.status === 404 ? 'It is not in memory and nothing is known of it.' : `It cannot be read now: ${error.message}`);
    }
    mine.timer = setTimeout(() => readActor(mine), ACTOR_REFRESH_MS);
  };
  const showActor = (actor) => {
    at('actor-body').hidden = false;
    pairs(at('actor-figures'), [
      ['messages a second', rate(actor.rate)],
      ['messages handled', count(actor.messages)],
      ['waiting', count(actor.queue_depth)],
      ['rebuilt after a panic', count(actor.restarts), actor.restarts ? 'bad' : ''],
      ['wait, median', micros(actor.wait_us.p50)],
      ['wait, p99', micros(actor.wait_us.p99)],
      ['turn, median', micros(actor.service_us.p50)],
      ['turn, p99', micros(actor.service_us.p99)],
      ['last event at', actor.position.replace(/^0+(?=.)/, '')],
    ]);
    const recent = actor.recent.map((message, index) => ({ ...message, index }));
    rows(at('actor-recent'), recent, (message) => message.index,
      () => make('tr', {}, make('td'), make('td'), make('td')),
      (row, message) => [clock(message.at), message.message, message.outcome].forEach((text, index) => say(row.children[index], text)));
    say(at('actor-state'), actor.state);
  };
  at('actor-close').addEventListener('click', () => at('actor').close());
  at('actor').addEventListener('close', () => { clearTimeout(looking?.timer); looking = null; });
  // A click beside the dialog closes it.
  at('actor').addEventListener('click', (event) => { if (event.target === at('actor')) at('actor').close(); });

  // ---- theme

  const themes = ['auto', 'light', 'dark'];
  const theme = (name) => {
    if (name === 'auto') document.documentElement.removeAttribute('data-theme');
    else look(document.documentElement, 'data-theme', name);
    say(at('theme'), `Theme: ${name}`);
  };
  let chosen = 'auto';
  try { chosen = localStorage.getItem(THEME) || 'auto'; } catch { /* then it follows the system */ }
  if (!themes.includes(chosen)) chosen = 'auto';
  theme(chosen);
  at('theme').addEventListener('click', () => {
    chosen = themes[(themes.indexOf(chosen) + 1) % themes.length];
    theme(chosen);
    try { localStorage.setItem(THEME, chosen); } catch { /* it lasts as long as the page */ }
  });

  setInterval(grow, 1000);
  const known = remembered();
  if (known) watch(known);
  else at('key').focus();
})();
