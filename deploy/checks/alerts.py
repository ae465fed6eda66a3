"""Alerts: each has a test in which it fires and one in which it does not, a severity that somebody receives, a sentence for the person
it wakes, and its own runbook. Names are not given twice. Needs PyYAML."""

import pathlib
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
SEVERITIES = {"page", "ticket", "none"}
# It cannot be quiet: that is its purpose.
ALWAYS_FIRES = {"Watchdog"}


def alerts():
    """Every alert, with its file."""
    for file in sorted((PROMETHEUS / "rules").rglob("*.yaml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    yield rule, file.relative_to(ROOT)


def tried():
    """Names of alerts that fire in a test, and of such as stay quiet in one."""
    firing, quiet = set(), set()
    for file in sorted((PROMETHEUS / "tests").glob("*.yaml")):
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for row in test.get("alert_rule_test", []):
                (firing if row["exp_alerts"] else quiet).add(row["alertname"])
    return firing, quiet


def main():
    firing, quiet = tried()
    wrong, seen = [], set()
    for rule, file in alerts():
        name = rule["alert"]
        if name in seen:
            wrong.append(f"{name} is there twice")
        seen.add(name)
        if name not in firing:
            wrong.append(f"{name} ({file}) fires in no test")
        if name not in quiet and name not in ALWAYS_FIRES:
            wrong.append(f"{name} ({file}) stays quiet in no test")
        if rule["labels"].get("severity") not in SEVERITIES:
            wrong.append(f"{name} ({file}) is for nobody: its severity is one of {', '.join(sorted(SEVERITIES))}")
        notes = rule["annotations"]
        if not notes.get("summary") or not notes.get("description"):
            wrong.append(f"{name} ({file}) says nothing to whom it wakes")
        if notes.get("runbook") != f"docs/runbooks/{name}.md":
            wrong.append(f"{name} ({file}) does not name docs/runbooks/{name}.md")
    for name in sorted((firing | quiet) - seen):
        wrong.append(f"{name} is tested and is no alert")
    for fault in wrong:
        print(fault, file=sys.stderr)
    print(f"{len(seen)} alerts, each tried firing and quiet")
    return 1 if wrong or len(seen) < 20 else 0


if __name__ == "__main__":
    sys.exit(main())
