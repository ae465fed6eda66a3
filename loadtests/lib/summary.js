// What k6 measured, for the report: every figure, every threshold, and the objectives that this profile only tells.

import { objectives } from './plan.js';
import { settings } from './settings.js';

// `more` gives a scenario's own rows, each `[name, seen, wanted, holds]`, and what else the report should know.
export const summary = (more = () => ({})) => (data) => {
  const measured = {
    scenario: settings.scenario,
    profile: settings.profile,
    run: settings.run,
    rate: settings.rate,
    seed: settings.seed,
    connections: settings.newConnections ? 'new' : 'kept',
    judges_latency: settings.judgesLatency,
    objectives,
    duration_ms: data.state.testRunDurationMs,
    metrics: data.metrics,
    ...more(data),
  };
  if (settings.out) return { [`${settings.out}/k6.json`]: JSON.stringify(measured) };
  const broken = Object.entries(data.metrics).filter(([, metric]) => Object.values(metric.thresholds || {}).some((held) => !held.ok));
  const verdict = broken.length === 0 ? 'every threshold held' : `broken: ${broken.map(([name]) => name).join(', ')}`;
  return { stdout: `${settings.scenario}: ${verdict}; run.sh makes the whole report\n` };
};

export const handleSummary = summary();
