//! Style and walls as tests: what a reviewer would otherwise have to say again and again.
//!
//! Each test gathers every offence and prints them all. A rule with exceptions lists them with a reason; a list that
//! only shrinks (a ratchet) also fails when an entry is no longer needed. The files come from the checkout, so these
//! tests run from the workspace and from nowhere else. Walls are in [`walls`], documents in [`documents`].

mod documents;
mod source;
mod walls;

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that hold no text of ours.
const SKIPPED_DIRECTORIES: [&str; 6] =
    [".git", "target", "data", "node_modules", "assets", "proptest-regressions"];

/// Endings of the files that are read.
const TEXT_ENDINGS: [&str; 11] =
    ["rs", "md", "toml", "sh", "yml", "yaml", "json", "js", "html", "css", "service"];

/// One file of the workspace.
struct File {
    /// Path from the workspace's root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn ends_with(&self, ending: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == ending)
    }

    /// Whether the whole file is test code.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// The lines before the file's unit tests, with their numbers; a unit-test module stands at a file's end.
    fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = if self.is_test() { 0 } else { usize::MAX };
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.take_while(|(_, line)| *line != "#[cfg(test)]").take(end)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every text file of the workspace, sorted by path.
fn files() -> Vec<File> {
    let mut found = vec![];
    let root = root();
    gather(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 20, "the workspace was not found at {}", root.display());
    found
}

fn gather(root: &Path, directory: &Path, found: &mut Vec<File>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !SKIPPED_DIRECTORIES.contains(&name.as_str()) {
                gather(root, &path, found);
            }
            continue;
        }
        let ending = path.extension().map(|ending| ending.to_string_lossy().into_owned()).unwrap_or_default();
        let is_script = ending.is_empty() && directory != root;
        if !is_script && !TEXT_ENDINGS.contains(&ending.as_str()) {
            continue;
        }
        // A file that vanished while we looked, or that is not text, is none of ours.
        if let Ok(text) = fs::read_to_string(&path) {
            found.push(File {
                path: path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/"),
                text,
            });
        }
    }
}

fn rust_files() -> Vec<File> {
    files().into_iter().filter(|file| file.ends_with("rs")).collect()
}

#[track_caller]
fn assert_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}
