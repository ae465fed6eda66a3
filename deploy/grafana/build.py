#!/usr/bin/env python3
"""The dashboards as code: writes deploy/grafana/dashboards/*.json from the panels below.

    build.py            writes them
    build.py --check    writes nothing; exit code 1 if a file is not what would be written

JSON of Grafana is unreadable in review and cannot have comments, so what is reviewed is this file. Each panel is one call:
a title that says what is asked, the queries with their legends, the unit, and a sentence that says what is good and what is
not. Python's standard library only.
"""

import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent / "dashboards"
WHO = 'job="doorbuster",instance=~"$instance"'
CUSTOMERS = 'route!~"/livez|/readyz|/metrics|/version|none"'
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# The colours of states: the same meaning on every panel.
GREEN, AMBER, RED = "green", "orange", "red"


def target(expression, legend, ref):
    return {"datasource": DATASOURCE, "expr": expression, "legendFormat": legend, "refId": ref, "range": True}


def panel(kind, title, queries, unit, says, width=12, height=8, steps=None, stack=False, high=None):
    """One panel. `steps`: (value, colour) from which on a value has that colour; `high`: the axis' top."""
    defaults = {"unit": unit, "min": 0}
    if high is not None:
        defaults["max"] = high
    thresholds = [{"color": GREEN, "value": None}] + [{"color": colour, "value": value} for value, colour in steps or []]
    defaults["thresholds"] = {"mode": "absolute", "steps": thresholds}
    options = {}
    if kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 2,
            "fillOpacity": 25 if stack else 8,
            "showPoints": "never",
            "stacking": {"mode": "normal" if stack else "none"},
            "thresholdsStyle": {"mode": "line" if steps else "off"},
        }
        options = {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["last", "max"]},
                   "tooltip": {"mode": "multi", "sort": "desc"}}
    elif kind == "stat":
        options = {"colorMode": "background", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}}
    elif kind == "bargauge":
        options = {"displayMode": "gradient", "orientation": "horizontal", "reduceOptions": {"calcs": ["lastNotNull"]}}
    targets = [target(expression, legend, chr(ord("A") + at)) for at, (expression, legend) in enumerate(queries)]
    return {"type": kind, "title": title, "description": says, "datasource": DATASOURCE, "targets": targets,
            "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options, "size": (width, height)}


def line(title, queries, unit, says, **more):
    return panel("timeseries", title, queries, unit, says, **more)


def stat(title, query, unit, says, **more):
    return panel("stat", title, [(query, "{{instance}}")], unit, says, width=more.pop("width", 4), height=4, **more)


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "size": (24, 1)}


def heat(title, metric, matchers, says):
    """Where the observations of a histogram lie, over time."""
    expression = f"sum by (le) (increase({metric}_bucket{{{matchers}}}[$__rate_interval]))"
    query = target(expression, "{{le}}", "A") | {"format": "heatmap"}
    return {"type": "heatmap", "title": title, "description": says, "datasource": DATASOURCE, "targets": [query],
            "fieldConfig": {"defaults": {}, "overrides": []},
            "options": {"calculate": False, "yAxis": {"unit": "s"}, "color": {"scheme": "Oranges", "mode": "scheme"},
                        "cellGap": 1, "tooltip": {"show": True}},
            "size": (12, 8)}


def quantiles(metric, matchers, by=()):
    """p50, p95 and p99 of a histogram, a legend each."""
    names = ", ".join(("le", *by))
    tail = "".join(f" {{{{{label}}}}}" for label in by)
    return [(f"histogram_quantile({q}, sum by ({names}) (rate({metric}_bucket{{{matchers}}}[$__rate_interval])))", f"p{p}{tail}")
            for q, p in (("0.5", 50), ("0.95", 95), ("0.99", 99))]


