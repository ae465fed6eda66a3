//! The rescue copy while serving: what is asked for, the thread that ships, and waiting for it where answers do.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use doorbuster_actors::Engine;
use doorbuster_persistence::frame::FrameNumber;
use doorbuster_postgres::rescue::error::RescueError;
use doorbuster_postgres::rescue::restoring;
use doorbuster_postgres::rescue::sealing::{Files, RescueKey};
use doorbuster_postgres::rescue::shipper::{Shipper, ShipperOptions};
use doorbuster_postgres::rescue::status::{Standing, Status};

use super::serve::{DurabilityChoice, ServeArguments};
use super::{Failure, database};

/// Exit code when another data directory owns the rescue copy.
pub(crate) const EXIT_FENCED: u8 = 77;

/// How long a start waits to hear from the copy whether this directory still owns it. Postgres may be away: then the engine
/// serves, and hears of it later.
const HEARING: Duration = Duration::from_secs(2);

/// The rescue copy's settings of `serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct RescueArguments {
    /// Ship the journal to Postgres while serving, so that `doorbuster restore` can rebuild this directory elsewhere
    #[arg(long, env = "DOORBUSTER_RESCUE", value_parser = clap::builder::FalseyValueParser::new())]
    pub rescue: bool,
    /// A file with a key of 16 characters or more, under which secrets are encrypted in the rescue copy; without one they
    /// are not in it, and a restore needs them from elsewhere
    #[arg(long, env = "DOORBUSTER_RESCUE_KEY_FILE", value_name = "FILE")]
    pub rescue_key_file: Option<PathBuf>,
    /// Least time between two batches of the rescue copy: about what a lost disk takes. Replicated answers do not wait for it
    #[arg(long, env = "DOORBUSTER_RESCUE_INTERVAL_MS", default_value_t = 200, value_parser = clap::value_parser!(u64).range(0..=60_000), value_name = "MS")]
    pub rescue_interval_ms: u64,
    /// Ship another checkpoint after so much of the journal, compressed, and prune what lies behind the one before
    #[arg(long, env = "DOORBUSTER_RESCUE_CHECKPOINT_MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_048_576), value_name = "MIB")]
    pub rescue_checkpoint_mib: u64,
}

/// Refuses settings that do not go together, before anything is touched.
pub(crate) fn check(arguments: &ServeArguments) -> Result<(), Failure> {
    let refuse = |message: &str| Err(Failure { message: message.to_owned(), code: 2 });
    let is_wanted = is_wanted(arguments);
    if is_wanted && arguments.durability == DurabilityChoice::Memory {
        return refuse(
            "--rescue ships what is on the disk, and --durability memory puts nothing there; leave one out",
        );
    }
    if !is_wanted && arguments.rescue.rescue_key_file.is_some() {
        return refuse("--rescue-key-file is of no use without --rescue; add that, or leave the key out");
    }
    if is_wanted {
        database::needed(arguments.database.database_url.as_deref())?;
        arguments.rescue.rescue_key_file.as_deref().map(RescueKey::read).transpose()?;
    }
    Ok(())
}

fn is_wanted(arguments: &ServeArguments) -> bool {
    arguments.rescue.rescue || is_replicated(arguments)
}

fn is_replicated(arguments: &ServeArguments) -> bool {
    arguments.durability == DurabilityChoice::Replicated
}

