//! The walls between the rooms: who may depend on whom, and what the engine must never know.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, assert_none, files, root, rust_files};

/// Which of our crates each room may build upon, as `docs/ARCHITECTURE.md` draws it.
const MAY_KNOW: [(&str, &[&str]); 17] = [
    ("engine", &[]),
    ("persistence", &["engine"]),
    ("persistence/outlets", &["engine", "persistence"]),
    ("persistence/postgres", &["engine", "persistence"]),
    ("actors", &["engine", "persistence"]),
    ("gateways", &["engine"]),
    ("http", &["engine", "persistence", "outlets", "postgres", "actors", "gateways"]),
    ("benches", &["engine", "persistence", "actors", "gateways", "http"]),
    ("benches/peers", &["servers"]),
    ("proofs/mutator", &[]),
    ("proofs/simulator", &["engine", "persistence", "actors"]),
    ("proofs/disk-shim", &[]),
    ("proofs/crashes", &["engine", "persistence"]),
    ("proofs/servers", &[]),
    ("proofs/stripe", &[]),
    ("proofs/paypal", &[]),
    ("proofs/payments", &["servers", "stripe"]),
];

/// Crates of others that a room must never build upon, with what is lost if it does.
const MUST_NOT_KNOW: [(&str, &[&str], &str); 5] = [
    (
        "engine",
        &[
            "actix",
            "actix-rt",
            "actix-web",
            "tokio",
            "sled",
            "bincode",
            "futures-util",
            "jiff",
            "uuid",
            "getrandom",
            "rustix",
            "serde_json",
        ],
        "the core is pure: time, ids and randomness arrive in the envelope, bytes are others' business",
    ),
    (
        "persistence",
        &["actix", "actix-web", "serde_json", "awc"],
        "the journal knows neither actors nor HTTP",
    ),
    (
        "persistence/postgres",
        &["actix", "actix-rt", "actix-web", "serde_json", "awc", "sled"],
        "it follows the journal from a thread of its own, never from a worker",
    ),
    (
        "actors",
        &["actix-web", "serde_json", "awc", "sled", "utoipa"],
        "actors speak no JSON, no HTTP and no storage format",
    ),
    ("gateways", &["actix", "actix-web", "sled"], "a door to the outside knows no actor and no storage"),
];

/// Words that must not stand in the engine's production code, with the reason.
const NOT_IN_ENGINE: [(&str, &str); 11] = [
    ("SystemTime", "time arrives in the envelope"),
    ("Instant", "time arrives in the envelope"),
    ("std::thread", "a machine is one synchronous function"),
    ("std::net", "no socket"),
    ("std::fs", "no file"),
    ("std::env", "no environment: configuration arrives in commands"),
    ("tokio", "no runtime"),
    ("actix", "no actors"),
    ("HashMap", "its order differs from run to run; use IndexMap with a fixed hasher, or BTreeMap"),
    ("HashSet", "its order differs from run to run; use IndexSet with a fixed hasher, or BTreeSet"),
    ("thread_local", "state lives in the machines"),
];

/// Words that must not stand in the persistence room's production code outside `disk/`, with the reason.
const ONLY_IN_DISK: [(&str, &str); 5] = [
    ("std::fs", "files are reached through `Disk`, so that the simulator's disk meets every access"),
    ("std::os::unix::fs", "files are reached through `Disk`"),
    ("rustix", "system calls are `MachineDisk`'s"),
    ("sled::", "the store is reached through `Trees`"),
    ("getrandom", "randomness comes from `Disk::random`, so that a simulation can repeat it"),
];

/// The manifest's lines under each of its `[sections]`.
fn sections(manifest: &File) -> BTreeMap<String, Vec<String>> {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in manifest.text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut current);
            sections.entry(current.clone()).or_default();
        } else {
            sections.entry(current.clone()).or_default().push(line.to_owned());
        }
    }
    sections
}

/// Names of the crates in `[dependencies]`, tables of one included; development dependencies bind nobody.
fn dependencies(manifest: &File) -> BTreeSet<String> {
    let sections = sections(manifest);
    let named = sections.get("dependencies").into_iter().flatten().filter_map(|line| {
        let name = line.split(['.', '=', ' ']).next()?;
        Some(name.trim_matches('"').to_owned())
    });
    let tables = sections.keys().filter_map(|name| name.strip_prefix("dependencies.").map(str::to_owned));
    named.chain(tables).collect()
}

