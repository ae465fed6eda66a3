"""Dashboards: each file parses and is what deploy/grafana/build.py writes; ids, titles, units and sentences are there; panels do
not overlap; every query parses as PromQL and asks for this dashboard's variables. Needs promql-parser."""

import json
import pathlib
import re
import subprocess
import sys

import promql_parser

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOARDS = ROOT / "deploy/grafana/dashboards"
# What Grafana puts in place of its variables, for the parser.
STANDS_FOR = {"$__rate_interval": "1m", "$instance": "engine", "${datasource}": "prometheus"}


def faults(file):
    board = json.loads(file.read_text(encoding="utf-8"))
    if board["uid"] != f"doorbuster-{file.stem}":
        yield f"its uid is {board['uid']}, not doorbuster-{file.stem}"
    variables = {variable["name"] for variable in board["templating"]["list"]}
    seen, taken = set(), set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        if cells & taken:
            yield f"\"{panel['title']}\" lies over another panel"
        taken |= cells
        if panel["id"] in seen:
            yield f"id {panel['id']} is given twice"
        seen.add(panel["id"])
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            yield f"\"{panel['title']}\" does not say what is good and what is not"
        if panel["type"] != "heatmap" and not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"\"{panel['title']}\" has no unit"
        if not panel["targets"]:
            yield f"\"{panel['title']}\" asks nothing"
        for query in panel["targets"]:
            expression = query["expr"]
            for name in re.findall(r"\$\{?([a-z]\w*)", expression):
                if name not in variables:
                    yield f"\"{panel['title']}\" uses ${name}, which the dashboard does not have"
            for variable, value in STANDS_FOR.items():
                expression = expression.replace(variable, value)
            try:
                promql_parser.parse(expression)
            except ValueError as error:
                yield f"\"{panel['title']}\": {error} in {expression}"


def main():
    wrong, panels = [], 0
    files = sorted(BOARDS.glob("*.json"))
    uids = set()
    for file in files:
        wrong += [f"{file.name}: {fault}" for fault in faults(file)]
        panels += len(json.loads(file.read_text(encoding="utf-8"))["panels"])
        uids.add(file.stem)
    built = subprocess.run([sys.executable, ROOT / "deploy/grafana/build.py", "--check"], capture_output=True, text=True)
    if built.returncode:
        wrong.append(built.stderr.strip())
    if len(files) < 5:
        wrong.append(f"only {len(files)} dashboards were found")
    for fault in wrong:
        print(fault, file=sys.stderr)
    print(f"{len(files)} dashboards, {panels} panels")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
