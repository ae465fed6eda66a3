"""Makes a run's report from what k6, the judge, the verifier and the sampler left, and says what the run is worth.

Usage: report.py about URL DIRECTORY ROOT SCENARIO PROFILE RATE_FROM QUOTA ELSEWHERE    machine and build, as JSON
       report.py metrics URL                                                          the engine's metrics page
       report.py write OUT VERIFIED                                                   summary.md, summary.json, junit.xml
       report.py steps PROFILE_FILE RATE                                              the rates of a climb, one a line
       report.py climb OUT                                                            the report of a climb over its steps
       report.py spread OUT TIMES                                                     median and spread of several runs

A row of the report holds, is broken, or is told only. Rows about the load generator void a run instead of breaking it:
a generator that did not offer what it should has measured nothing. Start at `rows_of`.
"""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import urllib.error
import urllib.request
from xml.sax.saxutils import escape, quoteattr

PASSED, BROKEN, VOID = 0, 1, 3
# Of all cores together: beyond it k6's own waiting shows in its figures (k6's guide to large tests).
K6_CPU_SHARE_MAX = 0.8
# What an arrival was late is not in its latency, so it must be small beside the objectives.
LATENESS_MS_MAX = 100
# Who was cut off while being answered is in no ledger, and every audit would call it lost or doubled.
CUT_OFF = "arrivals cut off by the generator"
TICKS = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count() or 1


def read_json(path, fallback=None):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return fallback


def get(url, path):
    key = os.environ.get("DOORBUSTER_ADMIN_KEY", "")
    request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        remedy = ": is DOORBUSTER_ADMIN_KEY its admin key?" if error.code in (401, 403) else ""
        sys.exit(f"{url}{path} answered {error.code}{remedy}")
    except OSError as error:
        sys.exit(f"nobody answers at {url}: {getattr(error, 'reason', error)}")


def said(*command, cwd=None):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, cwd=cwd, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""
    except (OSError, subprocess.SubprocessError):
        return ""


def about(url, directory, root, scenario, profile, rate_from, quota, elsewhere):
    """What a figure is worth nothing without."""
    version = json.loads(get(url, "/version"))
    model = "unknown"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), model)
    except OSError:
        pass
    told = {
        "scenario": scenario,
        "profile": profile,
        "rate_from": rate_from,
        "engine_version": version.get("version"),
        # The engine's own word; the checkout's commit need not be the one that the binary was built from.
        "commit": version.get("commit") or "the binary does not say",
        "checkout": said("git", "rev-parse", "--short=12", "HEAD", cwd=root) or "none",
        "durability": version.get("durability"),
        "rustc": said("rustc", "--version") or "unknown",
        "cpu": model,
        "cores": CORES,
        "kernel": platform.release(),
        "disk": "another machine's" if elsewhere else said("stat", "-f", "-c", "%T", directory),
        "quota_percent_of_a_core": int(quota) if quota else None,
        "same_machine": not elsewhere,
        "load_before": os.getloadavg()[0],
    }
    print(json.dumps(told))


# ---- what was measured ------------------------------------------------------------------------------------------------


def samples(out):
    read = []
    try:
        with open(f"{out}/samples.tsv", encoding="ascii") as file:
            for line in file:
                fields = line.split("\t")
                if len(fields) == 7:
                    read.append([int(text) for text in fields])
    except OSError:
        pass
    return read


