//! What the schema looks like, object by object, so that a change by hand is told by name.
//!
//! Partitions are left out: the engine makes them while it runs. Whatever somebody adds to the schema `reporting`, and
//! anything in other schemas, is theirs.

use std::fmt;
use std::time::Duration;

use tokio_postgres::Transaction;

use crate::connection::{Connection, within};
use crate::error::PostgresError;

/// Something that is not as the last migration left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is gone.
    Missing(String),
    /// It reads differently.
    Changed(String),
    /// It was put there.
    Added(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(object) => write!(f, "{object} is missing"),
            Self::Changed(object) => write!(f, "{object} was changed"),
            Self::Added(object) => write!(f, "{object} was added"),
        }
    }
}

/// The first few differences in one sentence.
pub fn tell(differences: &[Difference]) -> String {
    const SHOWN: usize = 5;
    let more = differences.len().saturating_sub(SHOWN);
    let mut parts: Vec<String> = differences.iter().take(SHOWN).map(ToString::to_string).collect();
    parts.extend((more > 0).then(|| format!("and {more} more")));
    parts.join("; ")
}

/// Every object of our schemas with its definition, partitions and what belongs to them left out.
const LISTING: &str = r"
    WITH ours AS (
        SELECT c.oid, c.relkind, n.nspname || '.' || c.relname AS name
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('doorbuster', 'reporting') AND NOT c.relispartition
    )
    SELECT 'column ' || o.name || '.' || a.attname,
        format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
            || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') || a.attgenerated::text
    FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = o.oid AND d.adnum = a.attnum
    WHERE o.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'constraint ' || o.name || '.' || k.conname, pg_get_constraintdef(k.oid)
    FROM ours o JOIN pg_constraint k ON k.conrelid = o.oid
    WHERE k.conparentid = 0 AND k.contype <> 'n'
    UNION ALL
    SELECT 'index ' || o.name, pg_get_indexdef(o.oid) || CASE WHEN i.indisvalid THEN '' ELSE ' invalid' END
    FROM ours o JOIN pg_index i ON i.indexrelid = o.oid
    UNION ALL
    SELECT 'trigger ' || o.name || '.' || t.tgname, pg_get_triggerdef(t.oid)
    FROM ours o JOIN pg_trigger t ON t.tgrelid = o.oid AND NOT t.tgisinternal
    UNION ALL
    SELECT 'view ' || o.name, pg_get_viewdef(o.oid) FROM ours o WHERE o.relkind IN ('v', 'm')
    UNION ALL
    SELECT 'function ' || p.oid::regprocedure::text, pg_get_functiondef(p.oid)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('doorbuster', 'reporting') AND p.prokind = 'f'";

/// Names are then printed in full, whatever the role's own path is.
const BARE_PATH: &str = "SET LOCAL search_path = pg_catalog";

/// Remembers the schema as it is now: the last step of a migration.
pub(crate) async fn record(transaction: &Transaction<'_>, patience: Duration) -> Result<(), PostgresError> {
    let statement = format!(
        "{BARE_PATH}; DELETE FROM doorbuster.schema_objects; \
         INSERT INTO doorbuster.schema_objects (object, definition, server_major) \
         SELECT l.object, l.definition, current_setting('server_version_num')::int / 10000 \
         FROM ({LISTING}) AS l (object, definition)"
    );
    within(patience, "recording the schema", transaction.batch_execute(&statement)).await
}

/// What is not as the last migration left it. A server of another major version prints definitions its own way: then only
/// what is missing or added is told.
pub(crate) async fn differences(connection: &mut Connection) -> Result<Vec<Difference>, PostgresError> {
    const WHAT: &str = "comparing the schema";
    let patience = connection.patience();
    let transaction = within(patience, WHAT, connection.client_mut().transaction()).await?;
    within(patience, WHAT, transaction.batch_execute(BARE_PATH)).await?;
    let statement = format!(
        "SELECT coalesce(l.object, s.object), l.object IS NULL, s.object IS NULL \
         FROM ({LISTING}) AS l (object, definition) FULL JOIN doorbuster.schema_objects s USING (object) \
         WHERE l.object IS NULL OR (s.object IS NULL AND split_part(l.object, ' ', 2) NOT LIKE 'reporting.%') \
         OR (s.definition <> l.definition AND s.server_major = current_setting('server_version_num')::int / 10000) \
         ORDER BY 1"
    );
    let rows = within(patience, WHAT, transaction.query(&statement, &[])).await?;
    within(patience, WHAT, transaction.rollback()).await?;
    let differences = rows.into_iter().map(|row| {
        let object = row.get(0);
        match (row.get(1), row.get(2)) {
            (true, _) => Difference::Missing(object),
            (false, true) => Difference::Added(object),
            (false, false) => Difference::Changed(object),
        }
    });
    Ok(differences.collect())
}
