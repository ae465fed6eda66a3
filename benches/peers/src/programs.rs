//! The programs of others that are started, and what to do where one is missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::options::Options;
use crate::plan::Contender;

/// Paths of what was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Programs {
    /// `doorbuster`
    pub(crate) engine: Option<PathBuf>,
    /// Directory of `postgres`, `initdb`, `psql` and `pgbench`.
    pub(crate) postgres: Option<PathBuf>,
    /// `redis-server`
    pub(crate) redis: Option<PathBuf>,
    /// `strace`
    pub(crate) strace: Option<PathBuf>,
}

/// A thing that is needed and was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Missing {
    Engine,
    Postgres,
    Redis,
    Strace,
    Setpriv,
}

impl Missing {
    /// Its package in Debian.
    fn package(self) -> Option<&'static str> {
        match self {
            Self::Engine => None,
            Self::Postgres => Some("postgresql"),
            Self::Redis => Some("redis-server"),
            Self::Strace => Some("strace"),
            Self::Setpriv => Some("util-linux"),
        }
    }

    /// What to do about it.
    fn remedy(self) -> &'static str {
        match self {
            Self::Engine => {
                "the engine's binary was not found: cargo build --release -p doorbuster-http, or name it with --engine"
            }
            Self::Postgres => {
                "PostgreSQL was not found: apt-get install postgresql, or --install, or leave typical, \
                 typical_one_statement and pgbench out of --contenders"
            }
            Self::Redis => {
                "Redis was not found: apt-get install redis-server, or --install, or leave redis out of --contenders"
            }
            Self::Strace => "strace was not found: apt-get install strace, or --install, or --no-syncs",
            Self::Setpriv => "setpriv was not found: apt-get install util-linux, or --install",
        }
    }
}

impl Programs {
    /// Finds what `options` needs, and installs what is missing if told to.
    pub(crate) fn find(options: &Options) -> anyhow::Result<Self> {
        let (found, missing) = Self::look(options);
        if missing.is_empty() {
            return Ok(found);
        }
        let packages: Vec<&str> = missing.iter().filter_map(|missing| missing.package()).collect();
        if options.install && !packages.is_empty() {
            install(&packages)?;
            let (found, missing) = Self::look(options);
            if missing.is_empty() {
                return Ok(found);
            }
            return Err(told(&missing));
        }
        Err(told(&missing))
    }

    fn look(options: &Options) -> (Self, BTreeSet<Missing>) {
        let mut missing = BTreeSet::new();
        let mut need = |needed: bool, path: Option<PathBuf>, what: Missing| {
            if needed && path.is_none() {
                missing.insert(what);
            }
            path
        };
        let takes_part = |wanted: &[Contender]| options.contenders.iter().any(|one| wanted.contains(one));
        let engine = options.engine.clone().or_else(beside).filter(|path| path.is_file());
        let postgres = [Contender::Typical, Contender::TypicalOneStatement, Contender::Pgbench];
        let counts = options.counts_syncs() && options.contenders.iter().any(|one| one.is_durable());
        let found = Self {
            engine: need(takes_part(&[Contender::Engine]), engine, Missing::Engine),
            postgres: need(takes_part(&postgres), postgres_directory(), Missing::Postgres),
            redis: need(takes_part(&[Contender::Redis]), in_path("redis-server"), Missing::Redis),
            strace: need(counts, in_path("strace"), Missing::Strace),
        };
        let _ = need(true, in_path("setpriv"), Missing::Setpriv);
        (found, missing)
    }
}

fn told(missing: &BTreeSet<Missing>) -> anyhow::Error {
    let remedies: Vec<&str> = missing.iter().map(|missing| missing.remedy()).collect();
    anyhow::anyhow!("{}", remedies.join("\n"))
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
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

/// `doorbuster` beside this program: built together, they lie together.
fn beside() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.with_file_name("doorbuster"))
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// The newest Postgres of Debian's layout, else that of the path. In Debian's `/usr/bin` there are only wrappers that
/// choose a cluster by their own rules.
fn postgres_directory() -> Option<PathBuf> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_missing_is_told_with_its_remedy() {
        let all = BTreeSet::from([Missing::Engine, Missing::Postgres, Missing::Redis, Missing::Strace]);
        let text = told(&all).to_string();
        for word in
            ["cargo build", "apt-get install postgresql", "apt-get install redis-server", "--no-syncs"]
        {
            assert!(text.contains(word), "{text}");
        }
    }
}
