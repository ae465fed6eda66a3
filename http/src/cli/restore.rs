//! `doorbuster restore`: a data directory on an empty machine, out of the rescue copy in Postgres.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use doorbuster_persistence::verify::verify;
use doorbuster_postgres::rescue::restoring::{RestoreOptions, SecretsFrom, restore};
use doorbuster_postgres::rescue::sealing::RescueKey;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::serve::RecoveryBar;
use super::{Failure, database};

/// Rebuild a data directory from the rescue copy in Postgres.
///
/// Writes a new directory, verifies it, and says up to where it reaches. From then on the copy is the new directory's: the
/// engine that wrote it before is refused, and ends. Stop it first if it still runs. Try it without that with --drill.
#[derive(Clone, Debug, clap::Args)]
pub struct RestoreArguments {
    /// The new data directory; must be absent or empty
    #[arg(long, env = "DOORBUSTER_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Where Postgres is: postgres://user:password@host:port/database (also read from `DATABASE_URL`)
    #[arg(long, env = "DOORBUSTER_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// The key that was given to serve, to open the secrets in the copy
    #[arg(long, env = "DOORBUSTER_RESCUE_KEY_FILE", value_name = "FILE")]
    pub rescue_key_file: Option<PathBuf>,
    /// Take the secrets from a backup of the directory `secrets` instead
    #[arg(long, value_name = "DIR", conflicts_with_all = ["rescue_key_file", "without_secrets"])]
    pub secrets_from: Option<PathBuf>,
    /// Go without the secrets: no retry will find its answer, and cart tokens and receipts given out are void
    #[arg(long, conflicts_with = "rescue_key_file")]
    pub without_secrets: bool,
    /// A drill: leave the copy with its owner. The new directory is whole, and cannot ship to this copy
    #[arg(long)]
    pub drill: bool,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &RestoreArguments) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let options = RestoreOptions {
        database: database::needed(arguments.database_url.as_deref())?,
        data: arguments.data.clone(),
        secrets: match (&arguments.rescue_key_file, &arguments.secrets_from, arguments.without_secrets) {
            (Some(file), _, _) => SecretsFrom::Key(RescueKey::read(file)?),
            (None, Some(directory), _) => SecretsFrom::Directory(directory.clone()),
            (None, None, true) => SecretsFrom::Nowhere,
            (None, None, false) => SecretsFrom::Unsaid,
        },
        is_drill: arguments.drill,
    };
    let bar = ProgressBar::no_length();
    let style = ProgressStyle::with_template("{msg:24} {bar:30} {percent:>3}%");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message("reading the rescue copy");
    let report = database::block_on(async {
        let mut show = |done: u64, total: u64| {
            bar.set_length(total.max(1));
            bar.set_position(done);
        };
        restore(&options, &mut show).await.map_err(Failure::from)
    })?;
    bar.finish_and_clear();
    let restored_s = began.elapsed().as_secs_f64();
    let checking = RecoveryBar::new();
    let verified = verify(&arguments.data, &mut |progress| checking.show(progress))?;
    checking.clear();
    let is_sound = verified.is_sound() && verified.frames == report.restored.frames;
    if arguments.json {
        let object = json!({
            "sound": is_sound,
            "engine": report.engine,
            "epoch": report.epoch,
            "drill": arguments.drill,
            "last_frame": report.restored.last_frame.0,
            "shipped_at": report.shipped_at,
            "frames": report.restored.frames,
            "records": report.restored.records,
            "bytes": report.restored.bytes,
            "segments": report.restored.segments,
            "from_checkpoint": report.from_checkpoint.map(|frame| frame.0),
            "secrets": report.secrets,
            "problems": verified.problems,
            "seconds": restored_s,
            "verify_seconds": verified.seconds,
        });
        println!("{object}");
    } else {
        let last = report.restored.last_frame;
        let at = report.shipped_at.as_deref().unwrap_or("no time: the copy was empty");
        println!("Restored {} up to frame {last}, shipped at {at}.", arguments.data.display());
        println!(
            "{} frames with {} records in {} segments, {:.1} s; verified in {:.1} s.",
            report.restored.frames,
            report.restored.records,
            report.restored.segments,
            restored_s,
            verified.seconds
        );
        if let Some(frame) = report.from_checkpoint {
            println!(
                "The journal begins with a checkpoint: what lies before frame {frame} was pruned from the copy."
            );
        }
        match (arguments.drill, report.secrets) {
            (true, _) => println!("A drill: the copy stays with its owner (epoch {}).", report.epoch),
            (false, _) => println!(
                "The copy is this directory's now (epoch {}); its old owner is refused.",
                report.epoch
            ),
        }
        if report.secrets == 0 {
            println!(
                "WITHOUT SECRETS: retries find no answers, and cart tokens and receipts given out are void."
            );
        }
        for problem in &verified.problems {
            println!("law {}: {}", problem.law, problem.what);
        }
        println!("{}", if is_sound { "Sound: serve it." } else { "NOT SOUND: do not serve it." });
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(65) })
}