fn manifests() -> BTreeMap<String, File> {
    files()
        .into_iter()
        .filter_map(|file| Some((file.path.strip_suffix("/Cargo.toml")?.to_owned(), file)))
        .collect()
}

#[test]
fn every_room_is_on_the_plan() {
    let rooms: BTreeSet<String> = manifests().into_keys().collect();
    let plan: BTreeSet<String> = MAY_KNOW.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, plan, "a new crate is drawn into MAY_KNOW and docs/ARCHITECTURE.md first");
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for room in rooms {
        assert!(workspace.contains(&format!("\"{room}\"")), "{room} is not a member of the workspace");
    }
}

#[test]
fn rooms_know_only_the_rooms_below_them() {
    let manifests = manifests();
    let mut offences = vec![];
    for (room, may_know) in MAY_KNOW {
        for dependency in dependencies(&manifests[room]) {
            if let Some(other) = dependency.strip_prefix("doorbuster-")
                && !may_know.contains(&other)
            {
                offences.push(format!("{room} must not know {other}"));
            }
        }
    }
    for (room, crates, reason) in MUST_NOT_KNOW {
        for dependency in dependencies(&manifests[room]) {
            if crates.contains(&dependency.as_str()) {
                offences.push(format!("{room} must not know {dependency}: {reason}"));
            }
        }
    }
    assert_none("walls between the rooms", &offences);
}

#[test]
fn every_room_obeys_the_workspaces_lints() {
    let mut offences = vec![];
    for (room, manifest) in manifests() {
        let sections = sections(&manifest);
        if sections.get("lints").is_none_or(|lines| !lines.iter().any(|line| line == "workspace = true")) {
            offences.push(format!("{room}/Cargo.toml lacks `[lints] workspace = true`"));
        }
    }
    assert_none("lints.workspace in every crate", &offences);
}

#[test]
fn versions_are_named_once_in_the_workspace() {
    let mut offences = vec![];
    for (room, manifest) in manifests() {
        for (section, lines) in sections(&manifest) {
            if !section.ends_with("dependencies") {
                continue;
            }
            for line in lines {
                if !line.contains("workspace = true") {
                    offences.push(format!("{room}/Cargo.toml [{section}] {line}"));
                }
            }
        }
    }
    assert_none(
        "every dependency is `workspace = true`, so that two rooms never use two versions",
        &offences,
    );
}

#[test]
fn the_engine_reads_no_clock_no_file_and_no_hash_order() {
    let mut offences = vec![];
    let engine: Vec<File> =
        rust_files().into_iter().filter(|file| file.path.starts_with("engine/src/")).collect();
    // The switch of the seeded bugs is one thread's, so that every core can try another one; it is in no release.
    for file in engine.iter().filter(|file| file.path != "engine/src/mutant.rs") {
        for (number, line) in file.production_lines() {
            let code = line.split("//").next().unwrap_or_default();
            for (word, reason) in NOT_IN_ENGINE {
                if code.contains(word) {
                    offences.push(format!("{}:{number} has {word}: {reason}", file.path));
                }
            }
        }
    }
    assert_none("the engine is pure", &offences);
}

#[test]
fn persistence_reaches_the_machine_through_its_disk_only() {
    let mut offences = vec![];
    let mut in_disk = 0;
    for file in rust_files().into_iter().filter(|file| file.path.starts_with("persistence/src/")) {
        let inside = file.path.starts_with("persistence/src/disk/");
        for (number, line) in file.production_lines() {
            let code = line.split("//").next().unwrap_or_default();
            for (word, reason) in ONLY_IN_DISK {
                if code.contains(word) && inside {
                    in_disk += 1;
                } else if code.contains(word) {
                    offences.push(format!("{}:{number} has {word}: {reason}", file.path));
                }
            }
        }
    }
    assert!(in_disk > 0, "the disk itself was not found; the rule would hold for anything");
    assert_none("persistence and the machine", &offences);
}
