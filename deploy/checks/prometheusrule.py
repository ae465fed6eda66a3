"""The rules for the Prometheus operator: writes deploy/kubernetes/base/prometheusrule.yaml from deploy/prometheus/rules, so that there
is one place to change an alert. `--write` writes, without it the file is compared. Python's standard library only: the groups
are copied as text, comments included."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = ROOT / "deploy/kubernetes/base/prometheusrule.yaml"
HEAD = """\
# Written by deploy/checks/prometheusrule.py from deploy/prometheus/rules: change those, not this.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: doorbuster
spec:
  groups:
"""


def wanted():
    parts = [HEAD]
    rules = ROOT / "deploy/prometheus/rules"
    for file in [*sorted(rules.glob("*.yaml")), *sorted(rules.glob("kubernetes/*.yaml"))]:
        before, _, groups = file.read_text(encoding="utf-8").partition("groups:\n")
        if not groups:
            sys.exit(f"{file.relative_to(ROOT)} has no line `groups:`")
        comments = before.rstrip("\n").splitlines()
        parts += [f"    {line}".rstrip() + "\n" for line in comments]
        parts += [f"  {line}".rstrip() + "\n" for line in groups.splitlines()]
    return "".join(parts)


def main():
    if sys.argv[1:] == ["--write"]:
        TARGET.write_text(wanted(), encoding="utf-8")
        return 0
    if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != wanted():
        print("prometheusrule.yaml is not what the rules say: run deploy/checks/prometheusrule.py --write", file=sys.stderr)
        return 1
    print("prometheusrule.yaml is what the rules say")
    return 0


if __name__ == "__main__":
    sys.exit(main())
