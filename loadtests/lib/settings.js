// What a run was asked for: the environment that run.sh sets, the profile, and each scenario's own sizes.
//
// A scenario names its full sizes; a profile may name smaller ones for it. Nothing else scales a run, so what was run
// stands in two places and can be read.

const environment = (name, fallback) => (__ENV[name] === undefined || __ENV[name] === '' ? fallback : __ENV[name]);

const profileName = environment('PROFILE', 'laptop');
const profile = JSON.parse(open(import.meta.resolve(`../profiles/${profileName}.json`)));

export const settings = {
  url: environment('URL', 'http://127.0.0.1:8080').replace(/\/$/, ''),
  adminKey: environment('DOORBUSTER_ADMIN_KEY', ''),
  run: environment('RUN', `run-${environment('SCENARIO', 'x')}`),
  scenario: environment('SCENARIO', 'unnamed'),
  seed: Number(environment('SEED', '1')),
  out: environment('OUT', ''),
  profile: profileName,
  // R: shopper arrivals a second that this machine serves within the objectives, measured by `breakpoint`.
  rate: Number(environment('RATE', profile.rate)),
  // A shared machine's latencies are told and not judged; correctness is judged everywhere.
  judgesLatency: profile.latency === 'judged',
  newConnections: environment('CONNECTIONS', 'kept') === 'new',
};

if (!(settings.rate > 0)) throw new Error(`RATE is ${environment('RATE', profile.rate)}; it must be a number above 0`);
if (!Number.isInteger(settings.seed)) throw new Error('SEED must be a whole number');

// A scenario's sizes: its own full ones, unless the profile has smaller.
export function sizes(full) {
  const own = (profile.scenarios || {})[settings.scenario] || {};
  for (const name of Object.keys(own)) {
    if (!(name in full)) throw new Error(`profiles/${profileName}.json: ${settings.scenario} has no size called ${name}`);
  }
  return { ...full, ...own };
}
