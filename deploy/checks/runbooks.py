"""Runbooks: one page an alert, named as it, and none without an alert; each says in this order what it means, who notices, how to see
it, what to do and when it is over; every query on a page parses. That the names in them exist, the metrics contract says.
Needs PyYAML and promql-parser."""

import pathlib
import re
import sys

import promql_parser

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from alerts import ROOT, alerts  # noqa: E402

PAGES = ROOT / "docs/runbooks"
SECTIONS = ["What it means", "Who notices", "See it", "Do", "Over when"]


def faults(file, rule):
    text = file.read_text(encoding="utf-8")
    name = file.stem
    if not text.startswith(f"# {name}\n"):
        yield f"does not begin with `# {name}`"
    sections = re.findall(r"(?m)^## (.+)$", text)
    if sections != SECTIONS:
        yield f"has the sections {sections}, not {SECTIONS}"
    severity = rule["labels"]["severity"]
    if f"**{severity}**" not in text:
        yield f"does not say that its severity is **{severity}**"
    queries = re.findall(r"```promql\n(.*?)```", text, re.S)
    if not queries:
        yield "has no query to see it by"
    for query in queries:
        for line in filter(None, map(str.strip, query.splitlines())):
            try:
                promql_parser.parse(line)
            except ValueError as error:
                yield f"has a query that does not parse: {line} ({error})"
    for body in re.split(r"(?m)^## .+$", text)[1:]:
        if len(body.split()) < 4:
            yield "has an empty section"
    if not re.search(r"(?m)^1\. ", text.partition("## Do\n")[2]):
        yield "does not number its steps"


def main():
    rules = {rule["alert"]: rule for rule, _ in alerts()}
    wrong = [f"docs/runbooks/{name}.md is not there" for name in rules if not (PAGES / f"{name}.md").exists()]
    pages = [file for file in sorted(PAGES.glob("*.md")) if file.name != "README.md"]
    index = (PAGES / "README.md").read_text(encoding="utf-8") if (PAGES / "README.md").exists() else ""
    for file in pages:
        if file.stem not in rules:
            wrong.append(f"{file.relative_to(ROOT)} belongs to no alert")
            continue
        if f"({file.name})" not in index:
            wrong.append(f"docs/runbooks/README.md does not lead to {file.name}")
        wrong += [f"{file.relative_to(ROOT)} {fault}" for fault in faults(file, rules[file.stem])]
    for fault in wrong:
        print(fault, file=sys.stderr)
    print(f"{len(pages)} runbooks")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
