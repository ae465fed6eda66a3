//! `doorbuster migrate`: brings a database's schema up to date, and says what it did.

use std::process::ExitCode;

use doorbuster_postgres::{migrations, schema};
use serde_json::json;

use super::{Failure, database};

/// Bring the schema of a Postgres database up to date.
///
/// Makes the schemas `doorbuster` and `reporting` and applies what is missing, one process at a time. Nothing happens where
/// nothing is missing. Refuses a schema of a newer engine, one that is half migrated, and one changed by hand.
#[derive(Clone, Debug, clap::Args)]
pub struct MigrateArguments {
    /// Where Postgres is: postgres://user:password@host:port/database (also read from `DATABASE_URL`)
    #[arg(long, env = "DOORBUSTER_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
    /// Change nothing: only say whether something is missing or was changed by hand
    #[arg(long)]
    pub check: bool,
    /// Report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &MigrateArguments) -> Result<ExitCode, Failure> {
    let settings = database::needed(arguments.database_url.as_deref())?.named("doorbuster migrate");
    let (applied, number, differences) = database::block_on(async {
        let mut connection = settings.connect().await?;
        let (applied, number) = if arguments.check {
            (Vec::new(), None)
        } else {
            let migrated = migrations::migrate(&mut connection).await?;
            (migrated.applied, Some(migrated.number))
        };
        let differences = migrations::check(&mut connection).await?;
        Ok((applied, number, differences))
    })?;
    let number = number.or(migrations::MIGRATIONS.last().map(|newest| newest.number)).unwrap_or(0);
    if arguments.json {
        let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
        println!("{}", json!({"applied": applied, "migration": number, "changed_by_hand": differences}));
    } else {
        for name in &applied {
            println!("applied {name}");
        }
        println!("{} is at migration {number}.", settings.place());
    }
    if differences.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure {
        message: format!("the schema was changed by hand: {}; undo that", schema::tell(&differences)),
        code: 1,
    })
}
