//! The programs of others that are started, and what to do where one is missing.

use std::collections::BTreeSet;
use std::path::PathBuf;

use doorbuster_servers::programs::{in_path, install, postgres_directory};

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
                "PostgreSQL was not found: apt-get install postgresql, or --install, or leave attached, \
                 typical, typical_one_statement and pgbench out of --contenders"
            }
            Self::Redis => {
                "Redis was not found: apt-get install redis-server, or --install, or leave attached and redis out of --contenders"
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
        let postgres =
            [Contender::Attached, Contender::Typical, Contender::TypicalOneStatement, Contender::Pgbench];
        let counts = options.counts_syncs() && options.contenders.iter().any(|one| one.is_durable());
        let found = Self {
            engine: need(takes_part(&[Contender::Engine, Contender::Attached]), engine, Missing::Engine),
            postgres: need(takes_part(&postgres), postgres_directory(), Missing::Postgres),
            redis: need(
                takes_part(&[Contender::Attached, Contender::Redis]),
                in_path("redis-server"),
                Missing::Redis,
            ),
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

/// `doorbuster` beside this program: built together, they lie together.
fn beside() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.with_file_name("doorbuster"))
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
