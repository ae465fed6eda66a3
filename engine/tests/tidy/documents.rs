//! Documents agree with the checkout: links resolve, and what the README points at is there.

use std::collections::BTreeSet;

use super::{File, assert_none, files, root};

/// Targets of the inline links `[text](target)` outside fenced code, with their line numbers.
fn links(file: &File) -> Vec<(usize, String)> {
    let mut links = vec![];
    let mut fenced = false;
    for (index, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for rest in line.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                links.push((index + 1, target.to_owned()));
            }
        }
    }
    links
}

fn documents() -> Vec<File> {
    files().into_iter().filter(|file| file.ends_with("md")).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut offences = vec![];
    for file in documents() {
        for (number, target) in links(&file) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let directory = root().join(&file.path).parent().unwrap().to_owned();
            if path.starts_with('/') || !directory.join(path).exists() {
                offences.push(format!("{}:{number} leads to {target}", file.path));
            }
        }
    }
    assert_none("links", &offences);
}

#[test]
fn files_named_in_documents_exist() {
    let mut offences = vec![];
    for file in documents() {
        for (index, line) in file.text.lines().enumerate() {
            for name in line.split('`').skip(1).step_by(2) {
                let ours = ["docs/", "deploy/", "loadtests/", "scripts/", ".ci/"]
                    .iter()
                    .any(|room| name.starts_with(room));
                if ours && !name.contains([' ', '*', '…', '<', '$']) && !root().join(name).exists() {
                    offences.push(format!("{}:{} names {name}", file.path, index + 1));
                }
            }
        }
    }
    assert_none("files named in documents", &offences);
}

#[test]
fn the_readme_leads_to_every_document() {
    let Some(readme) = documents().into_iter().find(|file| file.path == "README.md") else {
        panic!("there is no README.md");
    };
    let mut offences = vec![];
    for document in documents() {
        let is_top = document.path.strip_prefix("docs/").is_some_and(|name| !name.contains('/'));
        if is_top && !readme.text.contains(&document.path) {
            offences.push(format!("README.md does not name {}", document.path));
        }
    }
    assert_none("documents nobody finds", &offences);
}

#[test]
fn the_checks_are_the_readmes_test_command() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap_or_default();
    let command = "./scripts/test";
    for path in ["README.md", ".ci/run"] {
        assert!(read(path).contains(command), "{path} does not name {command}");
    }
}

#[test]
fn every_problem_code_has_its_remedy() {
    let files = files();
    let source = files.iter().find(|file| file.path == "http/src/problem.rs").unwrap();
    let page = files.iter().find(|file| file.path == "docs/errors.md").unwrap();
    // A code is a line of the form `Name, "wire_name", 409, …` in the list of codes.
    let codes: Vec<(&str, &str)> = source
        .text
        .lines()
        .filter_map(|line| {
            let mut parts = line.trim().split(", ").skip(1);
            let wire = parts.next()?.strip_prefix('"')?.strip_suffix('"')?;
            let status = parts.next()?;
            (status.len() == 3 && status.parse::<u16>().is_ok()).then_some((wire, status))
        })
        .collect();
    assert!(codes.len() > 20, "the list of codes was not found: {codes:?}");
    let missing =
        codes.iter().filter(|(wire, status)| !page.text.contains(&format!("| {status} | `{wire}` |")));
    let offences: Vec<String> =
        missing.map(|(wire, status)| format!("docs/errors.md lacks {status} `{wire}`")).collect();
    assert_none("problem codes", &offences);
}

#[test]
fn every_route_is_on_the_readers_page() {
    let files = files();
    let table = files.iter().find(|file| file.path == "http/src/routes/table.rs").unwrap();
    let page = files.iter().find(|file| file.path == "docs/API.md").unwrap();
    let told: BTreeSet<&str> = page
        .text
        .lines()
        .flat_map(|line| quoted(line, '`'))
        .filter_map(|text| text.split(' ').next_back()?.split('?').next())
        .collect();
    // A text that ends in a slash is a prefix, not a route.
    let is_route = |text: &&str| text.starts_with('/') && !text.ends_with('/');
    let routes: Vec<&str> = table.text.lines().flat_map(|line| quoted(line, '"')).filter(is_route).collect();
    assert!(routes.len() > 30, "the routes were not found: {routes:?}");
    let missing = routes.iter().filter(|route| !told.contains(*route));
    let offences: Vec<String> = missing.map(|route| format!("docs/API.md lacks {route}")).collect();
    assert_none("routes", &offences);
}

#[test]
fn every_metric_is_on_its_page_and_the_page_names_no_other() {
    let files = files();
    let page = files.iter().find(|file| file.path == "docs/METRICS.md").unwrap();
    let mut measured = BTreeSet::new();
    for file in files.iter().filter(|file| file.ends_with("rs")) {
        for (_, line) in file.production_lines() {
            measured.extend(quoted(line, '"').filter(|name| is_metric(name)).map(str::to_owned));
        }
    }
    let listed: BTreeSet<String> = page
        .text
        .lines()
        .flat_map(|line| quoted(line, '`'))
        .filter(|name| is_metric(name))
        .map(str::to_owned)
        .collect();
    assert!(measured.len() > 10, "the metrics were not found: {measured:?}");
    assert_eq!(listed, measured, "docs/METRICS.md (left) and the sources (right)");
}

/// What stands between two marks on a line.
fn quoted(line: &str, mark: char) -> impl Iterator<Item = &str> {
    line.split(mark).skip(1).step_by(2)
}

/// Metrics begin with the engine's name; so do its crates, which are no metrics.
fn is_metric(name: &str) -> bool {
    let crates = ["engine", "persistence", "actors", "gateways", "http", "benches"];
    name.strip_prefix("doorbuster_").is_some_and(|rest| {
        !rest.is_empty()
            && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            && !crates.contains(&rest)
    })
}