def dashboard(uid, title, says, panels):
    x = y = tallest = 0
    placed = []
    for number, entry in enumerate(panels, start=1):
        width, height = entry.pop("size")
        if x + width > 24:
            x, y, tallest = 0, y + tallest, 0
        placed.append({"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": height}, **entry})
        x, tallest = x + width, max(tallest, height)
    variables = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0},
        {"name": "instance", "label": "Engine", "type": "query", "datasource": DATASOURCE, "refresh": 2, "sort": 1,
         "includeAll": True, "multi": True, "current": {"text": "All", "value": "$__all"},
         "definition": "label_values(doorbuster_build_info, instance)",
         "query": {"query": "label_values(doorbuster_build_info, instance)", "refId": "instances"}},
    ]
    alerts = {"name": "Alerts", "datasource": DATASOURCE, "enable": True, "iconColor": RED, "titleFormat": "{{alertname}}",
              "expr": 'ALERTS{alertstate="firing",severity=~"page|ticket"}', "step": "15s"}
    starts = {"name": "Starts", "datasource": DATASOURCE, "enable": True, "iconColor": "blue", "titleFormat": "started",
              "expr": f"resets(doorbuster_journal_bytes_total{{{WHO}}}[1m]) > 0", "step": "15s"}
    links = [{"title": "Doorbuster", "type": "dashboards", "tags": ["doorbuster"], "asDropdown": True, "includeVars": True,
              "keepTime": True}]
    return {"uid": uid, "title": title, "description": says, "tags": ["doorbuster"], "schemaVersion": 38, "version": 1,
            "editable": False, "timezone": "browser", "refresh": "5s", "time": {"from": "now-30m", "to": "now"},
            "templating": {"list": variables}, "annotations": {"list": [alerts, starts]}, "links": links, "panels": placed}


def sale():
    answers = f'doorbuster_http_requests_total{{{WHO},route="/v1/reservations",method="POST"'
    checkout = f'doorbuster_http_requests_total{{{WHO},route="/v1/carts/{{id}}/checkout"'
    return dashboard("doorbuster-sale", "Doorbuster: a sale", "The first page to open when doors do: is it selling, is it fast, is it honest.", [
        stat("Reservations a second", f"doorbuster:reservations:rate1m{{{WHO}}}", "reqps", "Granted. Falls to nothing when sold out, or when something is broken: the next panel tells which."),
        stat("Orders a second", f"doorbuster:orders:rate1m{{{WHO}}}", "reqps", "Checkouts answered 201, so paid."),
        stat("p99 of a reservation", f"doorbuster:reservation_seconds:p99_1m{{{WHO}}}", "s", "Promised: 250 ms.", steps=[(0.1, AMBER), (0.25, RED)]),
        stat("Errors", f"doorbuster:error_ratio:rate2m{{{WHO}}}", "percentunit", "Share of 5xx. Allowed over a month: 0.1%.", steps=[(0.001, AMBER), (0.01, RED)]),
        stat("A lost disk would take", f"max by (instance) (doorbuster_rescue_lag_seconds{{{WHO}}})", "s", "How far the rescue copy is behind. Objective: 15 minutes; usual: below a second. Empty without --rescue.", steps=[(60, AMBER), (600, RED)]),
        stat("Panics", f'sum by (instance) (doorbuster_actor_lifecycle_total{{{WHO},event="panic"}}) or on () vector(0)', "short", "Actors that panicked since the start. Should be zero: a law was broken.", steps=[(1, RED)]),
        row("What shoppers get"),
        line("New reservations, by answer", [(f"sum by (code) (rate({answers}}}[$__rate_interval]))", "{{code}}")], "reqps", "201 granted, 409 sold out, 429 too often, 503 refused early. Only the last is our failure.", stack=True),
        line("Checkouts, by answer", [(f"sum by (code) (rate({checkout}}}[$__rate_interval]))", "{{code}}")], "reqps", "201 paid, 202 waits for shopper or provider, 402 declined, 409 sold out or price changed.", stack=True),
        line("Time to reserve", quantiles("doorbuster_http_request_duration_seconds", f'{WHO},route="/v1/reservations",method="POST"'), "s", "From the request's head to its reply, the wait for the disk included.", steps=[(0.25, RED)]),
        line("Time to check out", quantiles("doorbuster_http_request_duration_seconds", f'{WHO},route="/v1/carts/{{id}}/checkout"'), "s", "The payment provider's time is in it.", steps=[(1, RED)]),
        row("How it goes on"),
        line("Requests, by route", [(f"topk(10, sum by (route) (rate(doorbuster_http_requests_total{{{WHO},{CUSTOMERS}}}[$__rate_interval])))", "{{route}}")], "reqps", "The ten busiest.", stack=True),
        line("Watchers", [(f"sum by (instance) (doorbuster_live_streams{{{WHO}}})", "streams {{instance}}"), (f"sum by (instance) (rate(doorbuster_live_events_total{{{WHO}}}[$__rate_interval]))", "events/s {{instance}}")], "short", "Live streams that are open, and events handed to them."),
        line("Keys remembered", [(f"doorbuster_request_keys{{{WHO}}}", "all {{instance}}"), (f"doorbuster_request_keys_finished{{{WHO}}}", "kept for replays {{instance}}")], "short", "Their difference is what is going on: open reservations and running calls."),
        line("Error budget burnt", [(f"doorbuster:error_ratio:rate5m{{{WHO}}} / 0.001", "5 m {{instance}}"), (f"doorbuster:error_ratio:rate1h{{{WHO}}} / 0.001", "1 h {{instance}}"), (f"doorbuster:error_ratio:rate6h{{{WHO}}} / 0.001", "6 h {{instance}}")], "short", "How many times faster than allowed. 1 uses up the month's budget in a month; 14.4 for an hour pages.", steps=[(6, AMBER), (14.4, RED)]),
    ])