/// Starts shipping, if it is asked for.
pub(crate) fn begin(arguments: &ServeArguments, engine: &Engine) -> Result<Option<Shipper>, Failure> {
    if !is_wanted(arguments) {
        return Ok(None);
    }
    let rescue = &arguments.rescue;
    let settings = database::needed(arguments.database.database_url.as_deref())?;
    let key = rescue.rescue_key_file.as_deref().map(RescueKey::read).transpose()?;
    let secrets = match key {
        Some(key) => Some((key, secrets_of(&arguments.data)?)),
        None => {
            tracing::warn!(
                "the rescue copy will hold no secrets: without them a restored engine knows no retry, cart token or receipt; \
                 give --rescue-key-file, or keep a backup of the directory `secrets`"
            );
            None
        }
    };
    let options = ShipperOptions {
        secrets,
        migrate: !arguments.database.no_migrate,
        is_replicated: is_replicated(arguments),
        interval: Duration::from_millis(rescue.rescue_interval_ms),
        checkpoint_bytes: rescue.rescue_checkpoint_mib << 20,
        ..ShipperOptions::new(settings, engine.rescue_token()?)
    };
    let on_fenced = Box::new(|error: &RescueError| {
        // Two engines must not sell the same stock. What this one acknowledged since the restore is in its directory only.
        tracing::error!(%error, "this engine ends");
        std::process::exit(i32::from(EXIT_FENCED));
    });
    let tail = engine.follow(FrameNumber::FIRST);
    let shipper = Shipper::spawn(tail, engine.checkpoint_source(), options, on_fenced);
    shipper.map(Some).map_err(|error| Failure {
        message: format!("cannot start the thread of the rescue copy: {error}; look at `ulimit -u`"),
        code: 74,
    })
}

/// The files that belong to the data and not to the journal.
fn secrets_of(data: &Path) -> Result<Files, Failure> {
    let mut files = restoring::read_secrets(&data.join("secrets"))?;
    // One given by flag or environment is the operator's own to keep.
    if let Ok(key) = std::fs::read(data.join("admin_key")) {
        files.push(("admin_key".to_owned(), key));
    }
    Ok(files)
}

/// Waits until the copy was heard of, or where answers wait for it, until it has all that this journal had at the start: state
/// that is not in the copy must not be told either.
pub(crate) async fn ready(
    shipper: &Shipper,
    is_replicated: bool,
    durable: FrameNumber,
) -> Result<(), Failure> {
    let began = Instant::now();
    let mut told = began;
    loop {
        let figures = shipper.status().figures();
        let refused_by = match figures.standing {
            Standing::Fenced => Some(EXIT_FENCED),
            Standing::Refused if is_replicated => Some(1),
            Standing::Refused | Standing::Connecting | Standing::Shipping | Standing::Away => None,
        };
        if let Some(code) = refused_by {
            let message = figures.trouble.unwrap_or_default();
            return Err(Failure { message, code });
        }
        let is_heard = figures.sessions > 0 || began.elapsed() > HEARING;
        let is_copied = figures.standing == Standing::Shipping && figures.shipped >= durable;
        if is_copied || (is_heard && !is_replicated) {
            return Ok(());
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let trouble = figures.trouble.unwrap_or_default();
            tracing::warn!(
                shipped = figures.shipped.0,
                durable = durable.0,
                trouble,
                "waiting for the rescue copy before the first answer: --durability replicated"
            );
        }
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The copy's standing, where answers wait for it.
pub(crate) fn replication(arguments: &ServeArguments, shipper: Option<&Shipper>) -> Option<Status> {
    shipper.filter(|_| is_replicated(arguments)).map(|shipper| shipper.status().clone())
}

impl From<RescueError> for Failure {
    fn from(error: RescueError) -> Self {
        let message = error.to_string();
        let code = match error {
            RescueError::Postgres(error) => return error.into(),
            RescueError::Migration(error) => return error.into(),
            RescueError::Restore(doorbuster_persistence::rescue::restore::RestoreError::Start(error)) => {
                return error.into();
            }
            RescueError::Restore(doorbuster_persistence::rescue::restore::RestoreError::NotEmpty {
                ..
            }) => 73,
            RescueError::Damaged(_)
            | RescueError::Restore(_)
            | RescueError::Checkpoint(_)
            | RescueError::Journal(_) => 65,
            RescueError::NoCopy { .. } => 66,
            RescueError::Fenced { .. } => EXIT_FENCED,
            RescueError::NoSecrets
            | RescueError::KeyNeeded
            | RescueError::WrongKey
            | RescueError::Secrets(_) => 78,
            RescueError::OtherEngine { .. }
            | RescueError::Ahead { .. }
            | RescueError::OtherHistory { .. }
            | RescueError::InDoubt { .. } => 1,
        };
        Self { message, code }
    }
}
