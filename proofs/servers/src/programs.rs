//! The programs of others: where they lie, and how Debian installs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// A program of the search path.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// The directory of `postgres`, `initdb`, `psql` and `pgbench`: the newest of Debian's layout, else that of the path. In
/// Debian's `/usr/bin` there are only wrappers that choose a cluster by their own rules.
pub fn postgres_directory() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, directory)| has_all(directory))
        .max()
        .map(|(_, directory)| directory);
    newest.or_else(|| Some(in_path("postgres")?.parent()?.to_owned()).filter(|directory| has_all(directory)))
}

fn has_all(directory: &Path) -> bool {
    ["postgres", "initdb", "psql", "pgbench"].iter().all(|name| directory.join(name).is_file())
}

/// Installs packages of Debian. Needs root.
pub fn install(packages: &[&str]) -> anyhow::Result<()> {
    eprintln!("installing {}", packages.join(", "));
    let status = Command::new("apt-get")
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("apt-get cannot be run; install them with this system's own packages")?;
    anyhow::ensure!(status.success(), "apt-get install {} failed; run it as root", packages.join(" "));
    Ok(())
}