def actors():
    return dashboard("doorbuster-actors", "Doorbuster: actors", "Who lives in the engine, and whether one of them is too popular.", [
        stat("SKUs", f"doorbuster_skus{{{WHO}}}", "short", "In the catalogue."),
        stat("Actors awake", f"sum by (instance) (doorbuster_actor_active{{{WHO}}})", "short", "Of all kinds."),
        stat("Requests in flight", f"doorbuster_requests_in_flight{{{WHO}}}", "short", "Places taken, of 65,536 unless set otherwise.", steps=[(32768, AMBER), (60000, RED)]),
        stat("Refused at a hot SKU", f'sum by (instance) (doorbuster:shed_ratio:rate1m{{{WHO},reason="sku"}}) or on () vector(0)', "percentunit", "Share of requests that found no place at their SKU.", steps=[(0.01, AMBER), (0.05, RED)]),
        stat("Died of age", f"sum by (instance) (increase(doorbuster_actor_expired_total{{{WHO}}}[10m])) or on () vector(0)", "short", "Requests dropped undecided in ten minutes, because their deadline had passed.", steps=[(1, AMBER), (10, RED)]),
        stat("Rebuilt", f'sum by (instance) (doorbuster_actor_lifecycle_total{{{WHO},event="rebuild"}}) or on () vector(0)', "short", "Actors made anew from checkpoint and journal after a panic, since the start.", steps=[(1, RED)]),
        row("Hot SKUs"),
        line("Refused early, by reason", [(f"sum by (reason) (rate(doorbuster_shed_total{{{WHO}}}[$__rate_interval]))", "{{reason}}")], "reqps", "sku: one SKU is hotter than one core. node: the engine is full. late: the workers are. Which SKU it is, GET /v1/admin/actors?kind=sku tells.", stack=True),
        line("Places taken", [(f"doorbuster_requests_in_flight{{{WHO}}}", "{{instance}}")], "short", "Low while reason sku rises: one SKU is the bottleneck, not the machine."),
        line("Requests dropped for age, by kind", [(f"sum by (kind) (rate(doorbuster_actor_expired_total{{{WHO}}}[$__rate_interval]))", "{{kind}}")], "reqps", "Nothing was decided about them; a retry is safe. Empty is good.", steps=[(0.1, RED)]),
        line("Reservations: granted and refused for stock", [(f'sum by (code) (rate(doorbuster_http_requests_total{{{WHO},route="/v1/reservations",method="POST",code=~"201|409"}}[$__rate_interval]))', "{{code}}")], "reqps", "The moment a drop sells out is where these cross."),
        row("Lives"),
        line("Awake, by kind", [(f"sum by (kind) (doorbuster_actor_active{{{WHO}}})", "{{kind}}")], "short", "Carts and orders leave memory when nothing of theirs is open; SKUs go to sleep in it.", stack=True),
        line("Left memory, panicked, rebuilt", [(f"sum by (kind, event) (rate(doorbuster_actor_lifecycle_total{{{WHO}}}[$__rate_interval]))", "{{event}} {{kind}}")], "ops", "passivate is everyday. panic and rebuild are not."),
        line("Clock jumps", [(f"doorbuster_clock_jumps_total{{{WHO}}}", "{{instance}}")], "short", "Expiry pauses after each. Empty is good.", steps=[(1, RED)]),
        line("How long answers are kept", [(f"doorbuster_request_key_retention_seconds{{{WHO}}}", "{{instance}}")], "s", "24 hours, unless the bound on finished keys drops older ones earlier."),
    ])