def costs(out, began_ms):
    """CPU of generator and engine in cores, and the engine's memory, from the scenario's beginning on."""
    read = [row for row in samples(out) if row[0] >= began_ms]
    # The last sample may be of a process that is gone already.
    while len(read) > 2 and read[-1][1] == 0:
        read.pop()
    if len(read) < 3:
        return {}
    seconds = (read[-1][0] - read[0][0]) / 1000
    # The engine's ticks begin anew when it is started anew.
    engine = sum(max(now[2] - was[2], 0) for was, now in zip(read, read[1:]) if now[2] >= was[2])
    everything = read[-1][5] - read[0][5]
    third = max(len(read) // 3, 1)
    memory = [row[3] for row in read if row[3] > 0] or [0]
    return {
        "seconds": round(seconds, 1),
        "k6_cores": round((read[-1][1] - read[0][1]) / TICKS / seconds, 2),
        "engine_cores": round(engine / TICKS / seconds, 2),
        "idle_share": round((read[-1][4] - read[0][4]) / everything, 2) if everything else None,
        "engine_rss_mib_first_third": round(statistics.median(memory[:third]) / 1024, 1),
        "engine_rss_mib_last_third": round(statistics.median(memory[-third:]) / 1024, 1),
        "engine_rss_mib_max": round(max(memory) / 1024, 1),
        "data_mib": round(read[-1][6] / 2**20, 1),
    }


def prometheus(path):
    """Values of a metrics page by series."""
    series = {}
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                name, _, value = line.rpartition(" ")
                if name and not line.startswith("#"):
                    series[name] = float(value)
    except (OSError, ValueError):
        pass
    return series


def delta(before, after, name, **labels):
    total = 0.0
    for series, value in after.items():
        if series.split("{")[0] == name and all(f'{key}="{text}"' in series for key, text in labels.items()):
            total += value - before.get(series, 0.0)
    return total


def figure(k6, metric, stat="count"):
    return k6["metrics"].get(metric, {}).get("values", {}).get(stat, 0)


def series_of_ledger(out):
    with open(f"{out}/ledger.ndjson", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


# ---- rows ------------------------------------------------------------------------------------------------------------


def row(group, name, seen, wanted, holds):
    """`holds`: True, False, or None for a figure that is told only."""
    return {"group": group, "name": name, "seen": seen, "wanted": wanted, "holds": holds}


def evaluate(expression, values):
    """Whether a k6 threshold such as `p(99)<250` holds; None where there is no figure."""
    stat, sign, limit = re.fullmatch(r"([a-z0-9().]+)\s*(<=|>=|==|<|>)\s*([0-9.]+)", expression.replace(" ", "")).groups()
    seen = values.get(stat)
    if seen is None or values.get("count") == 0:
        return None, None
    signs = {"<": seen < float(limit), "<=": seen <= float(limit), ">": seen > float(limit), ">=": seen >= float(limit)}
    return seen, signs.get(sign, seen == float(limit))


def rounded(value):
    return round(value, 1) if isinstance(value, float) else value


def threshold_rows(k6):
    for name, metric in sorted(k6["metrics"].items()):
        for expression in metric.get("thresholds", {}):
            if expression == "max>=0" or name in k6["objectives"]:
                continue
            values = metric["values"]
            seen, holds = evaluate(expression, values)
            group = "generator" if name == "dropped_iterations" else "promises"
            if seen is None:
                seen, holds = 0, expression in ("count==0", "count>=0")
            yield row(group, name.replace("_", " "), rounded(seen), expression, holds)
    for name, expression in k6["objectives"].items():
        seen, holds = evaluate(expression, k6["metrics"].get(name, {}).get("values", {}))
        if seen is None:
            yield row("objectives", name, "no sample", expression, False if k6["judges_latency"] else None)
        else:
            yield row("objectives", name, f"{seen:.1f} ms", expression, holds if k6["judges_latency"] else None)
    for name, seen, wanted, holds in k6.get("rows", []):
        yield row("objectives", name, seen, wanted, holds)


def acknowledged_rows(k6):
    """Acknowledged ≤ recorded ≤ acknowledged + unknown."""
    acknowledged = int(figure(k6, "committed_units") + figure(k6, "ordered_units"))
    unsure = int(figure(k6, "unknown_sold_units"))
    recorded = int(figure(k6, "recorded_sold_units"))
    holds = acknowledged <= recorded <= acknowledged + unsure
    wanted = f"{acknowledged} acknowledged" + (f", {unsure} without an answer" if unsure else "")
    yield row("audit", "units sold, as the engine recorded", recorded, wanted, holds)


def judge_rows(judge, entries):
    if judge is None:
        yield row("audit", "judge", "left no verdict", "a verdict", False)
        return
    for kind in ("lost", "doubled", "ghosts", "laws_broken"):
        yield row("audit", f"judge: {kind.replace('_', ' ')}", judge[kind], 0, judge[kind] == 0)
    counts = judge["ledger"]
    # A ledger that nobody wrote would be found without fault.
    told = f"{counts['acknowledged']} acknowledged, {counts['refused']} refused, {counts['unknown']} unknown"
    yield row("audit", "judge: answers held against the engine", told, "more than none", entries > 0 and counts["acknowledged"] > 0)


def verify_rows(verify):
    problems = verify.get("problems", []) if verify else ["the verifier left no verdict"]
    records = verify.get("records", 0) if verify else 0
    yield row("audit", "verify: problems in the journal", len(problems), f"0 in {records} records", not problems and records > 0)


def verifier_rows(found):
    if found is None:
        yield row("audit", "verifier", "left no verdict", "a verdict", False)
        return
    broken = len(found["violations"])
    told = f"0 over {found['skus']} SKUs and {found['refusals']} refusals"
    yield row("audit", "verifier: units lost, oversold, undersold", broken, told, broken == 0 and found["skus"] > 0)


def metric_rows(out, k6, disturbed):
    before, after = prometheus(f"{out}/metrics-before.txt"), prometheus(f"{out}/metrics-after.txt")
    if disturbed or not after:
        return
    told = int(delta(before, after, "doorbuster_http_requests_total", route="/v1/reservations", method="POST", code="201"))
    heard = int(figure(k6, "reservations_201"))
    unknown = int(figure(k6, "unknown_answers"))
    yield row("audit", "reservations granted, as the engine's metrics tell", told, f"{heard} heard", heard <= told <= heard + unknown)


def generator_rows(k6, cost):
    started = int(figure(k6, "iterations"))
    dropped = int(figure(k6, "dropped_iterations"))
    yield row("generator", "arrivals started of those offered", started, started + dropped, None)
    cut = int(figure(k6, "arrivals_begun") - figure(k6, "arrivals_ended"))
    yield row("generator", CUT_OFF, cut, 0, cut == 0)
    late = k6["metrics"].get("arrival_lateness", {}).get("values", {})
    if late.get("count"):
        # All arrivals started is not enough: a generator that stalls starts them in bursts afterwards.
        # A scenario that looks for the end of its own pace judges each step by itself.
        is_judged = k6["judges_latency"] and not k6.get("paces_itself")
        holds = late["p(99)"] <= LATENESS_MS_MAX if is_judged else None
        yield row("generator", "arrivals started late, p99", f"{late['p(99)']:.0f} ms", f"at most {LATENESS_MS_MAX} ms", holds)
    if cost:
        share = cost["k6_cores"] / CORES
        yield row("generator", "k6's share of all cores", f"{share:.0%}", f"at most {K6_CPU_SHARE_MAX:.0%}", share <= K6_CPU_SHARE_MAX)


def outage_rows(out, k6, disturbances):
    """How long shoppers stood before a dead engine: the longest pause between two acknowledgements around each stop."""
    acknowledged = sorted(
        entry["at_ms"] for entry in series_of_ledger(out) if entry["verdict"]["is"] not in ("refused", "unknown", "sku")
    )
    for how, down_ms, ready_ms in disturbances:
        before = max((at for at in acknowledged if at <= down_ms), default=down_ms)
        after = min((at for at in acknowledged if at > ready_ms), default=None)
        if after is None:
            yield row("audit", f"acknowledgements after the {how}", "none", "some", False)
            continue
        told = f"{after - before} ms without an answer, ready after {ready_ms - down_ms} ms"
        wanted_ms = k6.get("outage_ms_max", 0)
        yield row("objectives", f"outage by {how}", told, f"at most {wanted_ms} ms", after - before <= wanted_ms if k6["judges_latency"] else None)


def memory_rows(out, k6, cost, began_ms):
    """Where a scenario says that memory must not grow: over a soak, or over what it was before an overload."""
    judged = k6["judges_latency"]
    if k6.get("memory") == "flat" and cost:
        grown = cost["engine_rss_mib_last_third"] / max(cost["engine_rss_mib_first_third"], 1)
        yield row("objectives", "engine's memory, last third against first", f"{grown:.2f} times", "at most 1.1", grown <= 1.1 if judged else None)
    elif k6.get("memory") and cost:
        before = max((line[3] for line in samples(out) if line[0] < began_ms + k6["memory"] * 1000), default=0) / 1024
        grown = cost["engine_rss_mib_max"] / max(before, 1)
        yield row("objectives", "engine's memory, most against before", f"{grown:.2f} times", "at most 1.5", grown <= 1.5 if judged else None)


def sold_out_rows(out, k6):
    """How soon after the last unit was gone the first shopper who wanted one was told so."""
    if not k6.get("sells_one_out"):
        return
    left, held, gone_ms, told_ms = None, {}, None, None
    for entry in series_of_ledger(out):
        verdict = entry["verdict"]
        if verdict["is"] == "sku":
            left = verdict["units"]
        elif verdict["is"] == "reserved":
            held[verdict["id"]] = sum(item["quantity"] for item in verdict["items"])
            left -= held[verdict["id"]]
            gone_ms = entry["at_ms"] if left <= 0 and gone_ms is None else gone_ms
        elif verdict["is"] == "released":
            left += held.get(verdict["id"], 0)
        elif verdict.get("code") == "insufficient_stock" and '"quantity":1}' in entry["request"]["body"]:
            told_ms = entry["at_ms"] if gone_ms is not None and told_ms is None else told_ms
    if gone_ms is not None and told_ms is not None:
        yield row("objectives", "first \"sold out\" after the last unit was acknowledged", f"{told_ms - gone_ms} ms", "below 50 ms", told_ms - gone_ms < 50 if k6["judges_latency"] else None)


def rows_of(out, verified):
    k6 = read_json(f"{out}/k6.json")
    with open(f"{out}/ledger.ndjson", encoding="utf-8") as file:
        entries = sum(1 for _ in file)
    disturbances = []
    with open(f"{out}/disturbances.tsv", encoding="ascii") as file:
        for line in file:
            how, down_ms, ready_ms = line.split("\t")
            disturbances.append((how, int(down_ms), int(ready_ms)))
    began = 0
    with open(f"{out}/notes.log", encoding="utf-8") as file:
        for line in file:
            if line.startswith("begin "):
                began = int(line.split()[1])
    cost = costs(out, began)
    rows = [*threshold_rows(k6), *acknowledged_rows(k6), *judge_rows(read_json(f"{out}/judge.json"), entries)]
    rows.extend(verifier_rows(read_json(f"{out}/verifier.json")))
    if verified:
        rows.extend(verify_rows(read_json(verified)))
    rows.extend(metric_rows(out, k6, disturbances))
    rows.extend(outage_rows(out, k6, disturbances))
    rows.extend(memory_rows(out, k6, cost, began))
    rows.extend(sold_out_rows(out, k6))
    rows.extend(generator_rows(k6, cost))
    return k6, cost, rows


def verdict_of(rows):
    """A broken promise counts however badly the generator did; an objective only if it did well."""
    broken = [one for one in rows if one["holds"] is False]
    if any(one["name"] == CUT_OFF for one in broken):
        return VOID
    if any(one["group"] in ("promises", "audit") for one in broken):
        return BROKEN
    if any(one["group"] == "generator" for one in broken):
        return VOID
    return BROKEN if broken else PASSED


# ---- writing ---------------------------------------------------------------------------------------------------------

WORDS = {
    PASSED: "passed: every promise held",
    BROKEN: "BROKEN",
    VOID: "VOID: the load generator did not do its part; the figures are worth nothing",
}
VERDICTS = {PASSED: "passed", BROKEN: "broken", VOID: "void"}
STATS = ("med", "p(90)", "p(99)", "p(99.9)", "max")


def steps_of(k6):
    """Latencies of each kind of request: name, how many, the percentiles."""
    names = {"hold_accepted": "hold, granted", "hold_sold_out": "hold, refused for good", "hold_busy": "hold, refused for now"}
    for metric, held in sorted(k6["metrics"].items()):
        values = held.get("values", {})
        match = re.fullmatch(r"http_req_duration\{name:(.+)\}", metric)
        is_step = match or metric in names or ("{" in metric and metric.split("{")[0] in names)
        if is_step and values.get("count"):
            name = match.group(1) if match else names.get(metric, metric)
            yield name, int(values["count"]), [values[stat] for stat in STATS]


def sync_line(out):
    before, after = prometheus(f"{out}/metrics-before.txt"), prometheus(f"{out}/metrics-after.txt")
    count = delta(before, after, "doorbuster_journal_append_seconds_count", phase="sync")
    total = delta(before, after, "doorbuster_journal_append_seconds_sum", phase="sync")
    return {"syncs": int(count), "sync_ms_mean": round(1000 * total / count, 2)} if count > 0 else {}


def warnings(told, cost):
    if told["same_machine"]:
        yield "Engine and load generator shared one machine: compare figures only with runs of the same kind."
    if told["disk"] in ("tmpfs", "ramfs"):
        yield "The data directory was in memory: syncs cost nothing here. Name a directory on a disk in TMPDIR."
    if told["durability"] != "local":
        yield f"The engine ran with durability {told['durability']}: its acknowledgements promise nothing."
    if cost and cost["idle_share"] is not None and cost["idle_share"] < 0.05:
        yield "The machine had no idle time left: latencies are those of a full machine."
    if told["load_before"] > CORES:
        yield f"Other work was there before: load {told['load_before']:.1f} on {CORES} cores."


def markdown(k6, told, cost, sync, rows, verdict, notes):
    lines = [f"# {k6['scenario']}, profile {k6['profile']}: {WORDS[verdict]}", ""]
    for group, title in (("promises", "Promises"), ("audit", "Audit"), ("objectives", "Objectives"), ("generator", "Load generator")):
        chosen = [one for one in rows if one["group"] == group]
        if not chosen:
            continue
        lines += [f"## {title}", "", "| | seen | wanted | |", "|---|---|---|---|"]
        marks = {True: "held", False: "**broken**", None: "told"}
        lines += [f"| {one['name']} | {one['seen']} | {one['wanted']} | {marks[one['holds']]} |" for one in chosen]
        lines.append("")
    lines += ["## Latency, ms", "", "| step | requests | p50 | p90 | p99 | p99.9 | max |", "|---|--:|--:|--:|--:|--:|--:|"]
    for name, count, values in steps_of(k6):
        lines.append(f"| {name} | {count} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    refusals = ("refused_sold_out", "refused_busy", "refused_otherwise", "unknown_answers", "outage_answers")
    lines += ["", "## Refusals and silences", "", "| | |", "|---|--:|"]
    lines += [f"| {name.replace('_', ' ')} | {int(figure(k6, name))} |" for name in refusals]
    lines += ["", "## Circumstances", "", "| | |", "|---|---|"]
    circumstances = {"R": f"{k6['rate']:g} arrivals a second, from {told['rate_from']}", "seed": k6["seed"], "connections": k6["connections"]}
    circumstances |= {key: value for key, value in told.items() if value is not None and key != "rate_from"} | cost | sync
    lines += [f"| {key.replace('_', ' ')} | {value} |" for key, value in circumstances.items()]
    lines += [""] + [f"- {text}" for text in warnings(told, cost)]
    if notes:
        lines += ["", "## Said during the run", "", "```", *notes[:40], "```"]
    return "\n".join(lines) + "\n"


def junit(k6, rows, verdict):
    failed = sum(1 for one in rows if one["holds"] is False and one["group"] != "generator")
    errors = sum(1 for one in rows if one["holds"] is False and one["group"] == "generator")
    skipped = sum(1 for one in rows if one["holds"] is None)
    suite = f"{k6['scenario']}.{k6['profile']}"
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name={quoteattr(suite)} tests="{len(rows)}" failures="{failed}" errors="{errors}" '
        f'skipped="{skipped}" time="{k6["duration_ms"] / 1000:.1f}">',
    ]
    for one in rows:
        told = f"seen {one['seen']}, wanted {one['wanted']}"
        inside = {True: "", None: f"<skipped message={quoteattr('told only: ' + told)}/>"}.get(one["holds"])
        if inside is None:
            kind = "error" if one["group"] == "generator" else "failure"
            inside = f"<{kind} message={quoteattr(told)}>{escape(WORDS[verdict])}</{kind}>"
        lines.append(f"  <testcase classname={quoteattr(suite + '.' + one['group'])} name={quoteattr(one['name'])}>{inside}</testcase>")
    return "\n".join([*lines, "</testsuite>", ""])


def write(out, verified):
    k6, cost, rows = rows_of(out, verified)
    told = read_json(f"{out}/about.json")
    sync = sync_line(out)
    verdict = verdict_of(rows)
    with open(f"{out}/notes.log", encoding="utf-8") as file:
        notes = [line.rstrip() for line in file if not line.startswith(("begin ", "disturb "))]
    for name in ("judge", "verifier"):
        notes += (read_json(f"{out}/{name}.json") or {}).get("violations", [])[:20]
    summary = {
        "verdict": VERDICTS[verdict],
        "measured_rate": k6.get("measured_rate"),
        "scenario": k6["scenario"], "profile": k6["profile"], "rate": k6["rate"], "seed": k6["seed"],
        "rows": rows,
        "steps": [dict(name=name, count=count, **dict(zip(STATS, values))) for name, count, values in steps_of(k6)],
        "cost": cost, "sync": sync, "about": told,
    }
    with open(f"{out}/summary.json", "w", encoding="utf-8") as file:
        json.dump(summary, file, indent=1)
    with open(f"{out}/summary.md", "w", encoding="utf-8") as file:
        file.write(markdown(k6, told, cost, sync, rows, verdict, notes))
    with open(f"{out}/junit.xml", "w", encoding="utf-8") as file:
        file.write(junit(k6, rows, verdict))
    if k6.get("measured_rate"):
        with open(f"{out}/rate", "w", encoding="ascii") as file:
            file.write(f"{k6['measured_rate']:g}\n")
    print(f"{k6['scenario']}, profile {k6['profile']}: {WORDS[verdict]}")
    for one in rows:
        if one["holds"] is False:
            print(f"  {one['name']}: {one['seen']}, wanted {one['wanted']}")
    for text in notes[:8]:
        print(f"  {text}")
    print(f"report: {out}/summary.md")
    sys.exit(verdict)


def spread(out, times):
    """Median, least and most of the same figure in several runs."""
    every = [run for run in (read_json(f"{out}/{number}/summary.json") for number in range(1, int(times) + 1)) if run]
    # A void run measured nothing.
    runs = [run for run in every if run["verdict"] != "void"]
    if not runs:
        sys.exit(f"none of {times} runs left figures; look into {out}")
    verdicts = ", ".join(run["verdict"] for run in every)
    lines = [f"# {runs[0]['scenario']}, profile {runs[0]['profile']}: median (least to most) of {len(runs)} runs, ms", ""]
    lines += [f"Verdicts: {verdicts}.", ""]
    lines += ["| step | p50 | p90 | p99 | p99.9 | max |", "|---|--:|--:|--:|--:|--:|"]
    for name in dict.fromkeys(step["name"] for run in runs for step in run["steps"]):
        cells = []
        for stat in STATS:
            values = [step[stat] for run in runs for step in run["steps"] if step["name"] == name]
            cells.append(f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    text = "\n".join(lines) + "\n"
    with open(f"{out}/spread.md", "w", encoding="utf-8") as file:
        file.write(text)
    print(text)


def steps(profile, rate):
    """Each step's rate; a profile without sizes of its own has the scenario's full ones."""
    whole = read_json(profile)
    own = whole.get("scenarios", {}).get("breakpoint", {})
    part, last, factor = own.get("from", 0.25), own.get("to", 16), own.get("factor", 1.4)
    while part <= last:
        print(max(1, round(part * float(rate or whole["rate"]))))
        part *= factor


def climb(out):
    """One report over all steps; R is the last that held."""
    numbers = sorted(int(name.removeprefix("step-")) for name in os.listdir(out) if name.startswith("step-"))
    runs = [run for run in (read_json(f"{out}/step-{number}/summary.json") for number in numbers) if run]
    rows = [one for run in runs for one in run["rows"] if one["group"] == "objectives" or one["holds"] is False]
    held = [run["rate"] for run in runs if run.get("measured_rate")]
    rows.append(row("objectives", "R, arrivals a second within the objectives", held[-1] if held else 0, "more than 0", bool(held)))
    verdict = verdict_of(rows)
    k6 = {"scenario": "breakpoint", "profile": runs[0]["profile"] if runs else "", "duration_ms": 0}
    with open(f"{out}/summary.json", "w", encoding="utf-8") as file:
        json.dump({"verdict": VERDICTS[verdict], **k6, "rate": held[-1] if held else 0, "rows": rows, "steps": runs}, file, indent=1)
    with open(f"{out}/junit.xml", "w", encoding="utf-8") as file:
        file.write(junit(k6, rows, verdict))
    marks = {True: "held", False: "**broken**", None: "the end"}
    lines = [f"# breakpoint, profile {k6['profile']}: {WORDS[verdict]}", "", "| | seen | wanted | |", "|---|---|---|---|"]
    lines += [f"| {one['name']} | {one['seen']} | {one['wanted']} | {marks[one['holds']]} |" for one in rows]
    lines += ["", "Each step has a report of its own beside this one, with its circumstances."]
    with open(f"{out}/summary.md", "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    if held:
        with open(f"{out}/rate", "w", encoding="ascii") as file:
            file.write(f"{held[-1]:g}\n")
    print("\n".join(lines[4:]))
    print(f"report: {out}/summary.md")
    sys.exit(verdict)


def main():
    step, *rest = sys.argv[1:] or ["help"]
    known = {"about": about, "write": write, "spread": spread, "steps": steps, "climb": climb, "metrics": lambda url: print(get(url, "/metrics"))}
    if step not in known:
        sys.exit(__doc__)
    known[step](*rest)


main()
