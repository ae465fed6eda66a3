//! The schema `doorbuster`, brought up to date by numbered SQL files that are compiled in.
//!
//! One migrates at a time: an advisory lock of the whole database keeps others waiting. Each file runs in one transaction
//! with the row that records it, checksum included; one that says `-- outside a transaction` in its first line (an index
//! made beside running readers) is recorded as begun before and as finished after. What was applied is never applied again,
//! and never changed: a changed file, a schema of a newer engine, a half-applied file and a schema changed by hand are
//! refused, each with its remedy.
//!
//! Files only ever expand: what an older engine reads or writes goes in a later release than the one that stopped using it.
//! Own code rather than a library's, because the libraries at hand take no lock, look at no schema and know no half-applied
//! file, and what is left of them is a loop. Start at [`migrate`].

use std::time::{Duration, Instant};

use tokio_postgres::types::ToSql;

use crate::connection::{Connection, within};
use crate::error::PostgresError;
use crate::schema::{self, Difference};

/// A numbered file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number: 1, 2, 3, … without a gap.
    pub number: i32,
    /// Its name, for people.
    pub name: &'static str,
    /// What it does.
    pub sql: &'static str,
}

macro_rules! migrations {
    ($($number:literal $name:literal,)*) => {
        /// All migrations, in order: the files of `persistence/postgres/migrations/`.
        pub const MIGRATIONS: &[Migration] = &[$(Migration {
            number: $number,
            name: $name,
            sql: include_str!(concat!("../migrations/", $name, ".sql")),
        }),*];
    };
}

migrations! {
    1 "0001_projection",
    2 "0002_reporting",
    3 "0003_rescue",
    4 "0004_authorized_payments",
    5 "0005_revenue_is_captured",
}

/// First line of a file that cannot run in a transaction.
const OUTSIDE: &str = "-- outside a transaction";

/// Of the advisory lock: "doorbust" as a number. Others of the same database must not use it.
const LOCK_KEY: i64 = 0x646f_6f72_6275_7374;

/// How long another's migration is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// How long one file may run: an index over years of orders takes its time.
const FILE_PATIENCE: Duration = Duration::from_secs(6 * 3_600);

/// Where migrations are recorded, and what the schema looked like after the last one.
const BOOKKEEPING: &str = "
    CREATE SCHEMA IF NOT EXISTS doorbuster;
    CREATE TABLE IF NOT EXISTS doorbuster.migrations (
        number integer PRIMARY KEY CHECK (number > 0),
        name text NOT NULL,
        checksum text NOT NULL,
        begun_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz
    );
    CREATE TABLE IF NOT EXISTS doorbuster.schema_objects (
        object text PRIMARY KEY,
        definition text NOT NULL,
        server_major integer NOT NULL
    );
    COMMENT ON SCHEMA doorbuster IS 'What a Doorbuster engine keeps here. Written by the engine alone.';
    COMMENT ON TABLE doorbuster.migrations IS 'Which migrations were applied.';
    COMMENT ON COLUMN doorbuster.migrations.number IS 'Its number.';
    COMMENT ON COLUMN doorbuster.migrations.name IS 'Its file''s name.';
    COMMENT ON COLUMN doorbuster.migrations.checksum IS 'BLAKE3 of its file, hexadecimal.';
    COMMENT ON COLUMN doorbuster.migrations.begun_at IS 'When it was begun.';
    COMMENT ON COLUMN doorbuster.migrations.finished_at IS 'When it was finished; null: half applied.';
    COMMENT ON TABLE doorbuster.schema_objects IS 'The schema as the last migration left it, to tell what was changed by hand.';
    COMMENT ON COLUMN doorbuster.schema_objects.object IS 'Kind and name.';
    COMMENT ON COLUMN doorbuster.schema_objects.definition IS 'Its definition, as the server prints it.';
    COMMENT ON COLUMN doorbuster.schema_objects.server_major IS 'Major version of the server that printed it.';";

