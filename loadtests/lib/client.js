// Speaks to the engine as a shop's client should: one key for each intention, the same for each retry of it; later when
// told so; and an answer that never came is unknown until the same request is answered. Start at `call`.
//
// Every final answer to a keyed request is one line on the console, which run.sh sends to a file: the ledger that
// `doorbuster trial judge` holds the engine to. Its form is that of http/src/cli/trial/ledger.rs.

import { sleep } from 'k6';
import { sha256 } from 'k6/crypto';
import http from 'k6/http';
import { Counter, Trend } from 'k6/metrics';

import { settings } from './settings.js';

export const counters = {
  unexpected: new Counter('unexpected_status'),
  soldOut: new Counter('refused_sold_out'),
  falselySoldOut: new Counter('false_sold_out'),
  busy: new Counter('refused_busy'),
  refused: new Counter('refused_otherwise'),
  outage: new Counter('outage_answers'),
  unknown: new Counter('unknown_answers'),
  untimed: new Counter('retry_after_missing'),
  granted: new Counter('granted_units'),
  // To be compared with the engine's own metrics: every 201 heard, repeats included.
  reservations: new Counter('reservations_201'),
  committed: new Counter('committed_units'),
  ordered: new Counter('ordered_units'),
  unsure: new Counter('unknown_sold_units'),
  replayDiffers: new Counter('replay_differs'),
  scriptErrors: new Counter('script_errors'),
};
export const times = {
  accepted: new Trend('hold_accepted', true),
  soldOut: new Trend('hold_sold_out', true),
  busy: new Trend('hold_busy', true),
};

// Every status is an answer; which were expected is decided here, request by request.
http.setResponseCallback(http.expectedStatuses({ min: 200, max: 599 }));

// How this client behaves; a scenario may change it in its own scope.
export const manners = {
  // The engine's own deadline is ten seconds; an attempt outlasts it, so that it hears "unknown" from the engine.
  attempt_s: 12,
  // Attempts while the engine says "later".
  attemptsMax: 3,
  // How long an unanswered request is sent again; 0 leaves that to the judge.
  patience_s: 0,
  // Whether a connection that fails is part of the scenario.
  expectsOutages: false,
};

const ms = () => Date.now();

export function parsed(response) {
  try {
    return JSON.parse(response.body) || {};
  } catch (_) {
    return {};
  }
}

// One attempt. `request`: name, method, path, and where it has them body, key, token, admin, ifMatch, headers, tags.
export function parameters(request) {
  const headers = { ...(request.headers || {}) };
  if (request.body !== undefined && !headers['Content-Type']) headers['Content-Type'] = 'application/json';
  if (request.key) headers['Idempotency-Key'] = request.key;
  if (request.token) headers['Cart-Token'] = request.token;
  if (request.admin) headers.Authorization = `Bearer ${settings.adminKey}`;
  if (request.ifMatch) headers['If-Match'] = request.ifMatch;
  return {
    headers,
    tags: { name: request.name, ...(request.tags || {}) },
    timeout: `${manners.attempt_s}s`,
    responseType: request.blind ? 'none' : 'text',
  };
}

export const attempt = (request) =>
  http.request(request.method, settings.url + request.path, request.body === undefined ? null : request.body, parameters(request));

// Several attempts at once, each on a connection of its own.
export const attempts = (requests) =>
  http.batch(
    requests.map((request) => ({
      method: request.method,
      url: settings.url + request.path,
      body: request.body === undefined ? null : request.body,
      params: parameters(request),
    })),
  );

// What an answer means for the request: `done` (durable), `refused` (definitely, nothing changed), `busy` (the same, and
// worth another try), `unknown`.
export function meaning(response) {
  const status = response.status;
  if ((status >= 200 && status < 400) || status === 402) return 'done';
  if (status === 0 || (status >= 500 && status !== 503)) return 'unknown';
  if (status === 503) return parsed(response).code === 'deadline_exceeded' ? 'unknown' : 'busy';
  if (status === 409 && parsed(response).code === 'request_in_progress') return 'busy';
  return 'refused';
}

// Sends a request until it is answered, or until a client of these manners gives up. `declared` are the statuses that the
// scenario expects besides "later"; any other is counted.
export function call(request, declared, who) {
  const since = ms();
  for (let tries = 1; ; tries += 1) {
    const response = attempt(request);
    const means = meaning(response);
    count(request, response, means, declared);
    const waited_s = (ms() - since) / 1000;
    if (means === 'busy' && tries < manners.attemptsMax) {
      // Of those who are told to come back later, 30 of 100 do not wait.
      const told_s = Number(response.headers['Retry-After'] || 1);
      const isPatient = !who || who.chance(0.7);
      sleep(isPatient ? Math.min(told_s, 5) : 0.01);
      continue;
    }
    if (means === 'unknown' && waited_s < manners.patience_s) {
      sleep(0.1 + (who ? who.random() : 0.5) * 0.2);
      continue;
    }
    return { response, means, tries };
  }
}

export function count(request, response, means, declared) {
  const status = response.status;
  if (status === 201 && request.path === '/v1/reservations') counters.reservations.add(1);
  if (means === 'busy') {
    counters.busy.add(1);
    if (!response.headers['Retry-After']) counters.untimed.add(1);
    return;
  }
  if (means === 'unknown') {
    counters.unknown.add(1);
    if (status === 503 || manners.expectsOutages) counters.outage.add(1);
    else surprise(request, response);
    return;
  }
  if (means === 'refused' && parsed(response).code === 'insufficient_stock') {
    counters.soldOut.add(1);
    // "Sold out" must name a SKU that has too little, or it was no reason to refuse.
    const items = parsed(response).items || [];
    if (!items.some((item) => item.available < item.requested)) counters.falselySoldOut.add(1);
  } else if (means === 'refused') {
    counters.refused.add(1);
  }
  if (!declared.includes(status)) surprise(request, response);
}

export function surprise(request, response) {
  counters.unexpected.add(1);
  const said = response.body ? String(response.body).slice(0, 300) : response.error;
  say(`unexpected ${response.status} to ${request.method} ${request.path}: ${said}`);
}

// For people; run.sh keeps these lines apart from the ledger's. The console is no other way out of a virtual user.
export const say = (text) => console.log(`# ${text}`);

// Whether requests for these SKUs are written down. A soak of hours names a few SKUs as witnesses, and of those every
// answer is written down: the judge counts units of whole SKUs.
let isWitness = () => true;
export const witnesses = (rule) => {
  isWitness = rule;
};

// Writes down what became of a request; `skus` are the names of those it is about.
export function note(request, response, verdict, skus) {
  if (!skus.every(isWitness)) return;
  const asked = { key: request.key, method: request.method, path: request.path };
  if (request.token) asked.token = request.token;
  if (request.admin) asked.as_admin = true;
  if (request.ifMatch) asked.if_match = request.ifMatch;
  asked.body = request.body || '';
  const status = response ? response.status : 0;
  const digest = response && response.body ? sha256(response.body, 'hex').slice(0, 16) : '';
  console.log(JSON.stringify({ at_ms: ms(), request: asked, status, digest, verdict }));
}