def journal():
    return dashboard("doorbuster-journal", "Doorbuster: journal and storage", "The disk under every promise.", [
        stat("p99 of a sync", f"doorbuster:journal_sync_seconds:p99_5m{{{WHO}}}", "s", "The floor under all latency. Above 50 ms the disk is the bottleneck.", steps=[(0.02, AMBER), (0.05, RED)]),
        stat("Events a second", f"rate(doorbuster_journal_events_total{{{WHO}}}[1m])", "ops", "Made durable."),
        stat("Bytes a second", f"rate(doorbuster_journal_bytes_total{{{WHO}}}[1m])", "Bps", "Written to the journal."),
        stat("Room", f"doorbuster_journal_claimable_bytes{{{WHO}}}", "bytes", "Surely there for records. At zero, changes are refused with storage_full."),
        stat("Batches waiting", f"doorbuster_journal_queue_batches{{{WHO}}}", "short", "More than one for each worker: the writer does not come round.", steps=[(16, AMBER), (64, RED)]),
        stat("Failed checkpoints", f"doorbuster_checkpoint_failures_total{{{WHO}}} or on () vector(0)", "short", "Since the start. Nothing is lost; restarts take longer.", steps=[(1, RED)]),
        row("Where a batch's time goes"),
        line("p99, by phase", [(f"histogram_quantile(0.99, sum by (phase, le) (rate(doorbuster_journal_append_seconds_bucket{{{WHO}}}[$__rate_interval])))", "{{phase}}")], "s", "queue: waiting for the sync before. write: into the page cache. sync: the disk itself.", steps=[(0.05, RED)]),
        heat("Syncs", "doorbuster_journal_append_seconds", f'{WHO},phase="sync"', "A second band far above the first: the disk stalls now and then, and an average would hide it."),
        line("Events that shared a sync", quantiles("doorbuster_journal_batch_events", WHO), "short", "Batches form by themselves while a sync runs: large ones under load are how it should be."),
        line("Made durable", [(f"rate(doorbuster_journal_events_total{{{WHO}}}[$__rate_interval])", "events/s {{instance}}")], "ops", "Everything that changed anything."),
        row("Room and checkpoints"),
        line("Room for records", [(f"doorbuster_journal_claimable_bytes{{{WHO}}}", "{{instance}}")], "bytes", "A saw: a segment fills, the next was prepared. A fall to nothing: the disk is full."),
        line("Journal written", [(f"rate(doorbuster_journal_bytes_total{{{WHO}}}[$__rate_interval])", "{{instance}}")], "Bps", "The journal keeps everything: this times a month is what the disk needs for it."),
        line("Checkpoint rounds", [(f"rate(doorbuster_checkpoint_rounds_total{{{WHO}}}[$__rate_interval]) * 60", "rounds a minute {{instance}}"), (f"rate(doorbuster_checkpoint_failures_total{{{WHO}}}[$__rate_interval]) * 60", "failures a minute {{instance}}")], "short", "Short restarts need rounds."),
        line("How long a round takes", quantiles("doorbuster_checkpoint_seconds", WHO), "s", "While serving; nobody waits for it."),
    ])


