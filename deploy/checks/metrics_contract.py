#!/usr/bin/env python3
"""The metrics contract: every metric that a rule, dashboard, page or runbook names exists in a running engine, and moves.

A query on a name that nobody emits is empty, and an empty panel looks healthy: this is how runbooks lie. So this program
reads the names out of the files, watches a running engine while somebody loads and hurts it, and compares.

    metrics_contract.py --url http://127.0.0.1:8080/metrics --key KEY --until FILE

It samples the page until the file named by --until appears, then judges:

  exists   the page has it: counters are shown at zero from the start
  moved    a counter or histogram rose while it was watched; a gauge had some value other than zero, or is one of those
           that ought to be zero (QUIET below, with the reason)
  labels   a query's label exists on that metric, and a value that it asks for by `=` was seen or is in docs/METRICS.md

Exit codes: 0 all is as named, 1 something is not, 2 wrong usage or no engine. Python's standard library only.
scripts/end-to-end/11-metrics starts the engine, Postgres and Redis that it needs, and loads and hurts them.
"""

import argparse
import json
import pathlib
import re
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Where metrics are named. Tests of rules feed names by hand, so they are held to the same.
SOURCES = [
    "deploy/prometheus/**/*.yaml",
    "deploy/grafana/dashboards/*.json",
    "deploy/kubernetes/**/*.yaml",
    "docs/METRICS.md",
    "docs/operations.md",
    "docs/rescue.md",
    "docs/runbooks/*.md",
]

# Words that look like metrics and are crates or files.
NO_METRICS = {"doorbuster_engine", "doorbuster_persistence", "doorbuster_actors", "doorbuster_gateways", "doorbuster_http",
              "doorbuster_benches", "doorbuster_outlets", "doorbuster_postgres"}

# Metrics that are there and ought not to move in a quarter of a minute, even one with kills in it: why.
QUIET = {
    "doorbuster_announcements_refused": "one while the streams belong to another journal",
    "doorbuster_rescue_pruned_batches_total": "needs two checkpoints of the copy, 256 MiB apart",
    "doorbuster_rescue_checkpoints_total": "needs 256 MiB of journal",
    "doorbuster_requests_in_flight": "told once a second, when a small crowd's requests may just be over",
    "doorbuster_journal_queue_batches": "a batch waits for microseconds; a look each second rarely meets one",
    "doorbuster_clock_jumps_total": "the wall clock of the machine has to jump",
    "doorbuster_checkpoint_failures_total": "the disk under the checkpoint has to fail",
    "doorbuster_actor_expired_total": "a queue has to stand still for a whole deadline",
    "doorbuster_payment_fallbacks_total": "needs a second provider, and the first one away",
    "doorbuster_payment_findings_total": "books have to differ",
    "doorbuster_payment_notices_total": "needs a provider that sends webhooks",
    "doorbuster_payment_strays_total": "needs money for an order that is off",
    "doorbuster_payment_waiting": "the provider fake is never away",
    "doorbuster_payment_waiting_oldest_seconds": "the provider fake is never away",
    "doorbuster_payment_drain_seconds": "the provider fake is never away",
    "doorbuster_payment_pace_wait_seconds": "the provider fake may be asked as often as one likes",
}

# Metrics of others, by whom they are exposed.
FOREIGN = {
    "up": "Prometheus itself",
    "scrape_samples_scraped": "Prometheus itself",
    "kubelet_volume_stats_available_bytes": "the kubelet",
    "kubelet_volume_stats_capacity_bytes": "the kubelet",
    "kube_cronjob_status_last_successful_time": "kube-state-metrics",
}

NAME = re.compile(r"\bdoorbuster_[a-z0-9_]*[a-z0-9]\b")
RECORDED = re.compile(r"(?<![/\w])doorbuster(?::[a-z0-9_]+)+")
SELECTOR = re.compile(r"\b(doorbuster_[a-z0-9_]+)\{([^{}]*(?:\{[^{}]*\}[^{}]*)*?)\}")
MATCHER = re.compile(r'([a-z_]+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"')
SAMPLE = re.compile(r"^([a-z_:]+)(?:\{(.*)\})? (\S+)$")
# Labels that Prometheus adds, or that a histogram's series have.
ADDED = {"job", "instance", "namespace", "pod", "le"}


def files():
    for pattern in SOURCES:
        found = sorted(ROOT.glob(pattern))
        if not found and "*" not in pattern:
            sys.exit(f"metrics_contract: {pattern} is not there")
        yield from found


def named():
    """Every metric named, with the files that name it; recorded names; and the label matchers of each."""
    metrics, recorded, matchers, defined = {}, {}, {}, set()
    for file in files():
        path = str(file.relative_to(ROOT))
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            # Queries have their quotes escaped there.
            text = text.replace('\\"', '"')
        defined.update(re.findall(r"record: (doorbuster:\S+)", text))
        for name in NAME.findall(text):
            if name not in NO_METRICS:
                metrics.setdefault(name, set()).add(path)
        for name in RECORDED.findall(text):
            recorded.setdefault(name, set()).add(path)
        if "/tests/" in path or path.endswith("METRICS.md"):
            continue
        for name, inside in SELECTOR.findall(text):
            for label, operator, value in MATCHER.findall(inside):
                matchers.setdefault((name, label, operator, value), set()).add(path)
    undefined = {name: where for name, where in recorded.items() if name not in defined}
    return metrics, matchers, undefined