/// Why a schema is not migrated or not used.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A fault on the way.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// Somebody else migrates.
    #[error(
        "another process has been migrating this database for a minute; wait for it, or see pg_locks for who holds the advisory lock"
    )]
    Busy,
    /// A file that was applied reads differently now.
    #[error(
        "migration {name} was changed after it was applied here; restore the file (a change is a new migration), or use the engine that applied it"
    )]
    Changed {
        /// Its name.
        name: String,
    },
    /// A newer engine has been here.
    #[error("the schema is at migration {found}, but this engine knows {known}; start the newer engine")]
    Newer {
        /// The newest applied.
        found: i32,
        /// The newest known here.
        known: i32,
    },
    /// A file was begun and not finished.
    #[error(
        "migration {name} was begun and not finished; see what it left (its file says what it does), undo that, delete its row in doorbuster.migrations, and migrate again"
    )]
    HalfApplied {
        /// Its name.
        name: String,
    },
    /// A row is missing between others.
    #[error(
        "migration {number} is not recorded, but later ones are; doorbuster.migrations was changed by hand: restore its row, or make the schema anew and run rebuild-projection"
    )]
    Missing {
        /// The one that is missing.
        number: i32,
    },
    /// The schema is not what the migrations made.
    #[error("the schema was changed by hand: {}; undo that, then migrate again", schema::tell(.0))]
    ChangedByHand(Vec<Difference>),
    /// It was not migrated, and was not to be.
    #[error("the schema is at migration {applied} of {known}; run `doorbuster migrate`")]
    Pending {
        /// The newest applied; 0: none.
        applied: i32,
        /// The newest known here.
        known: i32,
    },
}

/// What a migration came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Names of the files applied now, in order.
    pub applied: Vec<&'static str>,
    /// The newest number applied by now.
    pub number: i32,
}

/// Applies what is missing. Safe to call at every start, and from several processes at once.
pub async fn migrate(connection: &mut Connection) -> Result<Migrated, MigrationError> {
    migrate_to(connection, MIGRATIONS).await
}

/// As [`migrate`], with these files, in order from 1.
pub async fn migrate_to(
    connection: &mut Connection,
    migrations: &[Migration],
) -> Result<Migrated, MigrationError> {
    lock(connection).await?;
    let migrated = apply_missing(connection, migrations).await;
    let unlocking = connection.client().execute("SELECT pg_advisory_unlock($1)", &[&LOCK_KEY]);
    // Where this fails the session is broken, and the lock is gone with it.
    let _ = connection.within("giving the migration lock back", unlocking).await;
    migrated
}

/// Looks whether the schema is what this engine needs, and changes nothing. What was changed by hand is returned: reading
/// and writing may still work, and who runs the database wants to know.
pub async fn check(connection: &mut Connection) -> Result<Vec<Difference>, MigrationError> {
    check_against(connection, MIGRATIONS).await
}

/// As [`check`], against these files.
pub async fn check_against(
    connection: &mut Connection,
    migrations: &[Migration],
) -> Result<Vec<Difference>, MigrationError> {
    let known = migrations.len().try_into().unwrap_or(i32::MAX);
    if !is_there(connection).await? {
        return Err(MigrationError::Pending { applied: 0, known });
    }
    let applied = recorded(connection, migrations).await?;
    if applied < known {
        return Err(MigrationError::Pending { applied, known });
    }
    Ok(schema::differences(connection).await?)
}

async fn is_there(connection: &Connection) -> Result<bool, PostgresError> {
    let asked = connection.client().query_one("SELECT to_regclass('doorbuster.migrations') IS NOT NULL", &[]);
    Ok(connection.within("looking for the schema", asked).await?.get(0))
}

