//! The contenders: how each is started fresh for a turn, what it is asked, and what it says afterwards.
//!
//! Each turn starts its servers anew and stops them, so that no other server's leftovers (a checkpoint, a vacuum) run
//! beside the one that is measured. Start at [`Arena::stand`].

mod attached;
mod engine;
pub(crate) mod noop;
mod postgres;
mod redis;

pub(crate) use postgres::bench;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use attached::Attached;

use crate::answers::Answers;
use crate::generator::requests::{Repeated, Script, Shoppers};
use crate::options::Options;
use crate::plan::{Contender, Row};
use crate::programs::Programs;
use doorbuster_servers::process::Server;

/// Where all turns take place.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) options: Options,
    pub(crate) programs: Programs,
    /// A directory of our own; gone at the end.
    directory: tempfile::TempDir,
    /// Tells the keys of one turn from those of another.
    sessions: std::cell::Cell<u32>,
}

/// A contender that stands ready.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) contender: Contender,
    /// The one that is asked.
    pub(crate) server: Server,
    /// What it keeps its data in, where that is a server too.
    behind: Option<Server>,
    /// What the engine feeds, where it does.
    attached: Option<Attached>,
    /// Where this turn's files are.
    place: PathBuf,
}

impl Arena {
    /// An arena in `options.directory` (or the system's directory for temporary files), which is on a disk.
    pub(crate) fn new(options: Options, programs: Programs) -> anyhow::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("doorbuster-peers-");
        let directory = match &options.directory {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        };
        let directory =
            directory.context("no directory for the contenders' data; name one with --directory")?;
        let kind = crate::figures::file_system(directory.path());
        anyhow::ensure!(
            kind != "tmpfs" && kind != "ramfs",
            "{} is memory ({kind}), on which a sync costs nothing; name a directory on a disk with --directory",
            directory.path().display()
        );
        Ok(Self { options, programs, directory, sessions: std::cell::Cell::new(1) })
    }

    /// Its directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts `contender` for work of `row`, with fresh data.
    pub(crate) fn stand(&self, contender: Contender) -> anyhow::Result<Stand> {
        self.sessions.set(self.sessions.get() + 1);
        let place = self.path().join(format!("turn-{}", self.sessions.get()));
        std::fs::create_dir(&place)?;
        let mut fed = None;
        let (server, behind) = match contender {
            Contender::Engine => (engine::start(self, &place, &[])?, None),
            Contender::Attached => {
                let attached = fed.insert(Attached::start()?);
                (engine::start(self, &place, &attached.arguments()?)?, None)
            }
            Contender::Noop => (noop::start(self, &place, self.options.noop_workers.unwrap_or(1))?, None),
            Contender::Typical | Contender::TypicalOneStatement => {
                let postgres = postgres::start(self, &place)?;
                (postgres::start_service(self, &place, &postgres, contender)?, Some(postgres))
            }
            Contender::Pgbench => (postgres::start(self, &place)?, None),
            Contender::Redis => (redis::start(self, &place)?, None),
        };
        Ok(Stand { contender, server, behind, attached: fed, place })
    }

    /// Takes the engine's answers for the no-op, or the committed ones where the engine does not take part.
    pub(crate) fn take_samples(&self) -> anyhow::Result<()> {
        let mut answers = if self.options.contenders.contains(&Contender::Engine) {
            let stand = self.stand(Contender::Engine)?;
            let answers = engine::sample(stand.server.address, self.options.batch)?;
            stand.stop()?;
            answers
        } else {
            Answers::committed(self.options.batch)
        };
        answers.write(&self.samples())
    }

    fn samples(&self) -> PathBuf {
        self.path().join("answers")
    }
}

impl Stand {
    /// The requests of `row` for it.
    pub(crate) fn script(&self, arena: &Arena, row: Row) -> anyhow::Result<Box<dyn Script>> {
        let Options { skus, batch, .. } = arena.options;
        let session = arena.sessions.get();
        if self.contender == Contender::Redis {
            let hash = redis::load_script(self.server.address)?;
            return Ok(Box::new(Repeated::redis(row, session, skus, &hash)));
        }
        Ok(match row {
            Row::Checkout => Box::new(Shoppers::new(session, skus, arena.options.connections(row))),
            Row::Hot | Row::Many | Row::SoldOut | Row::Availability | Row::Batch | Row::Paced => {
                Box::new(Repeated::http(row, session, skus, batch))
            }
        })
    }

    /// Reservations that it says it granted, where that can be asked. The engine tells them of one SKU at a time.
    pub(crate) fn granted(&self, arena: &Arena, row: Row) -> anyhow::Result<Option<u64>> {
        let granting = match row {
            Row::Hot | Row::Many | Row::Batch | Row::Paced => true,
            Row::SoldOut | Row::Availability | Row::Checkout => false,
        };
        if !granting {
            return Ok(None);
        }
        match self.contender {
            Contender::Engine | Contender::Attached if matches!(row, Row::Hot | Row::Paced) => {
                engine::granted_of_hot(self.server.address).map(Some)
            }
            Contender::Engine | Contender::Attached | Contender::Noop => Ok(None),
            Contender::Typical | Contender::TypicalOneStatement | Contender::Pgbench => {
                postgres::granted(arena, self.behind.as_ref().unwrap_or(&self.server)).map(Some)
            }
            Contender::Redis => redis::granted(arena, self.server.address).map(Some),
        }
    }

    /// The processes whose processor time is its own.
    pub(crate) fn roots(&self) -> Vec<u32> {
        let behind = self.behind.as_ref().map(Server::pid);
        let attached = self.attached.iter().flat_map(Attached::pids);
        std::iter::once(self.server.pid()).chain(behind).chain(attached).collect()
    }

    /// Stops it and forgets its data.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.server.check_alive()?;
        self.server.stop()?;
        if let Some(behind) = self.behind {
            behind.stop()?;
        }
        std::fs::remove_dir_all(&self.place)?;
        Ok(())
    }
}
