// How a scenario becomes k6 options: an open model, thresholds that every scenario has, and honesty about the generator.

import exec from 'k6/execution';
import { Counter, Trend } from 'k6/metrics';

import { counters, say } from './client.js';
import { settings } from './settings.js';

// Longer than any shopper's patience: one who is cut off while being answered is in no ledger.
const gracefulStop = '120s';

// Whoever began must come to an end, or the audit has nothing to go by.
const begun = new Counter('arrivals_begun');
const ended = new Counter('arrivals_ended');

// How late an arrival was: a generator out of breath drops nothing as long as it has users, it only starts them late.
const lateness = new Trend('arrival_lateness', true);

// Arrivals a second of scenarios that have one rate.
const paces = {};

// Virtual users that an arrival rate needs, so that none is missing when iterations take `slowest_s`. Too few drop
// iterations, which voids the run; k6 starts a missing one only after the arrival was dropped, so all are made before.
export const users = (rate, slowest_s) => Math.max(2, Math.ceil(rate * slowest_s * 1.5));

// Arrivals at one rate.
export function steady(play, rate, duration_s, more = {}) {
  const { slowest_s = 2, start_s = 0, tags = {}, env } = more;
  const made = users(rate, slowest_s);
  return {
    executor: 'constant-arrival-rate',
    exec: play,
    // k6 wants whole arrivals; ten seconds let small rates be true.
    rate: Math.max(1, Math.round(rate * 10)),
    timeUnit: '10s',
    duration: `${duration_s}s`,
    startTime: `${start_s}s`,
    preAllocatedVUs: made,
    maxVUs: made,
    gracefulStop,
    tags,
    ...(env ? { env } : {}),
  };
}

// Arrivals along `stages`, each `[rate at its end, seconds]`.
export function ramping(play, from, stages, more = {}) {
  const { slowest_s = 2, start_s = 0, tags = {} } = more;
  const made = users(Math.max(from, ...stages.map(([rate]) => rate)), slowest_s);
  return {
    executor: 'ramping-arrival-rate',
    exec: play,
    startRate: Math.round(from * 10),
    timeUnit: '10s',
    stages: stages.map(([rate, seconds]) => ({ target: Math.round(rate * 10), duration: `${seconds}s` })),
    startTime: `${start_s}s`,
    preAllocatedVUs: made,
    maxVUs: made,
    gracefulStop,
    tags,
  };
}

// One user, so many times.
export const once = (play, more = {}) => ({
  executor: 'shared-iterations',
  exec: play,
  vus: 1,
  iterations: more.iterations || 1,
  maxDuration: `${more.seconds || 60}s`,
  startTime: `${more.start_s || 0}s`,
});

const zero = ['count==0'];

// Correctness, the same everywhere, whatever the machine.
const common = {
  dropped_iterations: zero,
  unexpected_status: zero,
  script_errors: zero,
  false_sold_out: zero,
  retry_after_missing: zero,
  replay_differs: zero,
  conservation_mismatch: zero,
  oversold_units: zero,
  undersold_units: zero,
  double_charge: zero,
};

// Objectives of latency: judged where the profile says so, else only told beside the figure.
export const objectives = {};

// Figures that are told in any case, and need a threshold for k6 to keep them apart.
const steps = ['sku', 'skus', 'availability', 'reserve', 'commit', 'release', 'cart', 'checkout'];

export function plan({ scenarios, latency = {}, thresholds = {}, told = [], options = {} }) {
  Object.assign(objectives, latency);
  for (const [name, scenario] of Object.entries(scenarios)) {
    if (scenario.executor === 'constant-arrival-rate') paces[name] = scenario.rate / 10;
  }
  const kept = [...told, ...steps.map((step) => `http_req_duration{name:${step}}`), 'hold_accepted', 'hold_sold_out', 'hold_busy'];
  const all = Object.fromEntries(kept.map((name) => [name, ['max>=0']]));
  for (const [name, limit] of Object.entries(latency)) all[name] = settings.judgesLatency ? [limit] : ['max>=0'];
  Object.assign(all, common, thresholds);
  return {
    scenarios,
    thresholds: all,
    summaryTrendStats: ['min', 'avg', 'med', 'p(90)', 'p(95)', 'p(99)', 'p(99.9)', 'max', 'count'],
    discardResponseBodies: true,
    noConnectionReuse: settings.newConnections,
    noCookiesReset: true,
    setupTimeout: '300s',
    teardownTimeout: '900s',
    batch: 50,
    batchPerHost: 50,
    userAgent: 'doorbuster-loadtests',
    ...options,
  };
}

// A script that throws does nothing for the rest of its iteration, and k6 only logs it. Here it breaks the run.
export const guarded = (play) => (data) => {
  const { name, startTime, iterationInTest } = exec.scenario;
  begun.add(1);
  if (paces[name]) lateness.add(Math.max(0, Date.now() - startTime - (iterationInTest * 1000) / paces[name]));
  try {
    play(data);
  } catch (error) {
    counters.scriptErrors.add(1);
    say(`the script failed: ${error} ${error.stack || ''}`.replace(/\n/g, ' '));
  }
  ended.add(1);
};