def base(name, kinds):
    """A histogram's series under its own name."""
    for ending in ("_bucket", "_sum", "_count"):
        shorter = name.removesuffix(ending)
        if shorter != name and kinds.get(shorter) in ("histogram", "summary"):
            return shorter
    return name


class Watch:
    """What a page told, over time: kinds, first, last and largest sums, label values."""

    def __init__(self):
        self.kinds, self.first, self.last, self.largest, self.labels = {}, {}, {}, {}, {}
        self.pages = 0
        self.series = 0

    def take(self, page):
        sums, series = {}, 0
        for line in page.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.kinds[name] = kind
            elif line and not line.startswith("#"):
                match = SAMPLE.match(line)
                if match is None:
                    sys.exit(f"metrics_contract: this line is no sample: {line}")
                name, labels, value = match.groups()
                series += 1
                name_of_all = base(name, self.kinds)
                for label, _, text in MATCHER.findall(labels or ""):
                    self.labels.setdefault(name_of_all, {}).setdefault(label, set()).add(text)
                if name.endswith(("_bucket", "_sum")) and name != name_of_all:
                    continue
                sums[name_of_all] = sums.get(name_of_all, 0.0) + float(value)
        for name, value in sums.items():
            self.first.setdefault(name, value)
            self.last[name] = value
            self.largest[name] = max(value, self.largest.get(name, value))
        self.pages += 1
        self.series = max(self.series, series)

    def moved(self, name):
        if self.kinds.get(name) == "gauge":
            return self.largest[name] != 0 or self.first[name] != self.last[name]
        # A series that appeared meanwhile began at nothing; a restart begins again.
        return self.largest[name] > 0


def judge(watch, metrics, matchers, undefined):
    page_of_metrics = (ROOT / "docs/METRICS.md").read_text(encoding="utf-8")
    wrong, moved, quiet = [], 0, 0
    for name, where in sorted(undefined.items()):
        wrong.append(f"{name} is recorded by no rule, and asked for in {', '.join(sorted(where))}")
    for name, where in sorted(metrics.items()):
        series = base(name, watch.kinds)
        told = f"(named in {', '.join(sorted(where))})"
        if series not in watch.kinds:
            wrong.append(f"{name} does not exist {told}")
        elif watch.moved(series):
            moved += 1
        elif series in QUIET:
            quiet += 1
        else:
            wrong.append(f"{name} is there and never moved {told}")
    for series in sorted(watch.kinds):
        if series.startswith("doorbuster_") and series not in metrics:
            wrong.append(f"{series} is measured and named nowhere")
    for (name, label, operator, value), where in sorted(matchers.items()):
        series = base(name, watch.kinds)
        if series not in watch.kinds or label in ADDED:
            continue
        told = f'{name}{{{label}{operator}"{value}"}} (in {", ".join(sorted(where))})'
        values = watch.labels.get(series, {}).get(label)
        if values is None:
            wrong.append(f"{told}: there is no such label")
        elif operator == "=" and "$" not in value and value not in values and f"`{value}`" not in page_of_metrics:
            wrong.append(f"{told}: that value was never seen; seen were {', '.join(sorted(values)[:12])}")
    return wrong, {"moved": moved, "quiet by design": quiet, "queries' labels": len(matchers),
                   "series": watch.series, "pages": watch.pages}


def fetch(url, key):
    request = urllib.request.Request(url)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    with urllib.request.urlopen(request, timeout=5) as reply:
        return reply.read().decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="the engine's /metrics")
    parser.add_argument("--key", default="", help="the admin key, where the listener wants it")
    parser.add_argument("--until", type=pathlib.Path, help="watch until this file is there (default: one look)")
    parser.add_argument("--patience-s", type=float, default=300, help="give up watching after this long (300)")
    arguments = parser.parse_args()
    watch, began = Watch(), time.monotonic()
    while True:
        # Looked for first, so that the last page is from after the file.
        done = arguments.until is None or arguments.until.exists()
        try:
            watch.take(fetch(arguments.url, arguments.key))
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if done:
                print(f"metrics_contract: {arguments.url} does not answer: {error}", file=sys.stderr)
                return 2
        if done:
            break
        if time.monotonic() - began > arguments.patience_s:
            print(f"metrics_contract: {arguments.until} did not appear", file=sys.stderr)
            return 2
        time.sleep(0.2)
    wrong, figures = judge(watch, *named())
    for sentence in wrong:
        print(f"  {sentence}", file=sys.stderr)
    print(json.dumps(figures))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
