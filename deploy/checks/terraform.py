"""Terraform: every file parses; every reference to a variable, local, resource, data source, module and output meets one that is there;
modules get every input that they need and none that they do not have; whatever is declared is used and described.

No provider's schema comes from a package registry, so whether AWS knows an argument is not checked here. Not applied, not planned.
Where the program `terraform` is installed, its `fmt -check` runs too. Needs python-hcl2."""

import pathlib
import re
import shutil
import subprocess
import sys

import hcl2

ROOT = pathlib.Path(__file__).resolve().parents[2]
TERRAFORM = ROOT / "deploy/terraform"
# The first words of a reference that are no resource.
RESERVED = {"var", "local", "module", "data", "each", "count", "path", "terraform", "self"}

wrong = []


def bare(text):
    return text.strip('"')


def labelled(blocks, depth):
    """Names and bodies of blocks, whatever the parser's version makes of quotes."""
    for block in blocks:
        for first, body in block.items():
            if first.startswith("__"):
                continue
            if depth == 1:
                yield bare(first), body
            else:
                for second, inner in body.items():
                    if not second.startswith("__"):
                        yield (bare(first), bare(second)), inner


class Directory:
    """One directory of files: what it declares, and the text of it without comments."""

    def __init__(self, path):
        self.path, self.where = path, str(path.relative_to(ROOT))
        self.variables, self.outputs, self.locals, self.modules, self.resources, self.data = {}, {}, {}, {}, set(), set()
        text = ""
        for file in sorted(path.glob("*.tf")):
            content = file.read_text(encoding="utf-8")
            try:
                parsed = hcl2.loads(content)
            except Exception as error:  # the parser has no class of its own for it
                wrong.append(f"{self.where}/{file.name} does not parse: {str(error).splitlines()[0]}")
                continue
            text += content
            self.variables.update(labelled(parsed.get("variable", []), 1))
            self.outputs.update(labelled(parsed.get("output", []), 1))
            self.modules.update(labelled(parsed.get("module", []), 1))
            self.resources |= {name for name, _ in labelled(parsed.get("resource", []), 2)}
            self.data |= {name for name, _ in labelled(parsed.get("data", []), 2)}
            for block in parsed.get("locals", []):
                self.locals.update({name: value for name, value in block.items() if not name.startswith("__")})
        self.text = re.sub(r"(?m)^\s*#.*$", "", text)

    def references(self):
        # Within text only what stands in ${…} is a reference.
        code = re.sub(r'"((?:[^"\\]|\\.)*)"', lambda m: " ".join(re.findall(r"\$\{([^}]*)\}", m[1])), self.text)
        return set(re.findall(r"(?<![\w.\"/-])((?:[a-z]\w*)(?:\[[^\]]*\])?(?:\.[a-z_]\w*(?:\[[^\]]*\])?)+)", code))

    def check(self):
        used_variables, used_locals, used_data = set(), set(), set()
        for reference in self.references():
            parts = [part.split("[")[0] for part in reference.split(".")]
            head = parts[0]
            if head == "var":
                used_variables.add(parts[1])
                if parts[1] not in self.variables:
                    wrong.append(f"{self.where} asks for {reference}, which is no variable here")
            elif head == "local":
                used_locals.add(parts[1])
                if parts[1] not in self.locals:
                    wrong.append(f"{self.where} asks for {reference}, which is no local here")
            elif head == "module":
                if parts[1] not in self.modules:
                    wrong.append(f"{self.where} asks for {reference}, which is no module here")
                elif len(parts) > 2 and parts[2] not in self.module(parts[1]).outputs:
                    wrong.append(f"{self.where} asks for {reference}, which that module does not give")
            elif head == "data" and len(parts) > 2:
                used_data.add((parts[1], parts[2]))
                if (parts[1], parts[2]) not in self.data:
                    wrong.append(f"{self.where} asks for {reference}, which is no data source here")
            elif head.startswith("aws_") and (head, parts[1]) not in self.resources:
                wrong.append(f"{self.where} asks for {reference}, which is no resource here")
        for name in self.variables.keys() - used_variables:
            wrong.append(f"{self.where} does not use its variable {name}")
        for name in self.locals.keys() - used_locals:
            wrong.append(f"{self.where} does not use its local {name}")
        for name in self.data - used_data:
            wrong.append(f"{self.where} does not use its data source {'.'.join(name)}")
        for kind, things in (("variable", self.variables), ("output", self.outputs)):
            for name, body in things.items():
                if not body.get("description"):
                    wrong.append(f"{self.where} does not say what the {kind} {name} is")
        for name, body in self.modules.items():
            inputs = {key for key in body if not key.startswith("__")} - {"source", "version", "providers", "depends_on", "count", "for_each"}
            wanted = self.module(name).variables
            for key in inputs - wanted.keys():
                wrong.append(f"{self.where}: the module {name} has no variable {key}")
            for key, variable in wanted.items():
                if "default" not in variable and key not in inputs:
                    wrong.append(f"{self.where}: the module {name} needs {key}")
        example = self.path / "terraform.tfvars.example"
        if example.exists():
            given = set(re.findall(r"(?m)^(\w+)\s*=", example.read_text(encoding="utf-8")))
            needed = {name for name, body in self.variables.items() if "default" not in body and not body.get("sensitive")}
            if given != needed:
                wrong.append(f"{self.where}: terraform.tfvars.example gives {sorted(given)}, needed are {sorted(needed)}")

    def module(self, name):
        source = (self.path / bare(self.modules[name]["source"])).resolve()
        if source not in directories:
            wrong.append(f"{self.where}: the module {name} is not at {source.name}")
            return Empty
        return directories[source]


class Empty:
    """A module that is not there, already told of."""

    variables, outputs = {}, {}


directories = {}


def main():
    for path in sorted({file.parent for file in TERRAFORM.rglob("*.tf")}):
        directories[path] = Directory(path)
    for directory in directories.values():
        directory.check()
    resources = sum(len(directory.resources) for directory in directories.values())
    called = {(d.path / bare(body["source"])).resolve() for d in directories.values() for body in d.modules.values()}
    for path, directory in directories.items():
        if path.parent.name == "modules" and path not in called:
            wrong.append(f"{directory.where} is called by nobody")
    form = "terraform is not here, its fmt was not run"
    if shutil.which("terraform"):
        done = subprocess.run(["terraform", "fmt", "-check", "-recursive", "-diff", TERRAFORM], capture_output=True, text=True)
        form = "fmt clean"
        if done.returncode:
            wrong.append(f"terraform fmt would change:\n{done.stdout}")
    for sentence in sorted(set(wrong)):
        print(sentence, file=sys.stderr)
    if len(directories) < 8 or resources < 50:
        print(f"only {resources} resources in {len(directories)} directories were found", file=sys.stderr)
        return 1
    print(f"{resources} resources in {len(directories)} directories, {form}; not planned, not applied")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
