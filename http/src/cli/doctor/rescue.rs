//! The doctor looks at the rescue copy: whose it is, how far it has come, and whether its secrets could be opened.

use std::path::Path;
use std::time::Duration;

use doorbuster_persistence::directory::{DataDirectory, EngineId};
use doorbuster_persistence::rescue::TOKEN;
use doorbuster_postgres::connection::Connection;
use doorbuster_postgres::migrations::{self, MigrationError};
use doorbuster_postgres::rescue::error::RescueError;
use doorbuster_postgres::rescue::sealing::{RescueKey, Sealed};
use doorbuster_postgres::rescue::tables::{Claimant, Owner, Tables};
use doorbuster_postgres::settings::DatabaseSettings;

use super::{Check, DoctorArguments, Finding};
use crate::cli::serve::DurabilityChoice;
use crate::cli::{Failure, database};

const NAME: &str = "rescue copy";

/// Who a data directory is to the copy.
enum Own {
    /// There is no directory yet.
    Nobody,
    /// It is in use, or cannot be read: that is another check's to say.
    Untold,
    /// This engine; with what proves that the copy is its own, once it has shipped.
    Engine(EngineId, Option<Claimant>),
}

/// What is in the database.
struct Copy {
    owner: Option<Owner>,
    secrets: Option<Sealed>,
}

/// Looks at the copy, where one is asked for.
pub(super) fn look(arguments: &DoctorArguments) -> Result<Vec<Check>, Failure> {
    let replicated = arguments.durability == DurabilityChoice::Replicated;
    if !arguments.rescue.rescue && !replicated {
        return Ok(Vec::new());
    }
    let Some(settings) = database::settings(arguments.database_url.as_deref())? else {
        let remedy = "give --database-url, or leave --rescue out";
        return Ok(vec![Check::new(NAME, Finding::Bad, "no database is named that could hold it", remedy)]);
    };
    let mut checks = Vec::new();
    let key = match arguments.rescue.rescue_key_file.as_deref().map(RescueKey::read).transpose() {
        Ok(key) => key,
        Err(error) => {
            checks.push(Check::new(NAME, Finding::Bad, error.to_string(), "as said"));
            None
        }
    };
    if arguments.rescue.rescue_key_file.is_none() {
        checks.push(Check::new(
            NAME,
            Finding::Warning,
            "secrets will not be in it",
            "give --rescue-key-file, or keep a backup of the directory `secrets`",
        ));
    }
    let place = settings.place();
    let copy = database::block_on(async { Ok(read(settings).await) })?;
    checks.push(match copy {
        Ok(copy) => judge(&place, &copy, &own(&arguments.data), key.as_ref()),
        Err(RescueError::Migration(MigrationError::Pending { applied: 0, .. })) => {
            Check::new(NAME, Finding::Good, format!("{place}: none yet; serve begins one"), "")
        }
        Err(error) => {
            // Answers that wait for the copy are not given without it; others are.
            let finding = if replicated { Finding::Bad } else { Finding::Warning };
            Check::new(NAME, finding, error.to_string(), "as said; until then a lost disk takes everything")
        }
    });
    Ok(checks)
}

async fn read(settings: DatabaseSettings) -> Result<Copy, RescueError> {
    let settings = settings.named("doorbuster doctor").with_patience(5_000, Duration::from_secs(6));
    let mut connection: Connection = settings.connect().await?;
    migrations::check(&mut connection).await?;
    let tables = Tables::open(connection).await?;
    Ok(Copy { owner: tables.owner().await?, secrets: tables.secrets().await? })
}

/// Who this data directory is to the copy. Makes nothing.
fn own(data: &Path) -> Own {
    if !data.join("FORMAT").exists() {
        return Own::Nobody;
    }
    let Ok(directory) = DataDirectory::open(data) else { return Own::Untold };
    let engine = directory.engine();
    let is_there = data.join("secrets").join(TOKEN).exists();
    let token = is_there.then(|| directory.secret(TOKEN).ok()).flatten();
    Own::Engine(engine, token.map(|token| Claimant::new(engine, &token)))
}