async fn lock(connection: &Connection) -> Result<(), MigrationError> {
    let began = Instant::now();
    loop {
        let trying = connection.client().query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK_KEY]);
        if connection.within("taking the migration lock", trying).await?.get(0) {
            return Ok(());
        }
        if began.elapsed() > LOCK_PATIENCE {
            return Err(MigrationError::Busy);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn apply_missing(
    connection: &mut Connection,
    migrations: &[Migration],
) -> Result<Migrated, MigrationError> {
    // Not "if not exists": that asks for the right to make schemas even where there is nothing to make.
    if !is_there(connection).await? {
        let making = connection.client().batch_execute(BOOKKEEPING);
        connection.within("making the schema doorbuster", making).await?;
    }
    let before = recorded(connection, migrations).await?;
    let missing = migrations.iter().filter(|migration| migration.number > before);
    let missing: Vec<&Migration> = missing.collect();
    if before > 0 && !missing.is_empty() {
        let differences = schema::differences(connection).await?;
        if !differences.is_empty() {
            return Err(MigrationError::ChangedByHand(differences));
        }
    }
    let mut applied = Vec::new();
    for migration in &missing {
        apply(connection, migration).await?;
        applied.push(migration.name);
        tracing::info!(migration = migration.name, "schema migrated");
    }
    Ok(Migrated { number: migrations.last().map_or(0, |last| last.number), applied })
}

/// The newest migration recorded as applied, after a look at all of the records.
async fn recorded(connection: &Connection, migrations: &[Migration]) -> Result<i32, MigrationError> {
    let asked = connection.client().query(
        "SELECT number, name, checksum, finished_at IS NOT NULL FROM doorbuster.migrations ORDER BY number",
        &[],
    );
    let rows = connection.within("reading which migrations were applied", asked).await?;
    let known = migrations.len().try_into().unwrap_or(i32::MAX);
    let found = rows.last().map_or(0, |row| row.get(0));
    if found > known {
        return Err(MigrationError::Newer { found, known });
    }
    for (expected, row) in (1..).zip(&rows) {
        let (number, name): (i32, String) = (row.get(0), row.get(1));
        if number != expected {
            return Err(MigrationError::Missing { number: expected });
        }
        if !row.get::<_, bool>(3) {
            return Err(MigrationError::HalfApplied { name });
        }
        let same = migrations
            .iter()
            .find(|migration| migration.number == number)
            .is_some_and(|migration| checksum(migration) == row.get::<_, String>(2));
        if !same {
            return Err(MigrationError::Changed { name });
        }
    }
    Ok(found)
}

async fn apply(connection: &mut Connection, migration: &Migration) -> Result<(), MigrationError> {
    const RECORD: &str = "INSERT INTO doorbuster.migrations (number, name, checksum, finished_at) \
                          VALUES ($1, $2, $3, CASE WHEN $4 THEN now() END)";
    const FINISHED: &str = "UPDATE doorbuster.migrations SET finished_at = now() WHERE number = $1";
    let is_outside = migration.sql.starts_with(OUTSIDE);
    let sum = checksum(migration);
    if is_outside {
        let client = connection.client();
        let begun: [&(dyn ToSql + Sync); 4] = [&migration.number, &migration.name, &sum, &false];
        connection.within("recording a migration", client.execute(RECORD, &begun)).await?;
        let unhurried = client.batch_execute("SET statement_timeout = 0");
        connection.within("beginning a migration", unhurried).await?;
        within(FILE_PATIENCE, "migrating", client.batch_execute(migration.sql)).await?;
    }
    let patience = connection.patience();
    let transaction = connection.client_mut().transaction();
    let transaction = within(patience, "beginning a migration", transaction).await?;
    if is_outside {
        let finished: [&(dyn ToSql + Sync); 1] = [&migration.number];
        let finished = transaction.execute(FINISHED, &finished);
        within(patience, "recording a migration", finished).await?;
    } else {
        let unhurried = transaction.batch_execute("SET LOCAL statement_timeout = 0");
        within(patience, "beginning a migration", unhurried).await?;
        within(FILE_PATIENCE, "migrating", transaction.batch_execute(migration.sql)).await?;
        let record: [&(dyn ToSql + Sync); 4] = [&migration.number, &migration.name, &sum, &true];
        within(patience, "recording a migration", transaction.execute(RECORD, &record)).await?;
    }
    schema::record(&transaction, patience).await?;
    within(patience, "ending a migration", transaction.commit()).await?;
    Ok(())
}

fn checksum(migration: &Migration) -> String {
    blake3::hash(migration.sql.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_in_the_list_under_its_number() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let files = std::fs::read_dir(directory).unwrap();
        let mut files: Vec<String> =
            files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
        files.sort();
        let listed: Vec<String> = MIGRATIONS.iter().map(|known| format!("{}.sql", known.name)).collect();
        assert_eq!(files, listed);
        for (number, known) in (1..).zip(MIGRATIONS) {
            assert_eq!(known.number, number);
            assert!(known.name.starts_with(&format!("{number:04}_")), "{}", known.name);
        }
    }
}
