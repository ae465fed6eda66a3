"""Settings: every `DOORBUSTER_…` that a file sets is one that the binary reads, and every word of a command is a flag or command of
it. The names come from the sources of the command line. Python's standard library only."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = ["deploy/**/*.yaml", "deploy/**/*.tf", "deploy/*.service", "deploy/Dockerfile", "deploy/compose/.env.example", "deploy/roll-out",
         ".env.example", ".github/workflows/*.yml", "docs/operations.md", "docs/runbooks/*.md"]
# Not of the command line: of the build, of the tests, of Compose's file of secrets.
OTHERS = {"DOORBUSTER_COMMIT", "DOORBUSTER_FUZZ_SECONDS", "DOORBUSTER_RESCUE_KEY"}
# Kubernetes' and systemd's own flags are not ours to know; ours stand in lists after these words.
COMMAND = re.compile(r"\[(serve|restore|migrate|verify|doctor|rush)\b([^\]]*)\]")


def main():
    sources = "\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "http/src/cli").rglob("*.rs")))
    known = set(re.findall(r'env = "(DOORBUSTER_[A-Z_]+)"', sources)) | OTHERS
    flags = {name.replace("_", "-").lower() for name in re.findall(r'env = "DOORBUSTER_([A-Z_]+)"', sources)}
    flags |= set(re.findall(r"pub ([a-z_]+): bool", sources)) | {"json", "drill"}
    wrong, used = [], set()
    for pattern in FILES:
        for file in sorted(ROOT.glob(pattern)):
            text = file.read_text(encoding="utf-8")
            for name in set(re.findall(r"\bDOORBUSTER_[A-Z_]*[A-Z]\b", text)):
                used.add(name)
                if name not in known:
                    wrong.append(f"{file.relative_to(ROOT)} sets {name}, which nobody reads")
            for command, rest in COMMAND.findall(text):
                for flag in re.findall(r"--([a-z-]+)", rest):
                    if flag not in flags:
                        wrong.append(f"{file.relative_to(ROOT)} gives `{command}` the flag --{flag}, which it does not have")
    for fault in wrong:
        print(fault, file=sys.stderr)
    print(f"compose.yaml; {len(used)} settings, all known to the binary")
    return 1 if wrong or len(known) < 20 or len(used) < 10 else 0


if __name__ == "__main__":
    sys.exit(main())