def followers():
    return dashboard("doorbuster-followers", "Doorbuster: Postgres and Redis", "What follows the journal. No sale waits for any of it.", [
        stat("A lost disk would take", f"doorbuster_rescue_lag_seconds{{{WHO}}}", "s", "Age of the oldest frame that is not in the rescue copy. Objective: 15 minutes.", steps=[(60, AMBER), (600, RED)]),
        stat("Copy being written", f"doorbuster_rescue_connected{{{WHO}}}", "bool_yes_no", "Whether the rescue copy is being written now."),
        stat("Projection behind", f"doorbuster_projection_lag_seconds{{{WHO}}}", "s", "For how long Postgres has not had everything. Reports are this old.", steps=[(5, AMBER), (30, RED)]),
        stat("Announcements behind", f"doorbuster_announcement_lag_seconds{{{WHO}}}", "s", "Age of the oldest announcement that waits for Redis.", steps=[(5, AMBER), (30, RED)]),
        stat("Redis left alone", f"max by (instance) (doorbuster_redis_breaker_open{{{WHO}}})", "bool_yes_no", "Whether a breaker before Redis is open.", steps=[(1, RED)]),
        stat("Announcements refused", f"doorbuster_announcements_refused{{{WHO}}}", "bool_yes_no", "The streams in Redis are another journal's; a person must choose.", steps=[(1, RED)]),
        row("Rescue copy in Postgres"),
        line("Behind", [(f"doorbuster_rescue_lag_seconds{{{WHO}}}", "{{instance}}")], "s", "What a lost disk would take.", steps=[(60, AMBER), (600, RED)]),
        line("Not shipped", [(f"doorbuster_rescue_lag_bytes{{{WHO}}}", "bytes {{instance}}"), (f"doorbuster_rescue_lag_frames{{{WHO}}}", "frames {{instance}}")], "short", "It catches up by itself when Postgres is back."),
        line("Time to commit a batch", quantiles("doorbuster_rescue_commit_seconds", WHO), "s", "With --durability replicated every answer waits for this."),
        line("Shipped", [(f"rate(doorbuster_rescue_batches_total{{{WHO}}}[$__rate_interval])", "batches/s"), (f"rate(doorbuster_rescue_checkpoints_total{{{WHO}}}[$__rate_interval])", "checkpoints/s"), (f"rate(doorbuster_rescue_pruned_batches_total{{{WHO}}}[$__rate_interval])", "pruned/s")], "ops", "Batches, checkpoints of the copy, and batches deleted behind them."),
        line("Bytes shipped", [(f"rate(doorbuster_rescue_bytes_total{{{WHO}}}[$__rate_interval])", "{{instance}}")], "Bps", "Compressed."),
        line("Sessions that failed, by kind", [(f"sum by (kind) (increase(doorbuster_rescue_errors_total{{{WHO}}}[5m]))", "{{kind}}"), (f"max by (instance) (doorbuster_rescue_epoch{{{WHO}}})", "epoch {{instance}}")], "short", "connect: Postgres is away. fenced: somebody restored from the copy. The epoch grows with each restore."),
        row("Projection in Postgres"),
        line("Behind", [(f"doorbuster_projection_lag_seconds{{{WHO}}}", "seconds {{instance}}"), (f"doorbuster_projection_lag_frames{{{WHO}}}", "frames {{instance}}")], "short", "Zero, but for moments, while Postgres is well."),
        line("Time to apply a batch", quantiles("doorbuster_projection_batch_seconds", WHO), "s", "From reading its frames to the end of its transaction."),
        line("Applied", [(f"rate(doorbuster_projection_events_total{{{WHO}}}[$__rate_interval])", "events/s"), (f"rate(doorbuster_projection_rows_total{{{WHO}}}[$__rate_interval])", "rows/s")], "ops", "Fewer rows than events: a row that changes often is written once a batch."),
        line("Faults", [(f"increase(doorbuster_projection_faults_total{{{WHO}}}[5m])", "{{instance}}")], "short", "Sessions that ended in a fault within five minutes."),
        row("Announcements in Redis"),
        line("Announced, by stream", [(f"sum by (stream) (rate(doorbuster_announcements_total{{{WHO}}}[$__rate_interval]))", "{{stream}}")], "ops", "What other systems hear.", stack=True),
        line("Behind", [(f"doorbuster_announcement_lag_seconds{{{WHO}}}", "seconds {{instance}}"), (f"doorbuster_announcement_lag_frames{{{WHO}}}", "frames {{instance}}")], "short", "They wait in the journal; none is lost."),
        line("Questions that failed", [(f"sum by (purpose, kind) (increase(doorbuster_redis_errors_total{{{WHO}}}[5m]))", "{{purpose}} {{kind}}")], "short", "outage: no answer in time. refused: answered with a no."),
        line("Connections made", [(f"sum by (purpose) (doorbuster_redis_connections_total{{{WHO}}})", "{{purpose}}")], "short", "One and no more while all is well."),
    ])


