//! The shape of source files: length, headers, leftovers, wildcard arms.

use super::{File, assert_none, files, rust_files};

/// Most lines of a production file. Beyond it a file hides two ideas.
const LINES_MAX: usize = 700;

/// Most lines of a test file: tables are long and flat.
const TEST_LINES_MAX: usize = 1_000;

/// Files allowed to be longer, by how much, and why. Only ever lowered.
const LONGER: [(&str, usize, &str); 0] = [];

/// Wildcard arms allowed in the engine: file, how many, why. Only ever lowered. The lint
/// `wildcard_enum_match_arm` sees enums; this also sees pairs and guards, where a new variant could hide.
const WILDCARDS: [(&str, usize, &str); 0] = [];

/// What must not be left behind, spelt so that this file does not contain it.
const LEFTOVERS: [&str; 6] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("TO", "DO"),
];

/// Places of one machine, spelt so that this file does not contain them.
const PLACES: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

#[test]
fn files_stay_short_enough_to_hold_one_idea() {
    let mut offences = vec![];
    for file in rust_files() {
        let lines = file.text.lines().count();
        let usual = if file.is_test() { TEST_LINES_MAX } else { LINES_MAX };
        match LONGER.iter().find(|(path, ..)| *path == file.path) {
            None if lines > usual => {
                offences.push(format!("{} has {lines} lines, {usual} are enough", file.path));
            }
            Some((path, allowed, _)) if lines > *allowed => {
                offences.push(format!("{path} grew from {allowed} to {lines} lines; divide it"));
            }
            Some((path, ..)) if lines <= usual => {
                offences.push(format!("{path} is short now; take it off the list"));
            }
            None | Some(_) => {}
        }
    }
    for (path, ..) in LONGER {
        if !rust_files().iter().any(|file| file.path == path) {
            offences.push(format!("{path} is gone; take it off the list"));
        }
    }
    assert_none("length of files", &offences);
}

#[test]
fn every_module_says_what_it_is() {
    let offences: Vec<String> = rust_files()
        .into_iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{} does not begin with a `//!` header", file.path))
        .collect();
    assert_none("module headers", &offences);
}

#[test]
fn nothing_is_left_behind() {
    let mut offences = vec![];
    for file in rust_files() {
        for (index, line) in file.text.lines().enumerate() {
            for leftover in LEFTOVERS {
                if line.contains(leftover) {
                    offences.push(format!("{}:{} has {leftover}", file.path, index + 1));
                }
            }
        }
    }
    assert_none("leftovers", &offences);
}

#[test]
fn nothing_names_a_place_of_one_machine() {
    let mut offences = vec![];
    for file in files() {
        for (index, line) in file.text.lines().enumerate() {
            for place in PLACES {
                if line.contains(place) {
                    offences.push(format!("{}:{} names {place}", file.path, index + 1));
                }
            }
        }
    }
    assert_none("absolute paths", &offences);
}

#[test]
fn the_engine_matches_without_wildcards() {
    let wildcards = |file: &File| -> Vec<String> {
        let arms = file.production_lines().filter(|(_, line)| line.trim_start().starts_with("_ =>"));
        arms.map(|(number, line)| format!("{}:{number} {}", file.path, line.trim())).collect()
    };
    let mut offences = vec![];
    let engine: Vec<File> =
        rust_files().into_iter().filter(|file| file.path.starts_with("engine/src/")).collect();
    for file in &engine {
        let found = wildcards(file);
        let allowed =
            WILDCARDS.iter().find(|(path, ..)| *path == file.path).map_or(0, |(_, count, _)| *count);
        if found.len() > allowed {
            offences.extend(found);
        } else if found.len() < allowed {
            offences.push(format!(
                "{} has only {} wildcard arms now; lower its entry",
                file.path,
                found.len()
            ));
        }
    }
    assert_none("wildcard arms hide new variants", &offences);
}

#[test]
fn what_a_fold_refuses_names_its_law() {
    let mut folds = 0;
    let mut offences = vec![];
    for file in rust_files() {
        if !(file.path.starts_with("engine/src/") && file.path.ends_with("/fold.rs")) {
            continue;
        }
        folds += 1;
        for (number, line) in (1..).zip(file.text.lines()) {
            // Messages stand alone on their line or behind the condition; a law's begin with its number.
            let message = line.contains("assert!(") || line.contains(".expect(") || line.contains("panic!(");
            if line.contains("\"Invariant") || (message && line.contains('"') && !line.contains("\"law ")) {
                let by_violation = line.contains("{violation}");
                offences.extend((!by_violation).then(|| format!("{}:{number}", file.path)));
            }
        }
    }
    assert_eq!(folds, 4, "one fold a machine");
    assert_none("a fold's assertion begins with the law it keeps, so that verify can name it", &offences);
}