/// What the copy comes to, seen from this directory.
fn judge(place: &str, copy: &Copy, own: &Own, key: Option<&RescueKey>) -> Check {
    let Some(owner) = &copy.owner else {
        return Check::new(NAME, Finding::Good, format!("{place}: none yet; serve begins one"), "");
    };
    let shipped = owner.shipped_at.as_deref().unwrap_or("never");
    let seen = format!("{place}: up to frame {}, last shipped {shipped}", owner.last_frame.0);
    let warning =
        |what: &str, remedy: &str| Check::new(NAME, Finding::Warning, format!("{seen}; {what}"), remedy);
    let (engine, token) = match own {
        Own::Engine(engine, token) => (engine, token),
        Own::Nobody => {
            return warning(
                "it is of another directory",
                "if this machine is to take over, `doorbuster restore` brings the directory; else give this engine a database of \
                 its own",
            );
        }
        Own::Untold => {
            return warning(
                "whose it is cannot be told while the data directory is in use",
                "of a running engine, doorbuster_rescue_lag_seconds tells how the copy stands",
            );
        }
    };
    if engine.to_string() != owner.engine {
        let error = RescueError::OtherEngine { found: owner.engine.clone(), own: engine.to_string() };
        return Check::new(NAME, Finding::Bad, error.to_string(), "as said");
    }
    if token.as_ref().is_none_or(|claimant| claimant.token_digest != owner.token_digest) {
        let error = RescueError::Fenced { epoch: owner.epoch };
        return Check::new(NAME, Finding::Bad, error.to_string(), "as said");
    }
    match (key, &copy.secrets) {
        (Some(key), Some(sealed)) if key.open(*engine, sealed).is_err() => warning(
            "the key does not open the secrets in it",
            "keep the key that does until serve has shipped them anew under this one",
        ),
        (Some(_) | None, Some(_) | None) => {
            Check::new(NAME, Finding::Good, format!("{seen}, this directory's"), "")
        }
    }
}

#[cfg(test)]
mod tests {
    use doorbuster_persistence::frame::FrameNumber;

    use super::*;

    const ENGINE: EngineId = EngineId([7; 16]);

    fn copy_of(engine: EngineId, token: &[u8; 32]) -> Copy {
        let owner = Owner {
            engine: engine.to_string(),
            epoch: 3,
            token_digest: Claimant::new(engine, token).token_digest,
            last_frame: FrameNumber(42),
            last_checksum: 0,
            shipped_at: None,
        };
        Copy { owner: Some(owner), secrets: None }
    }

    #[test]
    fn a_copy_is_judged_by_whose_it_is() {
        let own =
            |token: Option<&[u8; 32]>| Own::Engine(ENGINE, token.map(|token| Claimant::new(ENGINE, token)));
        let (mine, other) = ([1; 32], [2; 32]);
        for (label, copy, own, finding, word) in [
            ("none", Copy { owner: None, secrets: None }, own(None), Finding::Good, "none yet"),
            ("ours", copy_of(ENGINE, &mine), own(Some(&mine)), Finding::Good, "frame 42"),
            ("restored elsewhere", copy_of(ENGINE, &other), own(Some(&mine)), Finding::Bad, "epoch 3"),
            ("never shipped from here", copy_of(ENGINE, &mine), own(None), Finding::Bad, "epoch 3"),
            (
                "another engine's",
                copy_of(EngineId([8; 16]), &mine),
                own(Some(&mine)),
                Finding::Bad,
                "database of its own",
            ),
            ("no directory yet", copy_of(ENGINE, &mine), Own::Nobody, Finding::Warning, "another directory"),
            ("in use", copy_of(ENGINE, &mine), Own::Untold, Finding::Warning, "in use"),
        ] {
            let check = judge("here", &copy, &own, None);
            assert_eq!(check.finding, finding, "{label}: {check:?}");
            assert!(check.seen.contains(word), "{label}: {check:?}");
        }
    }

    #[test]
    fn a_key_that_opens_nothing_is_told() {
        let key = |text: &str| RescueKey::of(text.as_bytes()).unwrap();
        let sealed = key("the key of last year").seal(ENGINE, &vec![("a".to_owned(), vec![1])]).unwrap();
        let copy = Copy { secrets: Some(sealed), ..copy_of(ENGINE, &[1; 32]) };
        let own = Own::Engine(ENGINE, Some(Claimant::new(ENGINE, &[1; 32])));
        let of = |text: &str| judge("here", &copy, &own, Some(&key(text))).finding;
        assert_eq!(of("the key of last year"), Finding::Good);
        assert_eq!(of("the key of this year"), Finding::Warning);
    }
}