def overload():
    return dashboard("doorbuster-overload", "Doorbuster: overload", "More is asked than can be answered: who is refused, why, and whether the rest stays fast.", [
        stat("Asked a second", f"doorbuster:requests:rate1m{{{WHO}}}", "reqps", "Customer requests of all kinds."),
        stat("Refused early", f"sum by (instance) (doorbuster:shed_ratio:rate1m{{{WHO}}}) or on () vector(0)", "percentunit", "Share of what was asked.", steps=[(0.01, AMBER), (0.1, RED)]),
        stat("p99 of workers' lag", f"doorbuster:worker_lag_seconds:p99_1m{{{WHO}}}", "s", "Refusing should keep it near 60 ms under any load.", steps=[(0.1, AMBER), (0.25, RED)]),
        stat("p99 of what is let in", f"doorbuster:request_seconds:p99_5m{{{WHO}}}", "s", "Promised: 1 s.", steps=[(0.5, AMBER), (1, RED)]),
        stat("Met a rate limit", f"sum by (instance) (rate(doorbuster_rate_limited_total{{{WHO}}}[1m])) or on () vector(0)", "reqps", "Requests a second answered 429."),
        stat("Series", f"scrape_samples_scraped{{{WHO}}}", "short", "What this engine shows to Prometheus. Budget: 3,000.", steps=[(2000, AMBER), (3000, RED)]),
        row("Who is refused"),
        line("Refused early, by reason", [(f"sum by (reason) (rate(doorbuster_shed_total{{{WHO}}}[$__rate_interval]))", "{{reason}}")], "reqps", "late: more than the processors can answer. node: all places taken. sku: one SKU's places taken.", stack=True),
        line("Answers, by status", [(f"sum by (code) (rate(doorbuster_http_requests_total{{{WHO},{CUSTOMERS}}}[$__rate_interval]))", "{{code}}")], "reqps", "2xx served, 409 no stock, 429 too often, 503 come again later.", stack=True),
        line("Met a limit, by limit", [(f"sum by (limit) (rate(doorbuster_rate_limited_total{{{WHO}}}[$__rate_interval]))", "{{limit}}")], "reqps", "One limit far above the others: bots there, or a limit too tight for an honest crowd.", stack=True),
        line("Counted alone", [(f"rate(doorbuster_rate_limit_alone_total{{{WHO}}}[$__rate_interval])", "{{instance}}")], "reqps", "Decisions without the shared count in Redis. Empty or zero is good."),
        row("Whether the rest stays fast"),
        line("Workers' lag", quantiles("doorbuster_worker_lag_seconds", WHO), "s", "How late workers come to what is ready. At 60 ms refusing begins.", steps=[(0.06, AMBER), (0.25, RED)]),
        heat("Requests", "doorbuster_http_request_duration_seconds", f'{WHO},route!~"/v1/streams/.*|/v1/admin/.*"', "Two bands are healthy under overload: refusals at once, and served ones below their promise."),
        line("Slowest routes, p99", [(f'topk(8, histogram_quantile(0.99, sum by (route, le) (rate(doorbuster_http_request_duration_seconds_bucket{{{WHO},{CUSTOMERS}}}[$__rate_interval]))))', "{{route}}")], "s", "Live streams and imports last as long as they last."),
        line("Places taken", [(f"doorbuster_requests_in_flight{{{WHO}}}", "{{instance}}")], "short", "Of 65,536 unless set otherwise."),
        line("Streams ended, by reason", [(f"sum by (reason) (rate(doorbuster_live_ended_total{{{WHO}}}[$__rate_interval]))", "{{reason}}")], "ops", "slow_reader: their network, or ours."),
        line("Imports, by outcome", [(f"sum by (outcome) (rate(doorbuster_import_lines_total{{{WHO}}}[$__rate_interval]))", "{{outcome}}")], "ops", "An import in the middle of a sale takes processors from it."),
    ])


def payments():
    asked = 'call=~"authorize|confirm|look_up"'
    return dashboard("doorbuster-payments", "Doorbuster: payments", "Whether money can be taken, who waits for it, and whether both sides' books agree.", [
        stat("Providers that answer", f"min by (instance) (doorbuster_payment_provider_up{{{WHO}}})", "short", "1: all of them. 0: one is left alone, and tried now and then."),
        stat("Orders that wait", f"sum by (instance) (doorbuster_payment_waiting{{{WHO}}})", "short", "They keep their units and are charged in the order in which these were held. Nobody is charged twice.", steps=[(100, AMBER), (10000, RED)]),
        stat("The first has waited", f"max by (instance) (doorbuster_payment_waiting_oldest_seconds{{{WHO}}})", "s", "Since this start. At the wait (--payment-defer-s) it is called off unpaid.", steps=[(900, AMBER), (43200, RED)]),
        stat("Time to drain", f"max by (instance) (doorbuster_payment_drain_seconds{{{WHO}}})", "s", "At the provider's pace, once it answers: two calls an order.", steps=[(600, AMBER), (3600, RED)]),
        stat("Declined", f"max by (instance) (doorbuster:payment_decline_ratio:rate10m{{{WHO}}})", "percentunit", "Of what was definitely answered in ten minutes. Usual: below one in ten. Empty: nobody paid.", steps=[(0.2, AMBER), (0.6, RED)]),
        stat("For people", f'sum by (instance) (increase(doorbuster_payment_findings_total{{{WHO},repaired="false"}}[15m]))', "short", "What comparisons of books found in a quarter of an hour and no order can mend. doorbuster reconcile lists it.", steps=[(1, RED)]),
        row("What providers answer"),
        line("Asked for money, by answer", [(f"sum by (provider, outcome) (rate(doorbuster_payment_calls_total{{{WHO},{asked}}}[$__rate_interval]))", "{{provider}} {{outcome}}")], "reqps", "authorized and captured are sales, declined is a card, action_required is a bank, unknown is no answer.", stack=True),
        line("Afterwards, by call and answer", [(f'sum by (provider, call, outcome) (rate(doorbuster_payment_calls_total{{{WHO},call=~"capture|void|refund"}}[$__rate_interval]))', "{{provider}} {{call}} {{outcome}}")], "reqps", "Captures follow authorizations within seconds. lost: an authorization that can never be captured. refused: a refund that the provider does not make."),
        line("Time a call takes, p99", [(f"histogram_quantile(0.99, sum by (provider, call, le) (rate(doorbuster_payment_call_duration_seconds_bucket{{{WHO}}}[$__rate_interval])))", "{{provider}} {{call}}")], "s", "Without the wait for its turn. At 5 s it counts as unanswered.", steps=[(5, RED)]),
        line("Answers", [(f"doorbuster_payment_provider_up{{{WHO}}}", "{{provider}} {{instance}}")], "short", "1: it answers. 0: five calls in a row were not answered.", high=1),
        line("Declined, as a share", [(f"doorbuster:payment_decline_ratio:rate10m{{{WHO}}}", "{{provider}} ten minutes"), (f"doorbuster:payment_decline_ratio:rate1d{{{WHO}}}", "{{provider}} a day")], "percentunit", "The first far above the second: cards are being tried out, or something is broken.", steps=[(0.2, AMBER), (0.6, RED)], high=1),
        line("Wait for a turn", [(f"doorbuster_payment_pace_wait_seconds{{{WHO}}}", "{{provider}} {{instance}}")], "s", "A call that came now. From a second on, new checkouts wait as orders instead.", steps=[(1, AMBER)]),
        row("Who waits"),
        line("Orders that wait", [(f"doorbuster_payment_waiting{{{WHO}}}", "{{provider}} {{instance}}")], "short", "Up: the provider is away, or the shop sells faster than it may be asked. Then down in a straight line, at its pace."),
        line("The first has waited, of what is allowed", [(f"doorbuster_payment_waiting_oldest_seconds{{{WHO}}}", "{{provider}} {{instance}}"), (f"doorbuster_payment_pin_seconds{{{WHO}}}", "pin {{instance}}"), (f"doorbuster_payment_defer_seconds{{{WHO}}}", "wait {{instance}}")], "s", "Pin: how long an order that was asked about may stay open. Wait: how long one that was not may; then it is off."),
        line("Time to drain", [(f"doorbuster_payment_drain_seconds{{{WHO}}}", "{{provider}} {{instance}}")], "s", "At the pace that the provider allows, from when it answers.", steps=[(3600, RED)]),
        line("Went to the fallback", [(f"sum by (provider) (rate(doorbuster_payment_fallbacks_total{{{WHO}}}[$__rate_interval]))", "instead of {{provider}}")], "reqps", "Checkouts that chose this provider and were sent to the other. Zero is good."),
        row("Whether the books agree"),
        line("Webhooks, by what became of them", [(f"sum by (provider, outcome) (rate(doorbuster_payment_notices_total{{{WHO}}}[$__rate_interval]))", "{{provider}} {{outcome}}")], "reqps", "taken and not_ours are everyday. not_genuine with nothing taken: the secret is wrong.", stack=True),
        line("Findings, mended and for people", [(f"sum by (provider, kind, repaired) (increase(doorbuster_payment_findings_total{{{WHO}}}[15m])) > 0", "{{provider}} {{kind}}, mended: {{repaired}}")], "short", "Empty is good. Mended: webhooks were lost. For people: doorbuster reconcile lists them."),
        line("Strays", [(f"sum by (provider, outcome) (increase(doorbuster_payment_strays_total{{{WHO}}}[15m]))", "{{provider}} {{outcome}}")], "short", "Money for an order that does not want it. returned: all is well. kept: the provider refuses, and a person has to see to it."),
        line("Checkouts, by answer", [(f'sum by (code) (rate(doorbuster_http_requests_total{{{WHO},route="/v1/carts/{{id}}/checkout"}}[$__rate_interval]))', "{{code}}")], "reqps", "201 paid, 202 waits for shopper or provider, 402 declined, 503 the provider is away and the shop lets no order wait.", stack=True),
    ])


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    wanted = {f"{board['uid'].removeprefix('doorbuster-')}.json": json.dumps(board, indent=2) + "\n"
              for board in (sale(), actors(), journal(), followers(), overload(), payments())}
    stale = sorted(file.name for file in HERE.glob("*.json") if file.name not in wanted)
    for name, text in wanted.items():
        file = HERE / name
        if check:
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            HERE.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
    if stale:
        sys.exit(f"not as deploy/grafana/build.py writes them: {', '.join(stale)}; run it, or remove what is too much")


if __name__ == "__main__":
    main()
